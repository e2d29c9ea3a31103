"""All choices of a training run, in one dataclass: the command line and ``config.yaml`` are made from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, get_args

import torch
import yaml

from spikelfp import methods, nn, rules
from spikelfp.data import encodings
from spikelfp.data.loader import MOST_WORKERS
from spikelfp.data.names import check_data_name, data_names, is_event_data
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator, LIFParameters, Reset
from spikelfp.methods import Method
from spikelfp.methods.base import REDUCTIONS
from spikelfp.models import ModelSpec, activations, build, is_spiking, models, normalizes
from spikelfp.models import uses as model_uses
from spikelfp.quantized import CLIPS, UPDATES, Quantization, WeightGrids
from spikelfp.registry import check_name
from spikelfp.rewards import rewards
from spikelfp.suggest import check_constructors
from spikelfp.training.footprint import check_room_to_build
from spikelfp.training.optimizer import MakeOptimizer, optimizers
from spikelfp.training.owners import Condition, Owner, check_owned, one_of, other_than
from spikelfp.training.schedule import MakeSchedule, schedules
from spikelfp.training.values import check_within, plain_value

FLOAT = 32
"""Bits of a weight that is not quantised."""

AUTO_STEPS = 1000
"""Updates that an automatic number of epochs reaches at least, within 3 to 60 epochs."""

NORMALIZE = ("sample", "step")
"""Ranges over which the largest magnitude of a reward is taken."""

DEFAULT_LR_SGD = {"sgd": 0.05, "momentum": 0.5}


GROUPS = ("data", "events", "model", "neuron", "method and rule", "training", "run")
"""Sections of the options in the help text."""


def option(
    default: Any,
    text: str,
    names: Iterable[str] | None = None,
    automatic: str = "",
    *,
    group: str,
    owner: Owner | None = None,
    within: str | None = None,
) -> Any:
    """A field of a configuration.

    Args:
        default: its value if nothing is said; ``None``: chosen by :meth:`RunConfig.resolved`.
        text: help text.
        names: names that it may take.
        automatic: words for what ``None`` stands for.
        group: section of the help text, one of :data:`GROUPS`.
        owner: what the option belongs to, without which it would do nothing; ``None``: every run uses it.
        within: interval of a number, such as ``[0, 1)`` or ``(0, ∞)``.
    """
    about = {"help": text, "names": names, "automatic": automatic, "group": group, "owner": owner, "within": within}
    return field(default=default, metadata=about)


def _rule_uses(field: str) -> Owner:
    """Options of rules belong to those that read them; found by trying, so that rules of one's own need not say it."""

    def uses(name: str) -> bool:
        read = set[str]()

        class Read(rules.RuleOptions):
            def __getattribute__(self, attribute: str) -> Any:
                read.add(attribute)
                return super().__getattribute__(attribute)

        rules.rules[name](Read())
        return field in read

    return LFP & one_of("rule", lambda: [name for name in rules.rules if uses(name)], rules.rules)


def _model_uses(field: str) -> Owner:
    return one_of("model", lambda: [name for name in models if model_uses(name, field)])


def _fires(config: RunConfig) -> bool:
    """Whether the network has neurons or activations that spike."""
    by_activation = model_uses(config.model, "activation") and isinstance(
        activations[config.activation](), nn.Heaviside
    )
    return is_spiking(config.model) or by_activation


def _warm_up(config: RunConfig) -> str | None:
    """The method of the first updates, or ``None``."""
    if not config.warm_up_steps:
        return None
    return config.warm_up or ("surrogate" if is_spiking(config.model) else "gradient")


def _has_steps(config: RunConfig) -> bool:
    """Whether the network sees sequences whose steps differ, or remembers from one to the next."""
    shown = config.encoding != "constant" and (config.steps or 1) > 1
    return is_event_data(config.data) or is_spiking(config.model) or shown


def _warms_up_otherwise(config: RunConfig) -> bool:
    """Whether a warm-up would train by another method than the rest of the run."""
    first = config.warm_up or ("surrogate" if is_spiking(config.model) else "gradient")
    return first != config.method and (_fires(config) or not {first, config.method} <= set(WARM_UPS))


def _has_own_momentum(config: RunConfig) -> bool:
    moved = config.optimizer == "sgd" and config.schedule == "one-cycle" and config.momentum != 0
    return config.optimizer != "adam" and not moved


WARM_UPS = methods.methods.where(gradient=True)
"""Methods that may come before another one."""
LFP = one_of("method", methods.methods.where(objective="reward"))
GRADIENTS = one_of("method", methods.methods.where(objective="loss")) | other_than("warm_up_steps", 0)
EVENTS = Condition("event data (--data nmnist, folder:PATH, …)", lambda c: is_event_data(c.data), ("data",))
STATIC = Condition("static samples", lambda c: not is_event_data(c.data), ("data",))
IMAGES = Condition("images (--augmentations is that of events)", lambda c: not is_event_data(c.data), ("data",))
VALUES = one_of("encoding", lambda: [name for name in encodings if name not in ("rate", "latency")])
NEURONS = Condition(
    "models of spiking neurons (--model lif-…)",
    lambda c: is_spiking(c.model) and model_uses(c.model, "neuron"),
    ("model",),
)
SPIKES = Condition("networks with spikes (--model lif-…, --activation heaviside)", _fires, ("model", "activation"))
SURROGATE = SPIKES & Condition(
    "--method surrogate, or a warm-up by it",
    lambda c: any(name in methods.methods.where(surrogate=True) for name in (c.method, _warm_up(c))),
    ("method",),
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
STEP = one_of("schedule", ("step",))
OTHER_WARM_UP = Condition("a --method other than its warm-up's", _warms_up_otherwise, ("method",))
OWN_MOMENTUM = Condition(
    "--optimizer momentum, or sgd with another --schedule than one-cycle, which moves it by itself",
    _has_own_momentum,
    ("optimizer", "schedule"),
)


@dataclass(frozen=True)
class RunConfig:
    """All options of a run, as ``config.yaml`` of a run folder holds them; ``None``: chosen by :meth:`resolved`.

    Raises:
        UserError: for a value of the wrong type, out of range or of an unknown name, and for an option that is not at
            its default and belongs to something that was not chosen (:mod:`spikelfp.training.owners`).
        KeywordError: for an option that there is not, with the nearest one.
    """

    data: str = option("digits", "data set", data_names, group="data")
    standardize: bool = option(
        False,
        "shift and scale each channel to mean 0 and deviation 1",
        group="data",
        owner=IMAGES & VALUES,
    )
    augment: bool = option(False, "random mirror images and shifts of the training images", group="data", owner=IMAGES)
    encoding: str = option("constant", "from a static input to a sequence", encodings, group="data", owner=STATIC)
    steps: int | None = option(
        None,
        "steps of a sequence",
        None,
        "25; 1 for networks without spikes; the data set's for events",
        group="data",
        owner=SHOWN_STEPS,
        within="[1, ∞)",
    )
    validation: float = option(
        0.0,
        "part of the training set held out to choose the best epoch; the test set is then seen once, at the end",
        group="data",
        within="[0, 1)",
    )
    window: float | None = option(
        None,
        "ms of a step of event data; --steps is then the most",
        None,
        "the data set's",
        group="events",
        owner=EVENTS,
    )
    events_per_step: int | None = option(
        None,
        "events of a step instead; --steps is then the most",
        group="events",
        owner=EVENTS,
        within="[1, ∞)",
    )
    levels: int | None = option(
        None,
        "n events of one pixel in one step count as min(n, INT)/INT; 1 makes spikes",
        None,
        "the data set's",
        group="events",
        owner=EVENTS,
        within="[1, ∞)",
    )
    transforms: str | None = option(
        None,
        "what is done to events, such as denoise=10000,downsample=2",
        None,
        "the data set's",
        group="events",
        owner=EVENTS,
    )
    augmentations: str = option(
        "",
        "what chance does to training sequences of events, such as shift=2,drop=0.1",
        None,
        "nothing",
        group="events",
        owner=EVENTS,
    )
    sparse: bool = option(
        False,
        "hand sequences of events to the first layer as lists: less memory for many steps",
        group="events",
        owner=EVENTS,
    )
    skip_bad: bool = option(
        False, "leave out recordings that cannot be read, and list them", group="events", owner=EVENTS
    )
    cache_dir: str | None = option(
        None,
        "folder of binned recordings",
        None,
        "$SPIKELFP_CACHE or ~/.cache/spikelfp/events",
        group="events",
        owner=EVENTS,
    )
    model: str = option("lif-mlp", "network", models, group="model")
    hidden: tuple[int, ...] = option(
        (1000,),
        "neurons of the hidden layers, such as 1000,1000",
        group="model",
        owner=_model_uses("hidden"),
        within="[1, ∞)",
    )
    pool: str = option(
        "max", "pooling; every simulator can run avg", ("max", "avg"), group="model", owner=_model_uses("pool")
    )
    activation: str = option(
        "relu",
        "activation function of networks without spikes",
        activations,
        group="model",
        owner=_model_uses("activation"),
    )
    noise: float = option(
        0.0,
        "deviation of the noise in front of layers with weights, in training",
        group="model",
        owner=_model_uses("noise") & VALUES,
        within="[0, ∞)",
    )
    width: int | None = option(
        None,
        "channels of the first convolution, or features of a token",
        None,
        "the model's own",
        group="model",
        owner=_model_uses("width"),
        within="[1, ∞)",
    )
    bias: bool = option(
        True, "biases of layers with weights; some chips have none", group="model", owner=_model_uses("bias")
    )
    weight_bits: int = option(
        FLOAT, f"bits of a weight in the forward pass, 2 (ternary) to 16; {FLOAT} for floats", group="model"
    )
    weight_update: str = option(
        "masters",
        "updates of quantised weights: to float copies, or rounded onto the grid by chance",
        UPDATES,
        group="model",
        owner=FEW_BITS,
    )
    weight_clip: str = option(
        "mse", "how the scales of quantised weights are chosen", CLIPS, group="model", owner=FEW_BITS
    )
    input_levels: int | None = option(
        None,
        "inputs are multiples of 1/INT, and quantised biases behind them too",
        None,
        "as the data; 1 for spikes",
        group="model",
        owner=FEW_BITS,
        within="[1, ∞)",
    )
    beta: float = option(0.9, "decay of the membrane per step, in (0, 1]", group="neuron", owner=NEURONS)
    threshold: float = option(1.0, "membrane above which a neuron fires", group="neuron", owner=NEURONS)
    learn_beta: bool = option(
        False, "the decay learns too, one for each layer of neurons", group="neuron", owner=NEURONS
    )
    reset: str = option("subtract", "what a spike does to the membrane", get_args(Reset), group="neuron", owner=NEURONS)
    denominator: str = option(
        "inflow",
        "how the reward on a membrane is normalised",
        get_args(Denominator),
        group="neuron",
        owner=NEURONS & LFP,
    )
    method: str = option("lfp", "where the credit comes from", methods.methods, group="method and rule")
    reward: str | None = option(
        None,
        "reward at the outputs",
        rewards,
        "spike-sequence for spiking networks, else softmax",
        group="method and rule",
        owner=LFP,
    )
    cap_rewards: bool = option(False, "cut positive rewards to 0 (v3, footnote 5)", group="method and rule", owner=LFP)
    rule: str = option("epsilon", "how a layer splits a reward", rules.rules, group="method and rule", owner=LFP)
    eps: float = option(
        1e-6, "stabiliser ε of the rule", group="method and rule", owner=_rule_uses("eps"), within="(0, ∞)"
    )
    alpha: float = option(
        2.0, "α of LFP-αβ; its β is α − 1", group="method and rule", owner=_rule_uses("alpha"), within="[1, ∞)"
    )
    gamma: float = option(0.25, "γ of LFP-γ", group="method and rule", owner=_rule_uses("gamma"), within="[0, ∞)")
    normalize_reward: bool = option(
        False,
        "divide the reward between layers by its largest magnitude (A.6.4)",
        group="method and rule",
        owner=_rule_uses("normalize"),
    )
    normalize_by: str = option(
        "sample",
        "the largest magnitude of each sample, or of each of its steps",
        NORMALIZE,
        group="method and rule",
        owner=other_than("normalize_reward", False),
    )
    statistics: str = option(
        "through",
        "normalisation layers: messages pass through mean and variance, or both are constant (v3 eq. 8-10)",
        ("through", "constant"),
        group="method and rule",
        owner=_rule_uses("constant_statistics") & NORMALIZES,
    )
    loss: str = option(
        "rate",
        "cross-entropy of the outputs of every step, or of spike counts",
        methods.losses,
        group="method and rule",
        owner=GRADIENTS,
    )
    surrogate: str = option(
        "fast-sigmoid",
        "shape of the surrogate derivative",
        rules.surrogates,
        group="method and rule",
        owner=SURROGATE,
    )
    slope: float = option(
        25.0, "steepness of the surrogate derivative", group="method and rule", owner=SURROGATE, within="(0, ∞)"
    )
    reduction: str = option(
        "mean", "updates of the samples of a batch: their mean, or their sum", REDUCTIONS, group="method and rule"
    )
    warm_up: str | None = option(
        None,
        "method of the first updates (v1 A.6.4)",
        WARM_UPS,
        "surrogate for spiking networks, else gradient",
        group="method and rule",
        owner=other_than("warm_up_steps", 0, "--warm-up-steps, its number of updates"),
    )
    warm_up_steps: int = option(
        0,
        "updates by --warm-up before --method takes over, 0 for none",
        group="method and rule",
        owner=OTHER_WARM_UP,
        within="[0, ∞)",
    )
    wake: bool = option(
        True,
        "before the first update, scale up the weights of hidden layers that never fire",
        group="method and rule",
        owner=SPIKES,
    )
    epochs: int | None = option(
        None,
        "passes over the training set",
        None,
        f"3, or up to 60 on small sets until {AUTO_STEPS} updates",
        group="training",
        within="[1, ∞)",
    )
    patience: int | None = option(
        None,
        "stop when the accuracy on the validation part has not improved for INT epochs",
        None,
        "never",
        group="training",
        owner=other_than("validation", 0.0),
        within="[1, ∞)",
    )
    batch_size: int = option(128, "samples per update, over all workers", group="training", within="[1, ∞)")
    accumulate: int = option(
        1,
        "parts of a batch, one after the other, whose updates add up: needs less memory",
        group="training",
        within="[1, ∞)",
    )
    recompute: int = option(
        0,
        "steps of a part of the sequence whose graph is made again in the backward pass; 0 for none, √T needs least",
        group="training",
        owner=STEPS,
        within="[0, ∞)",
    )
    chunk: int = option(
        0,
        "steps that train at a time, each chunk from where the one before left; 0 for all",
        group="training",
        owner=STEPS,
        within="[0, ∞)",
    )
    readout_steps: int | None = option(
        None,
        "last steps of a sequence, which are rewarded and read out",
        None,
        "all of them",
        group="training",
        owner=STEPS,
        within="[1, ∞)",
    )
    optimizer: str = option("adam", "optimiser", optimizers, group="training")
    momentum: float = option(
        0.9, "α of momentum (v3 eq. 5) and of sgd", group="training", owner=OWN_MOMENTUM, within="[0, 1)"
    )
    weight_decay: float = option(0.0, "λ of λw, taken from every update w", group="training", within="[0, ∞)")
    max_weight: float | None = option(
        None,
        "clamp weights to ±FLOAT after each update (v3, footnote 5)",
        None,
        "no limit",
        group="training",
        within="(0, ∞)",
    )
    lr: float | None = option(
        None,
        "largest learning rate",
        None,
        "3e-3 (lfp), 2e-3 (surrogate), 1e-3 (gradient); 0.05 with sgd, 0.5 with momentum",
        group="training",
        within="(0, ∞)",
    )
    schedule: str = option("one-cycle", "learning rate over the run", schedules, group="training")
    decay_every: int = option(
        40,
        "updates between two decays of the learning rate (v1 A.1)",
        group="training",
        owner=STEP,
        within="[1, ∞)",
    )
    decay_factor: float = option(
        0.1, "what it is multiplied with (v1 A.1)", group="training", owner=STEP, within="(0, 1]"
    )
    clip: float = option(
        0.0,
        "factor of adaptive gradient clipping (Brock et al. 2021), 0 for none",
        group="training",
        within="[0, ∞)",
    )
    clip_norm: float = option(
        0.0, "largest norm of all updates together (A.6.2), 0 for no limit", group="training", within="[0, ∞)"
    )
    seed: int = option(
        0, "seed of the weights, the order of samples and the encoding", group="run", within=f"[0, {2**63 - 1}]"
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, …", group="run")
    workers: int = option(0, "processes that load data", group="run", within=f"[0, {MOST_WORKERS}]")
    checkpoint_every: int = option(
        0, "steps between checkpoints within an epoch, 0 for the end of epochs only", group="run", within="[0, ∞)"
    )
    data_dir: str | None = option(
        None, "folder of the data sets", None, "$SPIKELFP_DATA or ~/.cache/spikelfp", group="run"
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, plain_value(f, getattr(self, f.name)))
        check_data_name(self.data)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.metadata["names"] is not None and value is not None and f.name != "data":
                check_name(f.name.replace("_", "-"), value, f.metadata["names"])
            if f.metadata["within"] is not None and value is not None:
                for number in value if isinstance(value, tuple) else (value,):
                    check_within(f.name.replace("_", "-"), number, f.metadata["within"])
        if self.weight_bits != FLOAT and not 2 <= self.weight_bits <= 16:
            raise UserError(f"weight-bits must lie between 2 and 16, or be {FLOAT} for floats, got {self.weight_bits}")
        LIFParameters(self.beta, self.threshold, self.reset, self.denominator)  # type: ignore[arg-type]
        check_owned(self)
        if self.warm_up == "gradient" and is_spiking(self.model):
            raise UserError(f"{self.model} has no gradient to warm up by, a spike's is 0: use --warm-up surrogate")

    def resolved(self, samples: int, levels: int | None = None) -> RunConfig:
        """This configuration with every ``None`` that the run needs replaced.

        Args:
            samples: number of training samples.
            levels: those of their values, where they are known (:attr:`~spikelfp.data.ArrayDataset.levels`).

        Raises:
            UserError: for a warm-up as long as the run, and chunks or read-outs as long as its sequences.
        """
        spiking = is_spiking(self.model)
        batches = -(-samples // self.batch_size)
        by_method = DEFAULT_LR_SGD.get(self.optimizer) or methods.methods.fact(self.method, "default_lr")
        by_data = None if self.weight_bits == FLOAT else 1 if self.encoding != "constant" else levels
        by_outputs = "spike-sequence" if spiking else "softmax"
        resolved = replace(
            self,
            input_levels=self.input_levels or by_data,
            warm_up=_warm_up(self),
            reward=self.reward or by_outputs if LFP.holds(self) else None,
            steps=self.steps or (None if is_event_data(self.data) else 25 if spiking else 1),
            epochs=self.epochs or min(max(3, -(-AUTO_STEPS // batches)), 60),
            lr=by_method if self.lr is None else self.lr,
        )
        resolved._check_lengths(batches * (resolved.epochs or 1))
        return resolved

    def _check_lengths(self, updates: int) -> None:
        """Refuse parts that are as long as the whole, or longer."""
        if self.warm_up_steps >= updates:
            raise UserError(
                f"--warm-up-steps {self.warm_up_steps} leaves no update to --method {self.method}: this run has "
                f"{updates} of them"
            )
        if self.steps is None or is_event_data(self.data):
            return
        for name, value in (("chunk", self.chunk), ("readout-steps", self.readout_steps)):
            if value and value >= self.steps:
                raise UserError(
                    f"--{name} {value} would do nothing: sequences have {self.steps} steps; choose fewer, or leave it "
                    "out for all of them"
                )

    def spec(self, shape: tuple[int, ...], classes: int) -> ModelSpec:
        """The network of this run for inputs of ``shape``."""
        neuron: dict[str, float | str] = {}
        if NEURONS.holds(self):
            names = ("beta", "threshold", "reset", "denominator", "learn_beta")
            neuron = {name: getattr(self, name) for name in names}
        return ModelSpec(
            self.model, tuple(shape), classes, self.hidden, self.pool, neuron, self.activation, self.noise, self.width,
            bias=self.bias,
        )  # fmt: skip

    def quantization(self) -> Quantization | None:
        """How the weights are quantised while they train; ``None`` for floats."""
        if self.weight_bits == FLOAT:
            return None
        known = {} if self.input_levels is None else {"input_levels": self.input_levels}
        return Quantization(self.weight_bits, self.weight_update, self.weight_clip, **known)

    def in_floats(self) -> RunConfig:
        """This run without quantised weights."""
        defaults: dict[str, Any] = {f.name: f.default for f in fields(self) if f.metadata["owner"] is FEW_BITS}
        return replace(self, weight_bits=FLOAT, **defaults)

    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """Make a new network of this run, its weights on grids if they are quantised.

        Raises:
            UserError: for one that does not fit into memory.
        """
        spec = self.spec(shape, classes)
        check_room_to_build(spec)
        net = build(spec)
        quantization = self.quantization()
        if quantization is not None:
            WeightGrids(net, quantization, self.seed)
        return net

    def make_method(self) -> Method:
        """The method with its rule and reward, behind its warm-up."""
        if self.warm_up is None:
            return self._method(self.method)
        return methods.WarmUp(self._method(self.warm_up), self._method(self.method), self.warm_up_steps)

    def _method(self, name: str) -> Method:
        """Make a method by name, with those of these options that its constructor takes."""
        kind = methods.methods[name]
        options: dict[str, Any] = {"reduction": self.reduction}
        if kind.surrogate:
            options["rule"] = rules.Surrogate(self.surrogate, self.slope)
        if kind.objective == "loss":
            options["loss"] = methods.losses[self.loss]
        else:
            normalize: Any = self.normalize_by if self.normalize_reward else False
            by_rule = rules.RuleOptions(self.eps, normalize, self.alpha, self.gamma, self.statistics == "constant")
            options |= {
                "reward": rewards[self.reward or "spike-sequence"](),
                "rule": rules.rules[self.rule](by_rule),
                "cap_rewards": self.cap_rewards,
            }
        taken = inspect.signature(kind).parameters
        return kind(**{name: value for name, value in options.items() if name in taken})

    def make_optimizer(self) -> MakeOptimizer:
        """The optimiser, as a function of the parameters and the learning rate."""
        return partial(optimizers[self.optimizer], momentum=self.momentum, weight_decay=self.weight_decay)

    def make_schedule(self) -> MakeSchedule:
        """The schedule, as a function of the optimiser and the number of steps."""
        settings = {"step_size": self.decay_every, "gamma": self.decay_factor} if self.schedule == "step" else {}
        return partial(schedules[self.schedule], **settings)

    def to_yaml(self) -> str:
        """As ``config.yaml``."""
        return yaml.safe_dump({**asdict(self), "hidden": list(self.hidden)}, sort_keys=False)


check_constructors(RunConfig)
