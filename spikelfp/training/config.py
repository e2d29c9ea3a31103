"""All choices of a training run, in one dataclass: the command line and ``config.yaml`` are made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, get_args

import torch
import yaml

from spikelfp import methods, rules
from spikelfp.data import encodings
from spikelfp.data.names import check_data_name, data_names, is_event_data
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator, LIFParameters, Reset
from spikelfp.methods import METHODS, WARM_UPS, Method
from spikelfp.models import ModelSpec, activations, build, is_spiking, models
from spikelfp.quantized import CLIPS, UPDATES, Quantization, WeightGrids
from spikelfp.registry import check_name
from spikelfp.rewards import rewards
from spikelfp.training.optimizer import MakeOptimizer, optimizers
from spikelfp.training.schedule import MakeSchedule, schedules

FLOAT = 32
"""Bits of a weight that is not quantised."""

AUTO_STEPS = 1000
"""Updates that an automatic number of epochs reaches at least, within 3 to 60 epochs."""

DEFAULT_LR = {("lfp", "adam"): 3e-3, ("surrogate", "adam"): 2e-3, ("gradient", "adam"): 1e-3}
DEFAULT_LR_SGD = {"sgd": 0.05, "momentum": 0.5}


def option(default: Any, text: str, names: Iterable[str] | None = None, automatic: str = "") -> Any:
    """A field with its help text, the names it may take, and what ``None`` stands for."""
    return field(default=default, metadata={"help": text, "names": names, "automatic": automatic})


@dataclass(frozen=True)
class RunConfig:
    """What ``config.yaml`` of a run folder holds. ``None`` means: chosen by :meth:`resolved`."""

    data: str = option("digits", "data set", data_names)
    standardize: bool = option(False, "shift and scale each channel to mean 0 and deviation 1 (images)")
    augment: bool = option(False, "random mirror images and shifts of the training images")
    window: float | None = option(None, "ms of a step of event data; --steps is then the most", None, "the data set's")
    events_per_step: int | None = option(None, "events of a step instead; --steps is then the most")
    levels: int | None = option(
        None, "n events of one pixel in one step count as min(n, INT)/INT; 1 makes spikes", None, "the data set's"
    )
    transforms: str | None = option(
        None, "what is done to events, such as denoise=10000,downsample=2", None, "the data set's"
    )
    augmentations: str = option(
        "", "what chance does to training sequences of events, such as shift=2,drop=0.1", None, "nothing"
    )
    sparse: bool = option(False, "hand sequences of events to the first layer as lists: less memory for many steps")
    skip_bad: bool = option(False, "leave out recordings that cannot be read, and list them")
    model: str = option("lif-mlp", "network", models)
    hidden: tuple[int, ...] = option((1000,), "neurons of the hidden layers, such as 1000,1000 (MLPs, lif-rnn)")
    pool: str = option(
        "max", "pooling of a LeNet, lif-conv or lif-vgg-like; every simulator can run avg", ("max", "avg")
    )
    activation: str = option("relu", "activation function of networks without spikes", activations)
    noise: float = option(0.0, "deviation of the noise in front of layers with weights, in training (no spikes)")
    width: int | None = option(
        None, "channels of the first convolution, or features of a token", None, "the model's own"
    )
    bias: bool = option(True, "biases in lif-mlp, lif-lenet, lif-conv and lif-rnn; some chips have none")
    weight_bits: int = option(FLOAT, f"bits of a weight in the forward pass, 2 (ternary) to 16; {FLOAT} for floats")
    weight_update: str = option(
        "masters", "updates of quantised weights: to float copies, or rounded onto the grid by chance", UPDATES
    )
    weight_clip: str = option("mse", "how the scales of quantised weights are chosen", CLIPS)
    input_levels: int | None = option(
        None, "inputs are multiples of 1/INT, and quantised biases behind them too", None, "as the data; 1 for spikes"
    )
    method: str = option("lfp", "where the credit comes from", METHODS)
    warm_up: str | None = option(
        None, "method of the first updates (v1 A.6.4)", WARM_UPS, "surrogate for spiking networks, else gradient"
    )
    warm_up_steps: int = option(0, "updates by --warm-up before --method takes over, 0 for none")
    rule: str = option("epsilon", "how a layer splits a reward (lfp)", rules.rules)
    eps: float = option(1e-6, "stabiliser ε of the rule")
    alpha: float = option(2.0, "α of the rule alphabeta; its β is α − 1")
    gamma: float = option(0.25, "γ of the rule gamma")
    normalize_reward: bool = option(False, "divide the reward between layers by its largest magnitude (A.6.4)")
    statistics: str = option(
        "through",
        "normalisation layers under lfp: messages pass through mean and variance, or both are constant (v3 eq. 8-10)",
        ("through", "constant"),
    )
    reward: str | None = option(
        None, "reward at the outputs (lfp)", rewards, "spike-sequence for spiking networks, else softmax"
    )
    loss: str = option(
        "rate", "cross-entropy (surrogate, gradient) of the outputs of every step, or of spike counts", methods.losses
    )
    surrogate: str = option("fast-sigmoid", "shape of the surrogate derivative", rules.surrogates)
    slope: float = option(25.0, "steepness of the surrogate derivative")
    steps: int | None = option(
        None, "steps of a sequence", None, "25; 1 for networks without spikes; the data set's for events"
    )
    readout_steps: int | None = option(
        None, "last steps of a sequence, which are rewarded and read out", None, "all of them"
    )
    chunk: int = option(0, "steps that train at a time, each chunk from where the one before left; 0 for all")
    encoding: str = option("constant", "from a static input to a sequence", encodings)
    beta: float = option(0.9, "decay of the membrane per step, in (0, 1]")
    threshold: float = option(1.0, "membrane above which a neuron fires")
    learn_beta: bool = option(False, "the decay learns too, one for each layer of neurons")
    reset: str = option("subtract", "what a spike does to the membrane", get_args(Reset))
    denominator: str = option("inflow", "how the reward on a membrane is normalised", get_args(Denominator))
    epochs: int | None = option(
        None, "passes over the training set", None, f"3, or up to 60 on small sets until {AUTO_STEPS} updates"
    )
    batch_size: int = option(128, "samples per update, over all workers")
    accumulate: int = option(1, "parts of a batch, one after the other, whose updates add up: needs less memory")
    recompute: int = option(
        0, "steps of a part of the sequence whose graph is made again in the backward pass; 0 for none, √T needs least"
    )
    optimizer: str = option("adam", "optimiser", optimizers)
    momentum: float = option(0.9, "α of momentum (v3 eq. 5) and of sgd, which one-cycle moves from 0.85 to 0.95")
    weight_decay: float = option(0.0, "λ of λw, taken from every update w")
    lr: float | None = option(
        None,
        "largest learning rate",
        None,
        "3e-3 (lfp), 2e-3 (surrogate), 1e-3 (gradient); 0.05 with sgd, 0.5 with momentum",
    )
    schedule: str = option("one-cycle", "learning rate over the run", schedules)
    decay_every: int = option(40, "updates between two decays of the learning rate (step; v1 A.1)")
    decay_factor: float = option(0.1, "what it is multiplied with (step; v1 A.1)")
    clip: float = option(0.0, "factor of adaptive gradient clipping (Brock et al. 2021), 0 for none")
    clip_norm: float = option(0.0, "largest norm of all updates together (A.6.2), 0 for no limit")
    validation: float = option(
        0.0, "part of the training set held out to choose the best epoch; the test set is then seen once, at the end"
    )
    seed: int = option(0, "seed of the weights, the order of samples and the encoding")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, …")
    workers: int = option(0, "processes that load data")
    checkpoint_every: int = option(0, "steps between checkpoints within an epoch, 0 for the end of epochs only")
    data_dir: str | None = option(None, "folder of the data sets", None, "$SPIKELFP_DATA or ~/.cache/spikelfp")
    cache_dir: str | None = option(
        None, "folder of binned recordings", None, "$SPIKELFP_CACHE or ~/.cache/spikelfp/events"
    )

    def __post_init__(self) -> None:
        check_data_name(self.data)
        for f in fields(self):
            value = getattr(self, f.name)
            if f.metadata["names"] is not None and value is not None and f.name != "data":
                check_name(f.name.replace("_", "-"), value, f.metadata["names"])
        LIFParameters(self.beta, self.threshold, self.reset, self.denominator)  # type: ignore[arg-type]
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.weight_bits != FLOAT and not 2 <= self.weight_bits <= 16:
            raise UserError(f"weight-bits must lie between 2 and 16, or be {FLOAT} for floats, got {self.weight_bits}")
        for name in (
            "steps", "width", "epochs", "batch_size", "accumulate", "decay_every", "input_levels", "events_per_step",
            "levels", "readout_steps",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} must be at least 1, got {value}")
        for name in (
            "seed",
            "workers",
            "checkpoint_every",
            "warm_up_steps",
            "recompute",
            "chunk",
            "noise",
            "clip",
            "clip_norm",
            "weight_decay",
        ):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name.replace('_', '-')} must be 0 or more, got {getattr(self, name)}")
        if any(size < 1 for size in self.hidden):
            raise UserError(f"hidden sizes must be at least 1, got {','.join(map(str, self.hidden))}")
        for name in ("validation", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.decay_factor <= 1:
            raise UserError(f"decay-factor must lie in (0, 1], got {self.decay_factor}")
        if self.warm_up is not None and not self.warm_up_steps:
            raise UserError(f"--warm-up {self.warm_up} needs its number of updates, --warm-up-steps")
        if self.warm_up == "gradient" and is_spiking(self.model):
            raise UserError(f"{self.model} has no gradient to warm up by, a spike's is 0: use --warm-up surrogate")

    def resolved(self, samples: int, levels: int | None = None) -> RunConfig:
        """With every ``None`` replaced, given the number of training samples and the levels of their values, where
        these are known (:attr:`~spikelfp.data.ArrayDataset.levels`)."""
        spiking = is_spiking(self.model)
        batches = -(-samples // self.batch_size)
        by_method = DEFAULT_LR_SGD.get(self.optimizer) or DEFAULT_LR[self.method, self.optimizer]
        first = ("surrogate" if spiking else "gradient") if self.warm_up_steps else None
        by_data = None if self.weight_bits == FLOAT else 1 if self.encoding != "constant" else levels
        return replace(
            self,
            input_levels=self.input_levels or by_data,
            warm_up=self.warm_up or first,
            reward=self.reward or ("spike-sequence" if spiking else "softmax"),
            steps=self.steps or (None if is_event_data(self.data) else 25 if spiking else 1),
            epochs=self.epochs or min(max(3, -(-AUTO_STEPS // batches)), 60),
            lr=by_method if self.lr is None else self.lr,
        )

    def spec(self, shape: tuple[int, ...], classes: int) -> ModelSpec:
        """The network of this run for inputs of ``shape``."""
        neuron: dict[str, float | str] = {}
        if is_spiking(self.model):
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

    def build(self, shape: tuple[int, ...], classes: int) -> torch.nn.Module:
        """A new network of this run, its weights on grids if they are quantised."""
        net = build(self.spec(shape, classes))
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
        if name == "lfp":
            options = rules.RuleOptions(
                self.eps, self.normalize_reward, self.alpha, self.gamma, self.statistics == "constant"
            )
            rule = rules.rules[self.rule](options)
            return methods.LFP(rewards[self.reward or "spike-sequence"](), rule)
        if name == "surrogate":
            return methods.GradientDescent(rules.Surrogate(self.surrogate, self.slope), methods.losses[self.loss])
        return methods.GradientDescent(loss=methods.losses[self.loss])

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
