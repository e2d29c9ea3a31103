"""Learning rate over a run, by name, and how far a run is planned and extended.

A schedule is a function of the optimiser and the number of steps (updates) in all.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor
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

from spikelfp.described import described
from spikelfp.errors import CheckpointError, UserError
from spikelfp.options import option
from spikelfp.registry import Registry
from spikelfp.tasks import Task
from spikelfp.training.optimizer import positional
from spikelfp.training.update import Position

MakeSchedule = Callable[[Optimizer, int], LRScheduler]

schedules: Registry[Callable[..., LRScheduler]] = Registry("schedule", takes=("optimizer", "total_steps"))
"""Functions ``(optimizer, total_steps) → LRScheduler``, some with further keyword settings."""


@schedules.register("one-cycle")
def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Up to the learning rate in the first 30 % of the steps, then down to near 0 (Smith & Topin 2019; A.6.4).

    Adam's β₁ and the momentum of SGD run the other way, from 0.95 down to 0.85 and up again. A momentum that averages
    (dampening, as in eq. 5) keeps its α, and an optimiser without momentum gets none.
    """
    largest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=largest, total_steps=max(total_steps, 1), cycle_momentum=_sums(optimizer))


@schedules.register("constant")
def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The same learning rate throughout."""
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
    """``η γ^⌊k / step_size⌋`` at step k: times 0.1 every 40 steps in v1, A.1."""
    if step_size < 1 or not 0 < gamma <= 1:
        raise UserError(f"a step decay needs step_size of 1 or more and gamma in (0, 1], got {step_size} and {gamma}")
    return StepLR(optimizer, step_size, gamma)


@schedules.register("cosine")
def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """``η (1 + cos(π k / total_steps)) / 2`` at step k (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    return CosineAnnealingLR(optimizer, total_steps)


@schedules.register("linear")
def linear(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """``η (1 − k / total_steps)`` at step k."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total_steps)


@dataclass(frozen=True)
class Schedule:
    """The schedule that a trainer was given, to be made for a number of steps.

    Attributes:
        name: as it was given, in words.
        make: of an optimiser and the number of steps.
        made: an object was handed in, which cannot be made anew.
    """

    name: str
    make: Callable[[Optimizer, int], LRScheduler]
    made: bool = False

    def goes_on(self, optimizer: Optimizer) -> bool:
        """Whether the learning rate of a step does not depend on how many there are in all.

        Found by making it for two numbers of steps. Functions inside (``LambdaLR``) cannot be compared: taken for no.
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


def chosen_schedule(chosen: Any, optimizer: Optimizer) -> Schedule:
    """Find out what a trainer was given as its schedule.

    Args:
        chosen: a name of :data:`schedules`, ``None`` for a constant learning rate, a function ``(optimizer, steps)``
            or ``(optimizer)``, a class of ``torch.optim.lr_scheduler``, or an object over ``optimizer``.
        optimizer: the trainer's.

    Raises:
        UnknownNameError: for a name that no schedule has.
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
    """A function that makes a schedule of a class; the number of steps goes where the class has it."""
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
    """Raise :class:`~spikelfp.errors.UserError` for a schedule that ends before ``steps`` more steps are done."""
    total = getattr(schedule, "total_steps", None)
    if isinstance(total, int) and total - max(schedule.last_epoch, 0) < steps:
        raise UserError(
            f"the {type(schedule).__name__} was made for {total} steps, and training takes {steps} more: schedules "
            "step once per update; a function (optimizer, steps) is told how many there are"
        )


def plateau_metric(schedule: ReduceLROnPlateau, row: dict[str, float], task: Task) -> float:
    """Choose what a ReduceLROnPlateau looks at, of the metrics of an epoch.

    The validation score where there is one, else the loss, else the training score. A score that moves against the mode
    of the schedule is turned round: 1 minus a share, minus anything else.

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
    """The steps that the present schedule spans.

    Attributes:
        total_steps: of the whole training, those before included; ``None`` before it is planned.
        schedule_start: the step at which the schedule begins: 0, or where an extension began.
        epoch_steps: steps of an epoch; ``None`` where an older checkpoint does not say.
    """

    total_steps: int | None = None
    schedule_start: int = 0
    epoch_steps: int | None = None

    @classmethod
    def of(cls, content: dict[str, Any]) -> Planned:
        """As a checkpoint has it; the first version wrote the total alone."""
        return cls(content["total_steps"], content.get("schedule_start", 0), content.get("epoch_steps"))

    @property
    def scheduled(self) -> int:
        """Steps of the schedule."""
        return (self.total_steps or 0) - self.schedule_start

    def extended(
        self, position: Position, batches: int, epochs: int, schedule: Schedule, optimizer: Optimizer
    ) -> tuple[Planned, str]:
        """Plan for ``epochs`` epochs in all of so many ``batches``; with a line about what changes, or nothing.

        Raises:
            UserError: for fewer epochs than are done.
            CheckpointError: for another end in the middle of a schedule that depends on it, or other data in the
                middle of an epoch.
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
    """The number of epochs, or :class:`~spikelfp.errors.UserError` for anything but a whole number of at least 1."""
    if isinstance(epochs, Tensor) or hasattr(epochs, "shape"):
        raise UserError("epochs is a whole number, got an array: data and labels go together, fit((X, y), epochs)")
    if isinstance(epochs, bool) or not isinstance(epochs, int):
        raise UserError(f"epochs is a whole number, got {epochs!r}")
    if epochs < 1:
        raise UserError(f"the number of epochs must be at least 1, got {epochs}")
    return epochs


def check_patience(patience: int | None, validated: bool, task: Task) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for a patience out of range, or without what it looks at."""
    if patience is None:
        return
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise UserError(f"patience is a whole number of epochs of at least 1, got {patience!r}")
    if not validated:
        raise UserError(f"patience={patience} looks at a validation {task.score}: hand in validation=…")


def ran_out(history: list[dict[str, float]], patience: int | None, task: Task) -> bool:
    """Whether the validation score has not become better than its best for ``patience`` epochs.

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
    """Whether no epoch was better than the last, by its validation score or else that of training."""
    name = next(
        (f"{part}_{task.score}" for part in ("validation", "train") if f"{part}_{task.score}" in history[-1]), ""
    )
    last = history[-1].get(name, math.nan)
    return not math.isnan(last) and not any(task.better(row[name], last) for row in history if name in row)
