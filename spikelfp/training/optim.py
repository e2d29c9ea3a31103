"""Optimisers and learning rates over a run, by name, and how far a run is planned and extended.

Any other torch optimiser or schedule can be handed to a trainer: a class, a function or an object. A schedule is a
function of the optimiser and the number of steps (updates) in all.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from spikelfp.errors import CheckpointError, UserError
from spikelfp.nn.graph import decays
from spikelfp.options import described, option
from spikelfp.registry import Registry
from spikelfp.scalars import as_whole
from spikelfp.tasks import Task
from spikelfp.training.update import Position

MakeOptimizer = Callable[[Iterable[Parameter], float], Optimizer]

DEFAULT_LR = 3e-3
"""Learning rate of a trainer that is given none."""


class Momentum(torch.optim.SGD):
    """Gradient descent with a momentum that averages the updates (LFP v3, eq. 5; v1, eq. 5)::

        d = α d_old + (1 − α) d_lfp        w ← w + η d        (d_old: the d of the step before, 0 at first)

    torch's SGD with ``momentum=α`` sums them, ``d = α d_old + d_lfp``: steps of 1 / (1 − α) times the size. With
    ``dampening=α`` it averages, except that it starts from ``d_lfp``; here the memory starts at zero.

    Args:
        params: parameters, or groups of them.
        lr: learning rate η.
        alpha: α in [0, 1).
        weight_decay: λ of ``d_lfp − λ w`` in place of ``d_lfp``.
    """

    def __init__(self, params: Iterable[Any], lr: float, alpha: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(
            params, lr=_positive(lr), momentum=_share(alpha), dampening=alpha, weight_decay=_decay(weight_decay)
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            self.state[p]["momentum_buffer"] = torch.zeros_like(p)


optimizers: Registry[Callable[..., Optimizer]] = Registry("optimizer", takes=("parameters", "params", "lr"))
"""Functions ``(parameters, lr, *, options…)``, or classes."""

Share = Annotated[float, option("α of momentum (v3 eq. 5) and of sgd", within="[0, 1)")]
Decay = Annotated[
    float,
    option(
        "λ: λw is taken from the update of each weight w, by adamw ηλw from w itself; β is left alone", within="[0, ∞)"
    ),
]
First = Annotated[float, option("β₁ of Adam, the memory of its mean", name="adam_beta1", within="[0, 1)")]
Second = Annotated[
    float,
    option("β₂ of Adam, the memory of its second moment; nearer to 1 for batches of one sample", name="adam_beta2",
           within="[0, 1)"),
]  # fmt: skip


@optimizers.register("adam")
def adam(
    parameters: Iterable[Parameter], lr: float, *, weight_decay: Decay = 0.0, beta1: First = 0.9, beta2: Second = 0.99
) -> Optimizer:
    """Adam (Kingma & Ba 2015), fused, with β₁ = 0.9 and β₂ = 0.99 unless others are chosen.

    Updates by reward come in bursts, as neurons fall silent or begin to fire. A second moment that remembers 100 steps
    follows them better than one that remembers 1000 (docs/training.md has the comparison). Where a batch is a single
    sample, 100 steps are 100 samples, and the moment is mostly noise: ``beta2=0.9999``, or :func:`sgd`.
    """
    betas, decay = (_share(beta1, "β₁"), _share(beta2, "β₂")), _decay(weight_decay)
    return torch.optim.Adam(parameters, lr=_positive(lr), betas=betas, weight_decay=decay, fused=True)


@optimizers.register("adamw")
def adamw(
    parameters: Iterable[Parameter], lr: float, *, weight_decay: Decay = 0.01, beta1: First = 0.9, beta2: Second = 0.99
) -> Optimizer:
    """Adam, whose weight decay is apart from its moments (Loshchilov & Hutter 2019): ``w ← (1 − η λ) w`` at every step.

    Adam divides all that it is given by its second moment, so that its own ``λ w`` is the weaker the larger the updates
    are. Here every weight shrinks by the same share. Otherwise it is :func:`adam`.
    """
    betas, decay = (_share(beta1, "β₁"), _share(beta2, "β₂")), _decay(weight_decay)
    return torch.optim.AdamW(parameters, lr=_positive(lr), betas=betas, weight_decay=decay, fused=True)


@optimizers.register("sgd")
def sgd(parameters: Iterable[Parameter], lr: float, *, momentum: Share = 0.9, weight_decay: Decay = 0.0) -> Optimizer:
    """Stochastic gradient descent with momentum as torch has it: updates are summed, not averaged."""
    return torch.optim.SGD(parameters, lr=_positive(lr), momentum=_share(momentum), weight_decay=_decay(weight_decay))


@optimizers.register("momentum")
def momentum(
    parameters: Iterable[Parameter], lr: float, *, momentum: Share = 0.9, weight_decay: Decay = 0.0
) -> Optimizer:
    """:class:`Momentum`, which averages updates (v3, eq. 5)."""
    return Momentum(parameters, lr, momentum, weight_decay)


_OWN = (adam, adamw, sgd, momentum)
"""Optimisers of this package, whose weight decay leaves decays of neurons alone."""


def make_optimizer(chosen: Any, net: torch.nn.Module, lr: float | None) -> Optimizer:
    """Make the optimiser of a network.

    Args:
        chosen: a name of :data:`optimizers`, a function ``(parameters, lr)`` or ``(parameters)``, a class of torch's,
            or an optimiser over parameters of the network.
        net: the network.
        lr: learning rate; ``None`` for :data:`DEFAULT_LR`, or that of the object.

    Raises:
        UnknownNameError: for an unknown name.
        UserError: for an optimiser that holds parameters of another network or cannot step from ``p.grad``, for a
            network with nothing to train, and with the text of an optimiser that refuses its arguments.
    """
    parameters = list(net.parameters())
    if not any(p.requires_grad for p in parameters):
        raise UserError(f"{type(net).__name__} has no parameter that requires grad, so there is nothing to train")
    if any(p.dtype == torch.float16 for p in parameters):
        raise UserError(
            "weights in float16 are too coarse for updates, which underflow: train net.float() (or net.bfloat16()) and "
            "take net.half() afterwards"
        )
    if isinstance(chosen, Optimizer):
        return _own(chosen, net, lr)
    rate = DEFAULT_LR if lr is None else lr
    try:
        if isinstance(chosen, str):
            made = _made(optimizers[chosen], net, rate)
        elif getattr(chosen, "func", chosen) in _OWN:
            made = _made(chosen, net, rate)
        elif isinstance(chosen, type) and issubclass(chosen, Optimizer):
            made = chosen(parameters, lr=_positive(rate))  # type: ignore[call-arg]
        elif not callable(chosen):
            raise UserError(f"an optimizer is a name, a class, a function or an object of torch.optim, got {chosen!r}")
        else:
            made = chosen(parameters) if positional(chosen) == 1 else chosen(parameters, rate)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"the optimiser cannot be made: {str(error).splitlines()[0]}") from None
    if not isinstance(made, Optimizer):
        raise UserError(f"the function for the optimiser returned {type(made).__name__}, not a torch.optim.Optimizer")
    return _own(made, net, None)


def _made(make: MakeOptimizer, net: torch.nn.Module, lr: float) -> Optimizer:
    """Make an optimiser of all parameters whose weight decay, if it has one, leaves decays β that learn alone.

    They would shrink to 0 with the weights, and the neurons would lose their memory.
    """
    made = make(list(net.parameters()), lr)
    apart = {id(p) for p in decays(net).values()}
    if getattr(make, "func", make) not in _OWN or not apart or not made.defaults.get("weight_decay"):
        return made
    groups: list[Any] = [
        {"params": [p for p in net.parameters() if id(p) not in apart]},
        {"params": [p for p in net.parameters() if id(p) in apart], "weight_decay": 0.0},
    ]
    return make(groups, lr)


def positional(function: Callable[..., Any]) -> int:
    """Count the arguments that a function takes by position; 2 where Python cannot tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _own(optimizer: Optimizer, net: torch.nn.Module, lr: float | None) -> Optimizer:
    """Return the optimiser, checked to be able to train the network."""
    kind = type(optimizer).__name__
    if lr is not None:
        raise UserError(f"lr={lr} and an optimiser that is made already: its learning rate is its own, leave out lr")
    step = inspect.signature(type(optimizer).step).parameters.get("closure")
    if isinstance(optimizer, torch.optim.LBFGS) or (step is not None and step.default is step.empty):
        raise UserError(
            f"{kind} runs a batch several times through a closure and compares losses, which a reward has not: choose "
            "an optimiser that steps once from p.grad, such as adam"
        )
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise UserError("SparseAdam takes sparse gradients, and those of a network are dense: choose Adam")
    known = {id(p) for p in net.parameters()}
    foreign = sum(id(p) not in known for group in optimizer.param_groups for p in group["params"])
    if foreign:
        raise UserError(
            f"the optimiser holds {foreign} parameters that are not of this network: make it of net.parameters(), "
            "after the last conversion of the network"
        )
    return optimizer


def describe(optimizer: Optimizer) -> str:
    """Write an optimiser in one line: its class and its options that are numbers."""
    numbers = ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                        for name, value in options_of(optimizer).items() if value)  # fmt: skip
    return f"{type(optimizer).__name__}({numbers})"


def group_options(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Copy the options of each parameter group, without the parameters."""
    return [
        {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in group.items()
         if name != "params"}
        for group in optimizer.param_groups
    ]  # fmt: skip


def reset_groups(optimizer: Optimizer, options: list[dict[str, Any]]) -> None:
    """Put parameter groups back to the ``options`` that they had, for a new schedule to start from."""
    for group, own in zip(optimizer.param_groups, options, strict=True):
        for name in [name for name in group if name != "params" and name not in own]:
            del group[name]  # what a schedule has added
        group.update({name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in own.items()})


def plain_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List the options of parameter groups that are numbers, for a checkpoint to compare."""
    keep = (int, float, tuple)
    return [
        {name: float(value) if isinstance(value, torch.Tensor) else value for name, value in group.items()
         if isinstance(value, (torch.Tensor, *keep)) and not isinstance(value, bool)}
        for group in groups
    ]  # fmt: skip


def options_of(optimizer: Optimizer) -> dict[str, Any]:
    """Return the numbers that an optimiser was made with, such as learning rate, momenta and weight decay."""
    numbers = {name: value for name, value in optimizer.defaults.items() if isinstance(value, (int, float, tuple))}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def _positive(lr: float) -> float:
    if not 0 < lr < float("inf"):
        raise UserError(f"the learning rate must be a finite number above 0, got {lr}")
    return lr


def _share(value: float, name: str = "the momentum") -> float:
    if not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1 (at 1 no update arrives), got {value}")
    return value


def _decay(weight_decay: float) -> float:
    if not 0 <= weight_decay < float("inf"):
        raise UserError(f"the weight decay must be a finite number of 0 or more, got {weight_decay}")
    return weight_decay


MakeSchedule = Callable[[Optimizer, int], LRScheduler]

schedules: Registry[Callable[..., LRScheduler]] = Registry("schedule", takes=("optimizer", "total_steps"))
"""Functions ``(optimizer, total_steps) → LRScheduler``, some with further keyword settings."""


@schedules.register("one-cycle")
def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Raise the learning rate in the first 30 % of the steps, then lower it to near 0 (Smith & Topin 2019; A.6.4).

    Adam's β₁ and the momentum of SGD run the other way, from 0.95 down to 0.85 and up again. A momentum that averages
    (dampening, as in eq. 5) keeps its α, and an optimiser without momentum gets none.
    """
    largest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=largest, total_steps=max(total_steps, 1), cycle_momentum=_sums(optimizer))


@schedules.register("constant")
def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Keep the learning rate throughout."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


@schedules.register("step")
def step(
    optimizer: Optimizer,
    total_steps: int,
    *,
    step_size: Annotated[
        int,
        option("updates between two decays of the learning rate (v1 A.1)", name="decay_every", within="[1, ∞)"),
    ] = 40,
    gamma: Annotated[float, option("what it is multiplied with (v1 A.1)", name="decay_factor", within="(0, 1]")] = 0.1,
) -> LRScheduler:
    """Multiply the learning rate at intervals, ``η γ^⌊k / step_size⌋`` at step k: by 0.1 every 40 steps in v1, A.1."""
    if step_size < 1 or not 0 < gamma <= 1:
        raise UserError(f"a step decay needs step_size of 1 or more and gamma in (0, 1], got {step_size} and {gamma}")
    return StepLR(optimizer, step_size, gamma)


@schedules.register("cosine")
def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Lower the learning rate along a cosine, ``η (1 + cos(π k / total_steps)) / 2`` at step k (arXiv:1608.03983)."""
    return CosineAnnealingLR(optimizer, total_steps)


@schedules.register("linear")
def linear(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Lower the learning rate along a line, ``η (1 − k / total_steps)`` at step k."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total_steps)


@dataclass(frozen=True)
class Schedule:
    """Schedule of a trainer, to be made for a number of steps.

    Attributes:
        name: its name, or a description.
        make: function that makes it of an optimiser and the number of steps.
        made: whether an object was handed in, which cannot be made anew.
    """

    name: str
    make: Callable[[Optimizer, int], LRScheduler]
    made: bool = False

    def goes_on(self, optimizer: Optimizer) -> bool:
        """Whether the learning rate of a step does not depend on the number of steps in all.

        The schedule is made for two numbers of steps and compared. Functions inside (``LambdaLR``) cannot be compared
        and count as a no.
        """
        if self.made:
            return True
        states = []
        for steps in (300, 700):
            groups = [{"params": [torch.zeros(1)], "lr": float(group["lr"])} for group in optimizer.param_groups]
            try:
                schedule = self.make(torch.optim.SGD(groups, momentum=0.9), steps)
            except (KeyError, RuntimeError, TypeError, ValueError):
                return False
            if isinstance(schedule, (LambdaLR, MultiplicativeLR)):
                return False
            states.append(described(schedule.state_dict()))
        return states[0] == states[1]


def resolve_schedule(chosen: Any, optimizer: Optimizer) -> Schedule:
    """Find the schedule that a trainer was asked for.

    Args:
        chosen: a name of :data:`schedules`, ``None`` for a constant learning rate, a function ``(optimizer, steps)`` or
            ``(optimizer)``, a class of ``torch.optim.lr_scheduler``, or an object over ``optimizer``.
        optimizer: the trainer's optimiser.

    Raises:
        UnknownNameError: for an unknown name.
        UserError: for an object over another optimiser, a class that needs settings, and anything else.
    """
    if chosen is None:
        return Schedule("constant", constant)
    if isinstance(chosen, str):
        return Schedule(chosen, schedules[chosen])
    if isinstance(chosen, LRScheduler):
        if chosen.optimizer is not optimizer:
            raise UserError(
                f"the schedule {type(chosen).__name__} belongs to another optimiser: hand that one in, too "
                "(optimizer=…), or a function (optimizer, steps) that makes the schedule"
            )
        return Schedule(type(chosen).__name__, lambda optimizer, steps: chosen, made=True)
    kind, given = (chosen.func, chosen.keywords) if isinstance(chosen, functools.partial) else (chosen, {})
    if isinstance(kind, type) and issubclass(kind, LRScheduler):
        return Schedule(described(chosen), _of_class(kind, given))
    if not callable(chosen):
        raise UserError(
            f"a schedule is a name, None (constant), a function (optimizer, steps) or of torch.optim.lr_scheduler, got "
            f"{chosen!r}"
        )
    return Schedule(described(chosen), _of_function(chosen))


def _of_class(kind: type[LRScheduler], given: dict[str, Any]) -> Callable[[Optimizer, int], LRScheduler]:
    """Return a function that makes a schedule of a class; the number of steps goes where the class has it."""
    parameters = inspect.signature(kind).parameters
    told = {"OneCycleLR": "total_steps", "CosineAnnealingLR": "T_max"}.get(kind.__name__)
    missing = [
        p.name for p in list(parameters.values())[1:]
        if p.default is p.empty and p.name not in given and p.name != told and p.name != "max_lr"
        and p.kind is p.POSITIONAL_OR_KEYWORD
    ]  # fmt: skip
    if missing or ("max_lr" in parameters and told is None and "max_lr" not in given):
        needs = ", ".join(missing or ["max_lr"])
        raise UserError(
            f"{kind.__name__} needs {needs}: hand in a function, "
            f"schedule=lambda optimizer, steps: {kind.__name__}(optimizer, {needs.split(', ')[0]}=…)"
        )

    def make(optimizer: Optimizer, steps: int) -> LRScheduler:
        options = dict(given)
        if told is not None:
            options.setdefault(told, steps)
        if told == "total_steps":
            options.setdefault("max_lr", [group["lr"] for group in optimizer.param_groups])
            options.setdefault("cycle_momentum", _sums(optimizer))
        return kind(optimizer, **options)

    return make


def _of_function(function: Callable[..., Any]) -> Callable[[Optimizer, int], LRScheduler]:
    alone = positional(function) == 1

    def make(optimizer: Optimizer, steps: int) -> LRScheduler:
        made = function(optimizer) if alone else function(optimizer, steps)
        if not isinstance(made, LRScheduler):
            raise UserError(f"the function for the schedule returned {type(made).__name__}, not a schedule of torch's")
        if made.optimizer is not optimizer:
            raise UserError(f"the function for the schedule made a {type(made).__name__} of another optimiser")
        return made

    return make


def check_length(schedule: LRScheduler, steps: int) -> None:
    """Refuse a schedule that ends before ``steps`` more steps are done, by :class:`~spikelfp.errors.UserError`."""
    total = getattr(schedule, "total_steps", None)
    if isinstance(total, int) and total - max(schedule.last_epoch, 0) < steps:
        raise UserError(
            f"the {type(schedule).__name__} was made for {total} steps, and training takes {steps} more: schedules "
            "step once per update; a function (optimizer, steps) is told how many there are"
        )


def plateau_metric(schedule: ReduceLROnPlateau, row: dict[str, float], task: Task) -> float:
    """Choose the metric of an epoch for a ``ReduceLROnPlateau``.

    It is the validation score where there is one, else the loss, else the training score. A score that moves against
    the mode of the schedule is turned round: 1 minus a share, minus anything else.

    Raises:
        UserError: for an epoch without any of them, or ``mode="max"`` with a loss alone.
    """
    rises = schedule.mode == "max"
    score = row.get(f"validation_{task.score}")
    if score is None and "loss" in row and not rises:
        return row["loss"]
    score = row.get(f"train_{task.score}") if score is None else score
    if score is None:
        raise UserError(
            f"ReduceLROnPlateau(mode={schedule.mode!r}) looks at the {task.score} or a falling loss, and this training "
            f"has neither, only {', '.join(row)}: choose another schedule"
        )
    return score if rises == task.rises else float(task.share) - score


def _sums(optimizer: Optimizer) -> bool:
    """Whether the optimiser has a momentum that sums updates, which a schedule may move."""
    options: dict[str, Any] = optimizer.defaults
    return "betas" in options or bool(options.get("momentum") and not options.get("dampening"))


@dataclass(frozen=True)
class Planned:
    """Steps that the present schedule spans.

    Attributes:
        total_steps: steps of the whole training, those before included; ``None`` before it is planned.
        schedule_start: step at which the schedule begins: 0, or the first one of an extension.
        epoch_steps: steps of an epoch; ``None`` where an older checkpoint does not say.
    """

    total_steps: int | None = None
    schedule_start: int = 0
    epoch_steps: int | None = None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Planned:
        """Read the plan of a checkpoint; the first version wrote the total alone."""
        return cls(content["total_steps"], content.get("schedule_start", 0), content.get("epoch_steps"))

    @property
    def scheduled(self) -> int:
        """Number of steps of the schedule."""
        return (self.total_steps or 0) - self.schedule_start

    def extended(
        self, position: Position, batches: int, epochs: int, schedule: Schedule, optimizer: Optimizer
    ) -> tuple[Planned, str]:
        """Plan for ``epochs`` epochs in all of so many ``batches``.

        Returns:
            The plan, and a line about what changes, or an empty one.

        Raises:
            UserError: for fewer epochs than are done.
            CheckpointError: for another end in the middle of a schedule that depends on it, or other data in the middle
                of an epoch.
        """
        if epochs < position.epoch or (epochs == position.epoch and position.batch):
            raise UserError(
                f"{position.epoch} epochs are done and {epochs} were asked for: epochs counts all of them, say more to "
                "go on"
            )
        end = position.step + batches * (epochs - position.epoch) - position.batch
        if self.total_steps is None or position.step == 0:
            return Planned(end, position.step, batches), ""
        if position.batch and self.epoch_steps not in (None, batches):
            raise CheckpointError(
                f"training stands at batch {position.batch} of {self.epoch_steps} of an epoch, and this data has "
                f"{batches} batches: the data set or the batch size changed; go on with those of before"
            )
        if end == self.total_steps:
            return replace(self, epoch_steps=batches), ""
        more = end - position.step
        if schedule.goes_on(optimizer):
            return Planned(end, self.schedule_start, batches), f"the schedule {schedule.name} goes on for {more} steps"
        if position.step >= self.total_steps:
            return Planned(end, position.step, batches), (
                f"the {schedule.name} schedule of {self.scheduled} steps is done: a new one follows over the {more} "
                "steps that are added"
            )
        done = position.step - self.schedule_start
        left = self.total_steps - position.step + position.batch
        finish = (
            f"finish it first (epochs={position.epoch + left // batches}) and extend it then"
            if left % batches == 0
            else "the data set or the batch size changed, go on with those of before"
        )
        raise CheckpointError(
            f"training was scheduled for {self.scheduled} steps ({schedule.name}), now for "
            f"{end - self.schedule_start}, and stands at {done}: such a schedule cannot be stretched in the middle; "
            f"{finish}, or start a new one with a new trainer of the same network"
        )


def check_epochs(epochs: Any) -> int:
    """Return the number of epochs; raise :class:`~spikelfp.errors.UserError` for all but a whole number above 0."""
    number = as_whole(epochs)
    if number is None and hasattr(epochs, "shape"):
        raise UserError("epochs is a whole number, got an array: data and labels go together, fit((X, y), epochs)")
    if number is None:
        raise UserError(f"epochs is a whole number, got {epochs!r}")
    if number < 1:
        raise UserError(f"the number of epochs must be at least 1, got {number}")
    return number


def check_patience(patience: int | None, validated: bool, task: Task) -> None:
    """Refuse a patience that is out of range, or has no validation score to look at, by a ``UserError``."""
    if patience is None:
        return
    if (as_whole(patience) or 0) < 1:
        raise UserError(f"patience is a whole number of epochs of at least 1, got {patience!r}")
    if not validated:
        raise UserError(f"patience={patience} looks at a validation {task.score}: hand in validation=…")


def ran_out(history: list[dict[str, float]], patience: int | None, task: Task) -> bool:
    """Whether the validation score has not improved on its best for ``patience`` epochs.

    Raises:
        UserError: for a patience, and an epoch without such a score.
    """
    name = f"validation_{task.score}"
    if patience is not None and history and name not in history[-1]:
        raise UserError(f"patience={patience} looks at a validation {task.score}: hand in validation=…")
    seen = [row[name] for row in history if name in row]
    if patience is None or not seen:
        return False
    best = 0
    for index, score in enumerate(seen):
        if task.better(score, seen[best]):
            best = index
    return len(seen) - 1 - best >= patience


def is_best(history: list[dict[str, float]], task: Task) -> bool:
    """Whether the last epoch is the best so far, by the validation score, or else by the training score."""
    name = next(
        (f"{part}_{task.score}" for part in ("validation", "train") if f"{part}_{task.score}" in history[-1]), ""
    )
    last = history[-1].get(name, math.nan)
    return not math.isnan(last) and not any(task.better(row[name], last) for row in history if name in row)
