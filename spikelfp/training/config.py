"""All options of a training run: nested dataclasses, from which command line, ``config.yaml`` and help are made.

Each option stands with its owner (:mod:`spikelfp.options`): those of the run itself in
:mod:`spikelfp.training.sections`, those of a model, method, rule, reward, loss, optimiser, schedule or data set in its
own constructor. Python, the command line and files may name all of them flat, ``RunConfig(rule="gamma", gamma=0.5)``; a
configuration is read by section, ``config.method.rule.name``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from spikelfp import methods, rules
from spikelfp.configuration import Place, Schema, by_name
from spikelfp.data.dataset import datasets
from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.load import PATHS, is_event_data
from spikelfp.errors import UserError
from spikelfp.files import yaml_text
from spikelfp.functional.lif import PAPER_FLOOR, PAPER_MARGIN, LIFParameters
from spikelfp.methods import Method
from spikelfp.methods.feedback import OF_LOSS
from spikelfp.models import ModelSpec, build, decay_starts, is_spiking
from spikelfp.options import Choice, View, section
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.registry import parameters_of
from spikelfp.rewards import rewards
from spikelfp.tasks import Classification, Task, tasks
from spikelfp.training.conditions import (
    CLASSES,
    FED_BY_LFP,
    FEW_BITS,
    FLOAT,
    NEURONS,
    OWN_MOMENTUM,
    REWARDED,
    VALUES,
    credit_of,
    descends,
    either,
    output_of,
    smooths,
    taking,
    warm_up_of,
    with_rates,
)
from spikelfp.training.event_defaults import EVENT_LR, LINE_DECAYS, by_camera, event_model, event_values
from spikelfp.training.memory import check_build_memory
from spikelfp.training.optim import MakeOptimizer, MakeSchedule, optimizers, schedules
from spikelfp.training.sections import (
    AUTO_STEPS,
    DataOptions,
    EventOptions,
    MethodOptions,
    ModelOptions,
    NeuronOptions,
    PlaceOptions,
    TaskOptions,
    TrainingOptions,
)
from spikelfp.untrusted import read_yaml

DEFAULT_LR_SGD = {"sgd": 0.05, "momentum": 0.5}
"""Learning rates of optimisers that do not adapt them."""


def _event_defaults(stated: Mapping[Place, Any], chosen: Collection[Place] = ()) -> dict[Place, Any]:
    """Find the defaults of event data for what is not stated, of options that do anything with what is."""
    data = stated.get(("data",), "digits")
    if not is_event_data(data):
        return {}
    found = event_model(not by_camera(data)) if _model_is_open(stated, chosen) else {}
    view = OPTIONS.view({**found, **stated})
    if not by_camera(data) and view.model == "lif-rnn" and _decays_are_open(stated, chosen):
        found |= LINE_DECAYS
        view = OPTIONS.view({**found, **stated})
    for path, value in event_values(data).items():
        owner = OPTIONS.slots()[path].option.owner
        if path not in stated and (owner is None or owner.holds(view)):
            found[path] = value
    return found


def _decays_are_open(stated: Mapping[Place, Any], chosen: Collection[Place] = ()) -> bool:
    """Whether no decay of neurons is stated."""
    return not {("neuron", "beta"), *LINE_DECAYS} & {*stated, *chosen}


def _model_is_open(stated: Mapping[Place, Any], chosen: Collection[Place] = ()) -> bool:
    """Whether neither a network nor an option of one is stated, nor a method that wants a network of its own."""
    own = {field.name for field in fields(ModelOptions)}
    slots = OPTIONS.slots()
    named = any(
        path == ("model",)
        or (path[0] == "model" and path[1] not in own and (path in chosen or value != slots[path].option.default))
        for path, value in stated.items()
    )
    return not named and stated.get(("method",), "lfp") in ("lfp", "surrogate")


@dataclass(frozen=True, init=False)
class RunConfig:
    """All options of a run; ``None``: chosen by :meth:`resolved`.

    It is made of options by their flat names, ``RunConfig(data="mnist", rule="gamma", gamma=0.5)``, and of sections.

    Raises:
        UserError: for a value of the wrong type, out of range or of an unknown name, and for an option that is not at
            its default and belongs to something that was not chosen.
        KeywordError: for an unknown option, with the nearest one.
    """

    data: DataOptions = section(DataOptions, "data")
    events: EventOptions = section(EventOptions, "events")
    task: TaskOptions = section(TaskOptions, "task")
    model: ModelOptions = section(ModelOptions, "model")
    neuron: NeuronOptions = section(NeuronOptions, "neuron")
    method: MethodOptions = section(MethodOptions, "method and rule")
    training: TrainingOptions = section(TrainingOptions, "training")
    run: PlaceOptions = section(PlaceOptions, "run")

    model_is_open: ClassVar[bool] = False
    """Whether the network was chosen by the name of the data alone, so that :meth:`fitted` may choose another."""
    decays_are_open: ClassVar[bool] = False
    """Whether no decay of its neurons was chosen, so that :meth:`fitted` may choose them for its sensor."""

    def __init__(self, **given: Any) -> None:
        whole = {name for name, kind in OPTIONS.sections.items() if isinstance(given.get(name), kind)}
        lost = [name for name in OPTIONS.sections if whole and name in given and name not in whole]
        if lost:
            raise UserError(f"replace() would lose the other options of {lost[0]}: use config.changed({lost[0]}=…)")
        self._settle(OPTIONS.stated(given, "RunConfig"))

    def _settle(self, stated: Mapping[Place, Any], chosen: Collection[Place] = (), recorded: bool = False) -> None:
        open_model = not recorded and _model_is_open(stated, chosen)
        object.__setattr__(self, "model_is_open", open_model)
        object.__setattr__(self, "decays_are_open", not recorded and _decays_are_open(stated, chosen))
        if not recorded:
            stated = {**_event_defaults(stated, chosen), **stated}
        if ("task",) not in stated:
            given = {place[1]: value for place, value in stated.items() if place[0] == "data" and len(place) == 2}
            stated = {**stated, ("task",): task_of(stated.get(("data",), "digits"), given)}
        for name, own in OPTIONS.made(OPTIONS.settled(stated, chosen)).items():
            object.__setattr__(self, name, own)
        if self.method.credit in OF_LOSS and credit_of(self.flat) is None:
            raise UserError(
                f"--method {self.method.name} sends rewards back, and --credit {self.method.credit} derivatives: "
                "choose --credit scan or step, or --method surrogate or gradient"
            )
        if self.method.credit == "online" and self.method.name not in taking("credit"):
            raise UserError(
                f"--method {self.method.name} sends rewards back through layers and steps, and --credit online goes "
                f"forward in time: choose --method {either(taking('credit'))}, or --credit step"
            )
        self._check_inputs_recur()
        own = self.neuron
        LIFParameters(own.beta, own.threshold, own.reset, own.denominator, own.floor, own.margin)  # type: ignore[arg-type]
        own.beta_start.maker(decay_starts)(own.beta, (0,))  # refuses what does not go together
        if self.method.warm_up == "gradient" and is_spiking(self.model.name):
            raise UserError(f"{self.model.name} has no gradient to warm up by, a spike's is 0: use --warm-up surrogate")

    def _check_inputs_recur(self) -> None:
        """Refuse errors kept by a hash of inputs that chance draws anew in every epoch."""
        drawn = [
            text
            for own, text in (
                (self.data.encoding == "rate", "--encoding rate"),
                (self.data.augment, "--augment"),
                (bool(self.events.augmentations), "--augmentations"),
            )
            if own
        ]
        if drawn and self.method.options.get("error_memory") == "hash":
            raise UserError(
                f"--error-memory hash finds the error of a sample by its inputs, and {drawn[0]} draws them anew in "
                "every epoch, so that no error would be found again: choose --error-memory sample or class"
            )

    def __getattr__(self, name: str) -> Any:
        """Return an option by its flat name; the default of one that is not used."""
        if name.startswith("_") or "run" not in self.__dict__:
            raise AttributeError(name)
        try:
            return getattr(OPTIONS.view(OPTIONS.values(self)), name)
        except AttributeError:
            raise AttributeError(f"a run has no option {name!r}") from None

    @property
    def flat(self) -> View:
        """Options by their flat names, also those with the name of a section: ``config.flat.model``."""
        return OPTIONS.view(OPTIONS.values(self))

    def changed(self, **options: Any) -> RunConfig:
        """Copy it with other values of ``options``, by their flat names.

        Options that belong to a new choice start from its defaults.
        """
        stated = OPTIONS.stated(options, "RunConfig")
        return _made(OPTIONS.over(OPTIONS.values(self), stated))

    def placed(self, values: Mapping[Place, Any]) -> RunConfig:
        """Copy it with other values at their places; an option of a plug-in may have the flat name of another."""
        made = _made(OPTIONS.over(OPTIONS.values(self), values))
        object.__setattr__(made, "model_is_open", self.model_is_open and ("model",) not in values)
        object.__setattr__(made, "decays_are_open", self.decays_are_open and _decays_are_open(values))
        return made

    def fitted(self, is_line: bool, sides: tuple[int, ...]) -> RunConfig:
        """Copy it with the network for the sensor of its recordings, and with its decays, where none was chosen.

        Args:
            is_line: whether they come from a line of channels.
            sides: pixels of the sides of a camera, as the network gets them.
        """
        values = OPTIONS.values(self)
        if self.model_is_open:
            own = {field.name for field in fields(ModelOptions)}
            values = {path: value for path, value in values.items() if path[0] != "model" or path[-1] in own}
            values |= event_model(is_line, sides)
        many_scales = self.decays_are_open and is_line and values["model",] == "lif-rnn"
        if many_scales:
            values = {path: value for path, value in values.items() if path != ("neuron", "beta")} | LINE_DECAYS
        return _made(values) if self.model_is_open or many_scales else self

    def elsewhere(self, data_dir: str | None, cache_dir: str | None) -> RunConfig:
        """Copy it with other folders of data and of binned recordings."""
        return self.placed({("run", "data_dir"): data_dir, ("events", "cache_dir"): cache_dir})

    def resolved(self, samples: int, levels: int | None = None) -> RunConfig:
        """Copy it with every ``None`` that the run needs replaced.

        Args:
            samples: number of training samples.
            levels: levels of their values, where they are known (:attr:`~spikelfp.data.ArrayDataset.levels`).

        Raises:
            UserError: for a warm-up as long as the run, and chunks or read-outs as long as its sequences.
        """
        data, model, method, training = self.data, self.model, self.method, self.training
        spiking = is_spiking(model.name)
        batches = -(-samples // training.batch_size)
        credit = credit_of(self.flat)
        rewarded = credit is not None and credit not in OF_LOSS
        adaptive = Method.default_lr if rewarded else methods.methods.fact(method.name, "default_lr")
        if not descends(self.flat) and is_event_data(data.name):
            adaptive = EVENT_LR
        by_method = DEFAULT_LR_SGD.get(training.optimizer.name) or adaptive
        by_data = None if model.weight_bits == FLOAT else 1 if data.encoding != "constant" else levels
        spikes = "count-softmax" if is_event_data(data.name) else "spike-sequence"
        by_outputs = spikes if self.output_spikes else "softmax"
        by_task = by_outputs if self.is_classification else None
        by_name = None if is_event_data(data.name) else 25 if spiking else 1
        resolved = self.placed(
            {
                ("model", "input_levels"): model.input_levels or by_data,
                ("method", "warm_up"): warm_up_of(self.flat),
                ("method", "credit"): method.credit if credit is None else credit,
                ("method", "reward"): method.reward.name or by_task if REWARDED.holds(self.flat) else None,
                ("data", "steps"): data.steps or by_name,
                ("training", "epochs"): training.epochs or min(max(3, -(-AUTO_STEPS // batches)), 60),
                ("training", "lr"): by_method if training.lr is None else training.lr,
            }
        )
        resolved._check_lengths(batches * (resolved.training.epochs or 1))
        return resolved

    def _check_lengths(self, updates: int) -> None:
        """Refuse parts that are as long as the whole, or longer."""
        if self.method.warm_up_steps >= updates:
            raise UserError(
                f"--warm-up-steps {self.method.warm_up_steps} leaves no update to --method {self.method.name}: this "
                f"run has {updates} of them"
            )
        chosen, epochs = self.training.choose_delays, self.training.epochs
        if chosen and epochs and chosen > epochs:
            raise UserError(
                f"--choose-delays {chosen} would do nothing: this run has {epochs} epochs; choose fewer, so that the "
                "delays that are kept train on"
            )
        steps = self.data.steps
        if steps is None or is_event_data(self.data.name):
            return
        for name, value in (("chunk", self.training.chunk), ("readout-steps", self.training.readout_steps)):
            if value and value >= steps:
                raise UserError(
                    f"--{name} {value} would do nothing: sequences have {steps} steps; choose fewer, or leave it "
                    "out for all of them"
                )

    def spec(self, shape: tuple[int, ...], classes: int) -> ModelSpec:
        """Describe the network of this run for samples of ``shape`` and so many classes or other outputs."""
        neuron = dict(vars(self.neuron)) if NEURONS.holds(self.flat) else {}
        start: Choice | None = neuron.pop("beta_start", None)
        phi, rho = neuron.pop("adapt", 0.0), neuron.pop("adapt_decay", None)
        adapt = {"phi": phi, "rho": rho} if phi else {}
        decays = {} if start is None else {"name": start.name, **start.arguments(decay_starts)}
        options = {**self.model.options, **({"output": self.output} if "output" in self.model.options else {})}
        return ModelSpec(self.model.name, shape, classes, options, neuron, decays, adapt)

    @property
    def is_classification(self) -> bool:
        """Whether each sample has one class."""
        return tasks[self.task.name].has_classes

    @property
    def output(self) -> str | None:
        """Kind of last layer, where the model has a choice: as chosen, else as the task or method needs it."""
        return output_of(self.flat)

    @property
    def output_spikes(self) -> bool:
        """Whether the outputs of the network are spikes."""
        return is_spiking(self.model.name) and ("output" not in self.model.options or self.output != "li")

    def make_task(self) -> Task:
        """Make the task with its options; for classes with the loss of the method."""
        task = self.task.maker(tasks)()
        return Classification(self.method.loss.name) if type(task) is Classification and self.method.loss.name else task

    def quantization(self) -> Quantization | None:
        """Return how the weights are quantised while they train; ``None`` for floats."""
        own = self.model
        if own.weight_bits == FLOAT:
            return None
        known = {} if own.input_levels is None else {"input_levels": own.input_levels}
        return Quantization(own.weight_bits, own.weight_update, own.weight_clip, **known)

    def in_floats(self) -> RunConfig:
        """Copy it without quantised weights."""
        few = [slot for slot in OPTIONS.slots().values() if slot.option.owner is FEW_BITS]
        return self.placed({("model", "weight_bits"): FLOAT, **{each.path: each.option.default for each in few}})

    def build(
        self,
        shape: tuple[int, ...],
        classes: int,
        begin: Callable[[torch.nn.Module], object] = lambda net: None,
    ) -> torch.nn.Module:
        """Make a new network of this run, its weights on grids if they are quantised.

        Args:
            shape: shape of a sample.
            classes: classes or other outputs.
            begin: called with the network before its weights are put on grids, to give it others.

        Raises:
            UserError: for one that does not fit into memory.
        """
        spec = self.spec(shape, classes)
        check_build_memory(spec)
        net = build(spec)
        begin(net)
        quantization = self.quantization()
        if quantization is not None:
            WeightGrids(net, quantization, self.run.seed)
        return net

    def make_method(self) -> Method:
        """Make the method with its rule and reward, and its warm-up before it."""
        own = self.method
        if own.warm_up is None:
            return self._method(own.name)
        return methods.WarmUp(self._method(own.warm_up), self._method(own.name), own.warm_up_steps)

    def _method(self, name: str) -> Method:
        """Make a method by name, with the options that its constructor takes."""
        own, kind = self.method, methods.methods[name]
        known = OPTIONS.brought_by(("method",), name)
        options = {each.parameter: own.options[each.name] for each in known.values() if each.name in own.options}
        taken = parameters_of(kind)
        credit = credit_of(self.flat) if name == self.method.name else None
        if "rule" in taken and (methods.methods.fact(name, "surrogate") or credit == "surrogate"):
            options["rule"] = rules.Surrogate(own.surrogate, own.slope)
        task = self.make_task()
        if "credit" in taken:  # of other methods the rule has it
            options["credit"] = credit or ("online" if own.credit == "online" and name == own.name else None)
        if credit in OF_LOSS:
            return kind(**options)  # its loss is that of the task
        if "loss" in taken and "credit" not in taken:
            loss: Any = own.loss.maker(methods.losses) if isinstance(task, Classification) else task.loss
            loss = loss.func if isinstance(loss, functools.partial) and not loss.keywords else loss
            smoothed = own.label_smoothing and smooths(methods.losses, own.loss.name)
            options["loss"] = functools.partial(loss, label_smoothing=own.label_smoothing) if smoothed else loss
        if own.rate_target is not None and name in with_rates():
            options["rate"] = methods.RateTarget(own.rate_target, own.rate_weight, own.rate_of)
        if "reward" in taken:
            chosen = own.reward.name is not None
            smooth = {"label_smoothing": own.label_smoothing} if own.label_smoothing else {}
            reward: Any = own.reward.maker(rewards)(**smooth) if chosen else task.reward(self.output_spikes)
            options["reward"] = type(reward)(**smooth) if smooth and not chosen else reward
        if "rule" in taken and methods.methods.fact(name, "objective") == "reward":
            options["rule"] = rules.make_rule(
                own.rule.name,
                credit="step" if own.credit == "step" or credit == "online" else "scan",
                normalize=own.normalize_by if own.normalize_reward else False,
                constant_statistics=own.statistics == "constant",
                **own.rule.arguments(rules.rules),
            )
        return kind(**options)

    def make_optimizer(self) -> MakeOptimizer:
        """Return the optimiser, as a function of the parameters and the learning rate."""
        return self.training.optimizer.maker(optimizers)

    def make_schedule(self) -> MakeSchedule:
        """Return the schedule, as a function of the optimiser and the number of steps."""
        return functools.partial(self.training.schedule.maker(schedules))  # whose text checkpoints hold

    def to_yaml(self) -> str:
        """Write the options that the run uses by section, as in ``config.yaml``."""
        return yaml_text(OPTIONS.nested(self))


OPTIONS = Schema(
    RunConfig,
    {"noise": VALUES, "momentum": OWN_MOMENTUM, "feedback_as": FED_BY_LFP, "one_hot": CLASSES, "softmax": CLASSES},
)
"""All options of a run."""


def _made(stated: Mapping[Place, Any], chosen: Collection[Place] = (), recorded: bool = False) -> RunConfig:
    config = object.__new__(RunConfig)
    config._settle(stated, chosen, recorded)
    return config


_UNSTATED: dict[Place, Any] = {("neuron", "floor"): PAPER_FLOOR, ("neuron", "margin"): PAPER_MARGIN}
"""Values of options that records of runs lack which are older than the options."""


def from_mapping(
    values: Mapping[str, Any],
    source: str,
    first: Mapping[str, Any] | None = None,
    *,
    given: Collection[str] = (),
    recorded: bool = False,
) -> RunConfig:
    """Read a configuration from plain values, such as a YAML file's.

    Args:
        values: values by the names of options, with ``-`` or ``_``, or by sections.
        source: their origin, named in errors.
        first: values that come before the others, such as those of the command line.
        given: names of those of ``values`` that were chosen, too: they are refused if they would do nothing, even at
            their default.
        recorded: whether the other values are a run's record: those that did nothing in it are left out.

    Raises:
        UserError: for unknown options, values they do not take, and options that would do nothing.
    """
    clean = by_name(values, source)
    names = {name.replace("-", "_") for name in given}
    now = OPTIONS.stated(first or {}, source)
    chosen = {*now, *OPTIONS.stated({key: value for key, value in clean.items() if key in names}, source)}
    before = OPTIONS.stated(clean, source)
    if recorded and ("neuron", "denominator") in before:
        before = {**_UNSTATED, **before}
    stated = OPTIONS.over(before, now)
    return _made(OPTIONS.without_unused(stated, chosen) if recorded else stated, chosen, recorded)


def task_of(data: str, options: Mapping[str, Any]) -> str:
    """Find the task that a data set is for, as it was registered: by name, or a function of its path and options.

    Args:
        data: name of the data set.
        options: options that were chosen for it.
    """
    kind, _, path = data.partition(":")
    name = data if data in datasets else kind
    told = datasets.fact(name, "task") if name in datasets else None
    return (told(path, **options) if callable(told) else told) or Classification.name


def is_record(values: Mapping[str, Any]) -> bool:
    """Whether the values of a YAML file are a run's ``config.yaml``, which lists all options, chosen or not."""
    return "shape" in values and ("classes" in values or "outputs" in values)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read the plain values of a YAML file, or raise an error that names it."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(
            f"{path} should hold 'option: value' lines, found "
            + ("nothing" if values is None else type(values).__name__)
        )
    return values


def settled(config: RunConfig) -> RunConfig:
    """Make the folders of ``config`` absolute, so that the run finds its data and its cache from any working folder.

    Recordings named by a path from the working folder, such as ``folder:recordings``, keep that name, and the working
    folder becomes the data folder, unless they lie in the data folder that was named. So both can be moved together,
    and the recordings found again by naming the folder that they lie in then.
    """
    kind, _, text = config.data.name.partition(":")
    data_dir = config.run.data_dir
    if kind in PATHS and text and not Path(text).expanduser().is_absolute() and os.path.exists(text):
        there = data_dir is not None and os.path.exists(data_folder(data_dir) / text)
        data_dir = data_dir if there else os.getcwd()
    return config.elsewhere(_absolute(data_dir), _absolute(config.events.cache_dir))


def _absolute(folder: str | None) -> str | None:
    return None if folder is None else os.path.abspath(os.path.expanduser(folder))
