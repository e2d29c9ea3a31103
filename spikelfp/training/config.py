"""All options of a training run: nested dataclasses, from which command line, ``config.yaml`` and help are made.

Each option stands with its owner (:mod:`spikelfp.options`): those of the run itself in the sections below, those of a
model, method, rule, reward, loss, optimiser, schedule or data set in its own constructor. Python, the command line and
files may name all of them flat, ``RunConfig(rule="gamma", gamma=0.5)``; a configuration is read by section,
``config.method.rule.name``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch

from spikelfp import methods, rules
from spikelfp.configuration import Place, Schema, by_name
from spikelfp.data import encodings
from spikelfp.data.dataset import datasets
from spikelfp.data.download import data_dir as data_folder
from spikelfp.data.events.event import FileLayout, Sensor
from spikelfp.data.events.sources.tree import SPLITS
from spikelfp.data.load import PATHS, check_data_name, data_names, is_event_data
from spikelfp.data.loader import MOST_WORKERS
from spikelfp.errors import UserError
from spikelfp.files import yaml_text
from spikelfp.functional.lif import FLOOR, MARGIN, PAPER_FLOOR, PAPER_MARGIN, Denominator, LIFParameters, Reset
from spikelfp.methods import Method
from spikelfp.methods.feedback import CREDITS, OF_LOSS
from spikelfp.methods.spike_rate import OVER
from spikelfp.models import (
    ModelSpec,
    activations,
    build,
    decay_starts,
    is_spiking,
    models,
    normalizes,
    takes_neuron,
)
from spikelfp.nn import graph
from spikelfp.options import Choice, Condition, View, choice, one_of, other_than, section, setting
from spikelfp.quantized import CLIPS, UPDATES, Quantization, WeightGrids
from spikelfp.registry import Registry, parameters_of
from spikelfp.rewards import rewards
from spikelfp.tasks import Classification, Task, tasks
from spikelfp.training.event_defaults import EVENT_LR, LINE_DECAYS, by_camera, event_model, event_values
from spikelfp.training.memory import check_build_memory
from spikelfp.training.optim import MakeOptimizer, MakeSchedule, optimizers, schedules
from spikelfp.untrusted import read_yaml

FLOAT = 32
"""Bits that stand for weights that are not quantised."""

AUTO_STEPS = 1000
"""Updates that an automatic number of epochs reaches at least, within 3 to 60 epochs."""

NORMALIZE = ("sample", "step")
"""Ranges over which the largest magnitude of a reward is taken."""

DRAWN_BETWEEN = ("uniform", "log-uniform")
"""Starts of decays that do not depend on --beta."""

DEFAULT_LR_SGD = {"sgd": 0.05, "momentum": 0.5}


def _fires(view: View) -> bool:
    """Whether the network has neurons or activations that spike."""
    if is_spiking(view.model):
        return True
    own = OPTIONS.brought_by(("model",), view.model).get("activation")
    if own is None:
        return False
    chosen = own.default if view.activation is None else view.activation  # models differ in their defaults
    return graph.has_trait(activations[chosen](), "fires")


def _warm_up(view: View) -> str | None:
    """Return the method of the first updates, or ``None``."""
    if not view.warm_up_steps:
        return None
    return view.warm_up or ("surrogate" if is_spiking(view.model) else "gradient")


def _delays(view: View) -> tuple[int, ...]:
    """Return the delays of a connection, ``(0,)`` for models without the option."""
    return view.delays if "delays" in OPTIONS.brought_by(("model",), view.model) else (0,)


def _output(view: View) -> str | None:
    """Return the kind of last layer, of models that have a choice: the chosen one, or that of the task or method."""
    chosen: str | None = view.output if "output" in OPTIONS.brought_by(("model",), view.model) else None
    integrators = not tasks[view.task].has_classes or methods.methods.fact(view.method, "by_integrators")
    return chosen or ("li" if integrators else None)


def _has_steps(view: View) -> bool:
    """Whether the network sees sequences whose steps differ, or keeps a state from one to the next."""
    shown = view.encoding != "constant" and (view.steps or 1) > 1
    return is_event_data(view.data) or is_spiking(view.model) or shown


def _warms_up_otherwise(view: View) -> bool:
    """Whether a warm-up would train by another method than the rest of the run."""
    first = view.warm_up or ("surrogate" if is_spiking(view.model) else "gradient")
    return first != view.method and (_fires(view) or not {first, view.method} <= set(WARM_UPS))


def _taking(argument: str, objective: str | None = None) -> list[str]:
    """List the methods whose constructor takes an argument."""
    return [
        name for name in methods.methods
        if argument in parameters_of(methods.methods[name])
        and methods.methods.fact(name, "objective") == (objective or methods.methods.fact(name, "objective"))
    ]  # fmt: skip


def _in_blocks() -> list[str]:
    """List the methods that teach each block of a network by itself, in a way that may be chosen."""
    return [name for name in _taking("credit") if not issubclass(methods.methods[name], methods.LFP)]


def _with_rates() -> list[str]:
    """List the methods that take a target for the spike rates of hidden neurons, and train neurons that spike."""
    return [name for name in _taking("rate") if name not in WARM_UPS or methods.methods.fact(name, "surrogate")]


def _smooths(registry: Registry[Any], name: str | None) -> bool:
    """Whether a reward or a loss of classes has a target that can be smoothed."""
    return name is not None and name in registry and "label_smoothing" in parameters_of(registry[name])


def _with_targets(argument: str) -> list[str]:
    """List the methods that take a reward or a loss of classes, and send no errors of their own to hidden layers."""
    return [
        name for name in _taking(argument)
        if name not in _in_blocks() and not issubclass(methods.methods[name], methods.PEPITA)
    ]  # fmt: skip


def _is_smoothed(view: View) -> bool:
    """Whether the reward or the loss of a run has a target that can be smoothed."""
    if view.method in _with_targets("loss"):
        return _smooths(methods.losses, view.loss)
    return view.method in _with_targets("reward") and (view.reward is None or _smooths(rewards, view.reward))


def credit_of(view: View) -> str | None:
    """Return the way in which credit runs inside a block, of methods that teach blocks; ``None`` for others."""
    if view.method not in _in_blocks():
        return None
    return view.credit or ("scan" if _fires(view) else "gradient")


def _descends(view: View) -> bool:
    """Whether the outputs descend a loss, in place of ascending a reward."""
    credit = credit_of(view)
    return methods.methods.fact(view.method, "objective") == "loss" if credit is None else credit in OF_LOSS


def _by(descends: bool, argument: str, what: str) -> Condition:
    """Make the owner of options of methods that take an argument and descend a loss, or ascend a reward.

    Args:
        descends: whether outputs descend a loss.
        argument: of the constructors of the methods.
        what: the options in a word, such as ``rewards``.
    """
    objective = "loss" if descends else "reward"
    credits = [name for name in CREDITS if (name in OF_LOSS) is descends]

    def label() -> str:
        fixed = [name for name in _taking(argument, objective) if name not in _in_blocks()]
        return f"{what} (--method {_either(fixed)}, or --credit {_either(credits)})"

    return Condition(
        label, lambda view: _descends(view) is descends and view.method in _taking(argument), ("method", "credit")
    )


def _either(names: Collection[str]) -> str:
    *most, last = names or ["(none)"]
    return f"{', '.join(most)}{' or ' if most else ''}{last}"


WARM_UPS = methods.methods.where(gradient=True)
"""Methods that may come before another one."""
REWARDED = _by(False, "reward", "rewards")
RULED = _by(False, "rule", "rules of LFP")
CREDITED = one_of("method", lambda: sorted({*_taking("credit"), *_taking("rule", "reward")}))
FED_BY_LFP = Condition(
    "--credit scan, step or online (without --credit: of networks that spike)",
    lambda c: not _descends(c),
    ("credit", "model"),
)
CLASSES = one_of("task", lambda: [name for name in tasks if tasks[name].has_classes], tasks)
LOSS = CLASSES & (_by(True, "loss", "losses") | other_than("warm_up_steps", 0))
EVENTS = Condition("event data (--data nmnist, folder:PATH, …)", lambda c: is_event_data(c.data), ("data",))
OWN_FILES = Condition(
    "recordings of one's own (--data folder:PATH)", lambda c: c.data.partition(":")[0] == "folder", ("data",)
)
OWN_SENSOR = Condition(
    "recordings of one's own (--data folder:PATH, hdf5:PATH)",
    lambda c: c.data.partition(":")[0] in ("folder", "hdf5"),
    ("data",),
)
STATIC = Condition("static samples", lambda c: not is_event_data(c.data), ("data",))
IMAGES = Condition("images (--augmentations is that of events)", lambda c: not is_event_data(c.data), ("data",))
VALUES = one_of("encoding", lambda: [name for name in encodings if name not in ("rate", "latency")])
NEURONS = Condition(
    "models of spiking neurons (--model lif-…)",
    lambda c: is_spiking(c.model) and takes_neuron(c.model),
    ("model",),
)
ONE_BETA = Condition(
    "--beta-start shared, equal or gamma, or --output li",
    lambda c: c.beta_start not in DRAWN_BETWEEN or _output(c) == "li",
    ("beta_start", "output", "task", "method"),
)
TAPS = Condition("--delays of two or more, of which one is kept", lambda c: len(_delays(c)) > 1, ("model", "delays"))
SPIKES = Condition("networks with spikes (--model lif-…, --activation heaviside)", _fires, ("model", "activation"))
SURROGATE = SPIKES & Condition(
    lambda: f"--method {_either(methods.methods.where(surrogate=True))}, a warm-up by it, or --credit surrogate",
    lambda c: credit_of(c) == "surrogate" or bool({c.method, _warm_up(c)} & {*methods.methods.where(surrogate=True)}),
    ("method", "credit"),
)
STEPS = Condition(
    "sequences of more than one step (a spiking --model, event data, or --encoding rate, latency or delta with "
    "--steps)",
    _has_steps,
    ("model", "steps", "encoding"),
)
SHOWN_STEPS = Condition(
    "sequences whose steps differ or are remembered (a spiking --model, event data, or another --encoding than "
    "constant)",
    lambda c: c.steps in (None, 1) or _has_steps(c),
    ("model", "encoding"),
)
NORMALIZES = one_of("model", lambda: [name for name in models if normalizes(name)])
FEW_BITS = other_than("weight_bits", FLOAT, "--weight-bits")
SENT_BACK = Condition(
    "rewards inside a layer (--method lfp, or --credit scan, step or online)",
    lambda c: not _descends(c),
    ("method", "credit"),
)
SENDS_BACK = one_of("method", methods.methods.where(recomputes=True))
OTHER_WARM_UP = Condition("a --method other than its warm-up's", _warms_up_otherwise, ("method",))
RATED = SPIKES & Condition(
    lambda: f"--method {_either(_with_rates())} (--credit scan or step)",
    lambda c: c.method in _with_rates() and c.credit != "online",
    ("method", "credit"),
)
RATED &= Condition(
    "rewards as they are, without --normalize-reward", lambda c: not c.normalize_reward, ("normalize_reward",)
)
RATED &= Condition("sequences that are kept, without --recompute", lambda c: not c.recompute, ("recompute",))
SMOOTHED = CLASSES & Condition(
    lambda: (
        "rewards and losses with a target for each class (--reward "
        f"{_either([name for name in rewards if _smooths(rewards, name)])}, or --loss "
        f"{_either([name for name in methods.losses if _smooths(methods.losses, name)])}, of --method "
        f"{_either([*_with_targets('reward'), *_with_targets('loss')])})"
    ),
    _is_smoothed,
    ("method", "reward", "loss"),
)
OWN_MOMENTUM = Condition(
    "another --schedule than one-cycle, which moves the momentum of sgd by itself",
    lambda c: not (c.optimizer == "sgd" and c.schedule == "one-cycle" and c.momentum != 0),
    ("optimizer", "schedule"),
)
NORMALIZED = RULED & one_of("rule", lambda: rules.rules_taking("normalize"), rules.rules)
STATISTICS = RULED & one_of("rule", lambda: rules.rules_taking("constant_statistics"), rules.rules) & NORMALIZES


def _check_columns(columns: str) -> None:
    FileLayout.from_text(columns=columns)


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


def _check_bits(bits: int) -> None:
    if bits != FLOAT and not 2 <= bits <= 16:
        raise UserError(f"weight-bits must lie between 2 and 16, or be {FLOAT} for floats, got {bits}")


@dataclass(frozen=True)
class DataOptions(Choice):
    """Data set, and how a network is shown it."""

    name: str = choice("digits", "data set", datasets, names=data_names, check=check_data_name)
    standardize: bool = setting(False, "shift and scale each channel to mean 0 and deviation 1", owner=IMAGES & VALUES)
    augment: bool = setting(False, "random mirror images and shifts of the training images", owner=IMAGES)
    encoding: str = setting("constant", "from a static input to a sequence", names=encodings, owner=STATIC)
    steps: int | None = setting(
        None,
        "steps of a sequence",
        automatic="25; 1 for networks without spikes; the data set's for events",
        owner=SHOWN_STEPS,
        within="[1, ∞)",
    )
    validation: float = setting(
        0.0,
        "part of the training set held out to choose the best epoch; the test set is then seen once, at the end",
        within="[0, 1)",
    )


@dataclass(frozen=True)
class EventOptions:
    """Recordings of events, and their conversion into sequences."""

    slice: float | None = setting(
        None, "cut recordings into slices of FLOAT ms, each a sample", automatic="whole recordings", owner=EVENTS,
        within="[0.001, 1000000000]",
    )  # fmt: skip
    slice_events: int | None = setting(
        None, "cut recordings into slices of INT events instead", owner=EVENTS, within="[1, ∞)"
    )
    slice_overlap: float = setting(
        0.0,
        "share of a slice that the next one repeats",
        owner=other_than("slice", None) | other_than("slice_events", None),
        within="[0, 1)",
    )
    label_table: str | None = setting(
        None,
        "csv file in the folder with columns file, start, end, class; or the ending of one beside each recording, "
        "such as _labels.csv",
        automatic="folders are the classes",
        owner=OWN_FILES,
    )
    class_level: int | None = setting(
        None,
        "level of the folders that are the classes, 1 for the first; the others are sessions",
        automatic="the only level with two names or more",
        owner=OWN_FILES,
        within="[1, ∞)",
    )
    split_by: str | None = setting(
        None,
        "what stays in one part as a whole: a file, all files of a session, or all of a subject",
        names=SPLITS,
        automatic="file, or the folders train and test",
        owner=OWN_FILES,
    )
    window: float | None = setting(
        None, "ms of a step of event data; --steps is then the most", automatic="the data set's", owner=EVENTS
    )
    events_per_step: int | None = setting(
        None, "events of a step instead; --steps is then the most", owner=EVENTS, within="[1, ∞)"
    )
    levels: int | None = setting(
        None,
        "n events of one pixel in one step count as min(n, INT)/INT; 1 makes spikes",
        automatic="2 for cameras and folders, else the data set's",
        owner=EVENTS,
        within="[1, ∞)",
    )
    transforms: str | None = setting(
        None,
        "what is done to events, such as denoise=10000,downsample=2",
        automatic="the data set's; of folders and tonic: pixels joined until no side of a camera has more than 48",
        owner=EVENTS,
    )
    augmentations: str = setting(
        "",
        "what chance does to training sequences of events, such as shift=2,drop=0.1",
        automatic="nothing",
        owner=EVENTS,
    )
    sparse: bool = setting(
        False, "hand sequences of events to the first layer as lists: less memory for many steps", owner=EVENTS
    )
    skip_bad: bool = setting(False, "leave out recordings that cannot be read, and list them", owner=EVENTS)
    sensor: str | None = setting(
        None,
        "sensor of files that do not state theirs, such as 346x260, or 700 channels",
        automatic="the smallest that holds all events",
        owner=OWN_SENSOR,
        check=Sensor.from_text,
    )
    table: str | None = setting(
        None,
        "group, struct, array or stream that holds the events of a file, such as davis/left/events",
        automatic="found by the content",
        owner=OWN_FILES,
    )
    columns: str | None = setting(
        None,
        "columns of files that do not name theirs, such as x,y,t,p",
        automatic="found by the content",
        owner=OWN_FILES,
        check=_check_columns,
    )
    first_pixel: int | None = setting(
        None,
        "number of the first column and row in files of MATLAB, 0 or 1",
        automatic="found by the content",
        owner=OWN_FILES,
        within="[0, 1]",
    )
    cache_dir: str | None = setting(
        None,
        "folder of binned recordings",
        automatic="$SPIKELFP_CACHE or ~/.cache/spikelfp/events",
        owner=EVENTS,
        kind="path",
    )


@dataclass(frozen=True)
class ModelOptions(Choice):
    """Network, and the grid of its weights."""

    name: str = choice(
        "lif-mlp",
        "network",
        models,
        automatic="lif-mlp; of events, without other options of networks, lif-conv for cameras and lif-rnn for lines",
    )
    weight_bits: int = setting(
        FLOAT, f"bits of a weight in the forward pass, 2 (ternary) to 16; {FLOAT} for floats", check=_check_bits
    )
    weight_update: str = setting(
        "masters",
        "updates of quantised weights: to float copies, or rounded onto the grid by chance",
        names=UPDATES,
        owner=FEW_BITS,
    )
    weight_clip: str = setting("mse", "how the scales of quantised weights are chosen", names=CLIPS, owner=FEW_BITS)
    input_levels: int | None = setting(
        None,
        "inputs are multiples of 1/INT, and quantised biases that they meet too",
        automatic="as the data; 1 for spikes",
        owner=FEW_BITS,
        within="[1, ∞)",
    )


@dataclass(frozen=True)
class TaskOptions(Choice):
    """Task of the network."""

    name: str = choice("classification", "what the network is to do", tasks, automatic="that of the data set")


@dataclass(frozen=True)
class NeuronOptions:
    """Neurons of the network, all alike."""

    beta: float = setting(
        0.9,
        "decay of the membrane per step, in (0, 1]",
        automatic="0.9; 0.8 for events",
        owner=NEURONS & ONE_BETA,
    )
    beta_start: Choice = choice(
        "shared",
        "decays at the start: one a layer (shared); or one a neuron, all --beta (equal), drawn between --beta-low and "
        "--beta-high, evenly (uniform) or in the logarithm of time constants (log-uniform), or around --beta (gamma)",
        decay_starts,
        automatic="shared; log-uniform, 0.3 to 0.95, for lif-rnn on lines of channels",
        owner=NEURONS,
    )
    threshold: float = setting(1.0, "membrane above which a neuron fires", owner=NEURONS)
    learn_beta: bool = setting(False, "the decay learns too, one a layer or as --beta-start says", owner=NEURONS)
    adapt: float = setting(
        0.0,
        "rise of the threshold of hidden neurons by each of their spikes (ALIF); 0 for thresholds that stay",
        owner=NEURONS,
        within="[0, ∞)",
    )
    adapt_decay: float = setting(
        0.97, "decay of that rise per step", owner=other_than("adapt", 0.0, "--adapt"), within="(0, 1]"
    )
    reset: str = setting(
        "subtract",
        "what a spike does to the membrane",
        names=get_args(Reset),
        automatic="subtract; zero for the events of cameras",
        owner=NEURONS,
    )
    denominator: str = setting(
        "inflow", "how the reward on a membrane is normalised", names=get_args(Denominator), owner=NEURONS & SENT_BACK
    )
    floor: float = setting(
        FLOOR,
        "least denominator of that reward, in units of the threshold; 0 as in the paper",
        owner=NEURONS & SENT_BACK,
        within="[0, ∞)",
    )
    margin: float = setting(
        MARGIN,
        "share of the threshold above which a neuron earns what a spike would; 1 as in the paper",
        owner=NEURONS & SENT_BACK,
        within="(0, 1]",
    )


@dataclass(frozen=True)
class MethodOptions(Choice):
    """Method of training: where the credit comes from."""

    name: str = choice("lfp", "where the credit comes from", methods.methods)
    reward: Choice = choice(
        None,
        "reward at the outputs",
        rewards,
        automatic="of classes spike-sequence for spiking networks (count-softmax for events), else softmax; of other "
        "tasks their loss's",
        owner=REWARDED,
    )
    credit: str | None = setting(
        None,
        "how credit runs inside a layer: derivatives, surrogate ones, or LFP through time, step by step, or online",
        names=CREDITS,
        automatic="scan with spikes or --method lfp, else gradient",
        owner=CREDITED,
    )
    rule: Choice = choice("epsilon", "how a layer splits a reward", rules.rules, owner=RULED)
    normalize_reward: bool = setting(
        False, "divide the reward between layers by its largest magnitude (A.6.4)", owner=NORMALIZED
    )
    normalize_by: str = setting(
        "sample",
        "the largest magnitude of each sample, or of each of its steps",
        names=NORMALIZE,
        owner=other_than("normalize_reward", False),
    )
    statistics: str = setting(
        "through",
        "normalisation layers: messages pass through mean and variance, or both are constant (v3 eq. 8-10)",
        names=("through", "constant"),
        owner=STATISTICS,
    )
    loss: Choice = choice(
        "rate",
        "cross-entropy of the outputs of every step (rate), of spike counts (count), or of each output by itself (bce)",
        methods.losses,
        owner=LOSS,
    )
    label_smoothing: float = setting(
        0.0,
        "part α of a target that all classes share: (1 − α) y + α/C, in training",
        owner=SMOOTHED,
        within="[0, 1)",
    )
    surrogate: str = setting(
        "fast-sigmoid", "shape of the surrogate derivative", names=rules.surrogates, owner=SURROGATE
    )
    slope: float = setting(25.0, "steepness of the surrogate derivative", owner=SURROGATE, within="(0, ∞)")
    rate_target: float | None = setting(
        None,
        "spikes per step that hidden neurons are asked for, as a reward or a loss beside that of the task",
        automatic="none",
        owner=RATED,
        within="[0, 1]",
    )
    rate_weight: float = setting(
        0.1,
        "weight of --rate-target: a neuron's reward in a step is it times what its rate lacks",
        owner=other_than("rate_target", None),
        within="[0, ∞)",
    )
    rate_of: str = setting(
        "neuron",
        "whose mean has the --rate-target: each neuron by itself (over steps and batch), or the layer in each sample",
        names=OVER,
        owner=other_than("rate_target", None),
    )
    warm_up: str | None = setting(
        None,
        "method of the first updates (v1 A.6.4)",
        names=WARM_UPS,
        automatic="surrogate for spiking networks, else gradient",
        owner=other_than("warm_up_steps", 0, "--warm-up-steps, its number of updates"),
    )
    warm_up_steps: int = setting(
        0,
        "updates by --warm-up before --method takes over, 0 for none",
        owner=OTHER_WARM_UP,
        within="[0, ∞)",
    )
    wake: bool = setting(
        True, "before the first update, scale up the weights of hidden layers that never fire", owner=SPIKES
    )


@dataclass(frozen=True)
class TrainingOptions:
    """Length of the run, parts of a batch, and how weights are updated."""

    epochs: int | None = setting(
        None,
        "passes over the training set",
        automatic=f"3, or up to 60 on small sets until {AUTO_STEPS} updates",
        within="[1, ∞)",
    )
    patience: int | None = setting(
        None,
        "stop when the score on the validation part has not improved for INT epochs",
        automatic="never",
        owner=other_than("validation", 0.0),
        within="[1, ∞)",
    )
    batch_size: int = setting(
        128, "samples per update, over all workers", automatic="128; 32 for events", within="[1, ∞)"
    )
    accumulate: int = setting(
        1, "parts of a batch, one after the other, whose updates add up: needs less memory", within="[1, ∞)"
    )
    recompute: int = setting(
        0,
        "steps of a part of the sequence whose graph is made again in the backward pass; 0 for none, √T needs least",
        owner=STEPS & SENDS_BACK,
        within="[0, ∞)",
    )
    chunk: int = setting(
        0,
        "steps that train at a time, each chunk from where the one before left; 0 for all",
        owner=STEPS,
        within="[0, ∞)",
    )
    choose_delays: int | None = setting(
        None,
        "epoch at whose end every connection keeps the one of its --delays with the largest weight, and trains on",
        automatic="never",
        owner=TAPS,
        within="[1, ∞)",
    )
    readout_steps: int | None = setting(
        None,
        "last steps of a sequence, which are rewarded and read out",
        automatic="all of them",
        owner=STEPS,
        within="[1, ∞)",
    )
    optimizer: Choice = choice("adam", "optimiser", optimizers)
    max_weight: float | None = setting(
        None, "clamp weights to ±FLOAT after each update (v3, footnote 5)", automatic="no limit", within="(0, ∞)"
    )
    lr: float | None = setting(
        None,
        "largest learning rate",
        automatic="3e-3 where outputs have a reward (5e-3 for events), 1e-3 where they descend a loss, 2e-3 with "
        "--method surrogate; 0.05 with sgd, 0.5 with momentum",
        within="(0, ∞)",
    )
    schedule: Choice = choice("one-cycle", "learning rate over the run", schedules)
    clip: float = setting(0.0, "factor of adaptive gradient clipping (Brock et al. 2021), 0 for none", within="[0, ∞)")
    clip_norm: float = setting(0.0, "largest norm of all updates together (A.6.2), 0 for no limit", within="[0, ∞)")


@dataclass(frozen=True)
class PlaceOptions:
    """Device, random numbers and folders of a run."""

    weights: str | None = setting(
        None,
        "weights to start from: a run folder, a checkpoint, a state dict (.pt, .pth), or a .safetensors file",
        automatic="drawn anew by --seed",
        kind="path",
    )
    seed: int = setting(0, "seed of the weights, the order of samples and the encoding", within=f"[0, {2**63 - 1}]")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, …")
    workers: int = setting(0, "processes that load data", within=f"[0, {MOST_WORKERS}]")
    checkpoint_every: int = setting(
        0, "steps between checkpoints within an epoch, 0 for the end of epochs only", within="[0, ∞)"
    )
    data_dir: str | None = setting(
        None, "folder of the data sets", automatic="$SPIKELFP_DATA or ~/.cache/spikelfp", kind="path"
    )


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
    """The same of the decays of its neurons."""

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
        if self.method.credit == "online" and self.method.name not in _taking("credit"):
            raise UserError(
                f"--method {self.method.name} sends rewards back through layers and steps, and --credit online goes "
                f"forward in time: choose --method {_either(_taking('credit'))}, or --credit step"
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
        own, values = {field.name for field in fields(ModelOptions)}, OPTIONS.values(self)
        if self.model_is_open:
            values = {path: value for path, value in values.items() if path[0] != "model" or path[-1] in own}
            values |= event_model(is_line, sides)
        if self.decays_are_open and is_line and values["model",] == "lif-rnn":
            values = {path: value for path, value in values.items() if path != ("neuron", "beta")} | LINE_DECAYS
        return _made(values)

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
        if not _descends(self.flat) and is_event_data(data.name):
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
                ("method", "warm_up"): _warm_up(self.flat),
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
        """Kind of last layer, of models that have a choice: the chosen one, or that of the task or method."""
        return _output(self.flat)

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
            smooths = own.label_smoothing and _smooths(methods.losses, own.loss.name)
            options["loss"] = functools.partial(loss, label_smoothing=own.label_smoothing) if smooths else loss
        if own.rate_target is not None and name in _with_rates():
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
