"""How far a training is planned, and how it is extended."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from spikelfp.errors import CheckpointError, UserError
from spikelfp.tasks import Task
from spikelfp.training.schedule import Schedule
from spikelfp.training.state import Position


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
