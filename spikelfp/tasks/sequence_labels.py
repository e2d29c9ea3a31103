"""Task of a class for every step of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from spikelfp.errors import ShapeError, UserError
from spikelfp.rewards import Reward
from spikelfp.rewards.base import class_numbers, masked
from spikelfp.tasks.base import Judge, Task, TaskReward, check_outputs, tasks

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale

NONE = -1
"""Prediction at a step that does not count."""


@tasks.register("sequence-labels")
class SequenceLabels(Task):
    """Task of naming a class at every step that counts: the class of the largest linear output.

    Targets are class numbers ``[B, T]``, samples first like all data; those after the end of a sequence are ignored.
    The loss is the softmax cross-entropy of each step, a mean over a sample's own steps, then over the samples. The
    score is the share of right steps among all that count.
    """

    name = "sequence-labels"
    score = "step_accuracy"
    title = "accuracy of steps"
    meaning = "share of steps whose right class has the largest output"
    kind = "steps"

    def __init__(self) -> None:
        pass

    def check(
        self,
        targets: Tensor,
        outputs: Tensor,
        whole: Tensor | None = None,
        *,
        of: str = "",
        spikes: bool = False,
        first: int = 0,
    ) -> None:
        check_outputs(self.name, outputs)
        classes = outputs.shape[-1]
        _check(targets, len(outputs))
        if classes < 2:
            raise ShapeError(f"{self.name} takes a network of two outputs or more, one for each class, got {classes}")
        high = int(targets[:, : len(outputs)].max()) if targets.numel() else 0
        if high >= classes:
            raise ShapeError(f"label {high} is outside 0 to {classes - 1}: the network has {classes} outputs")

    def during(self, targets: Tensor, start: int, steps: int) -> Tensor:
        """Take the targets of some steps.

        Args:
            targets: ``[B, T]``.
            start: number of the first step.
            steps: number of steps.
        """
        return targets[:, start : start + steps]

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is None:
            return self._losses(outputs, targets, None).mean()
        return (self._losses(outputs, targets, weights > 0) * weights).sum()

    def _losses(self, outputs: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
        """Cross-entropy ``[T, B]`` of each step, 0 where it does not count."""
        labels = _by_step(targets, mask, outputs)
        outputs = outputs if mask is None else masked(outputs, mask)
        losses = cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none").view(outputs.shape[:2])
        return losses if mask is None else losses.masked_fill(~mask, 0)

    def judge(self, targets: Tensor | None, mask: Tensor | None, steps: int, samples: int, loss: bool = False) -> Judge:
        return _StepJudge(self, targets, mask, steps, samples, loss)

    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        return {"step_accuracy": float(sums["correct"]) / float(sums["steps"])} if sums else {}

    def _no_errors(self) -> NoReturn:
        raise UserError(
            f"{self.name} has a target for every step, and this method sends one error of each sample to the layers: "
            "take another method (lfp, gradient, surrogate), or another task"
        )

    @property
    def loss_meaning(self) -> str:
        return "softmax cross-entropy of each step"

    def reward(self, spikes: bool) -> Reward:
        self.outputs_suit(spikes)
        return TaskReward(self)


class _StepJudge(Judge):
    """Outputs of every step, whose classes are compared as they come."""

    task: SequenceLabels

    def __init__(
        self,
        task: Task,
        targets: Tensor | None,
        mask: Tensor | None,
        steps: int,
        samples: int,
        loss: bool = False,
    ) -> None:
        super().__init__(task, targets, mask, steps, samples, loss)
        self._outputs: list[Tensor] = []
        self._at = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, outputs: Tensor, start: int) -> None:
        mask = self._mask(start, len(outputs))
        if self.targets is None:
            self._outputs.append(outputs)
            return
        targets = self.targets[:, start:]
        right = outputs.argmax(-1) == _by_step(targets, mask, outputs)
        counting = torch.ones_like(right) if mask is None else mask
        found = {"correct": (right & counting).sum(), "steps": counting.sum()}
        if self.loss:
            own = self.steps if self.mask is None else self.mask.sum(0)
            losses = self.task._losses(outputs, targets, mask)
            found["loss"] = (losses / own).sum(dtype=torch.float64)
        self._sums = {name: value + self._sums[name] if self._sums else value for name, value in found.items()}

    def reading(self) -> Tensor:
        """Return the outputs ``[B, T, C]``."""
        return torch.cat(self._outputs).transpose(0, 1)

    def predictions(self) -> Tensor:
        """Predict classes int64 ``[B, T]``, :data:`NONE` at the steps that do not count."""
        classes = self.reading().argmax(-1)
        return classes if self.mask is None else classes.masked_fill(~self.mask.T[:, : classes.shape[1]], NONE)

    def sums(self) -> dict[str, Tensor]:
        samples = torch.full((), self.samples, device=self._sums["correct"].device)
        return {"samples": samples, **self._sums}


def _check(targets: Tensor, steps: int) -> None:
    if targets.dim() != 2 or targets.is_floating_point() or targets.is_complex() or targets.shape[1] < steps:
        raise ShapeError(
            f"sequence-labels takes a class number for every step, integers [B, T] for sequences of {steps} steps, got "
            f"{targets.dtype} of shape {list(targets.shape)}"
            + (': task="classification" for one class each' if targets.dim() == 1 else "")
        )


def _by_step(targets: Tensor, mask: Tensor | None, outputs: Tensor) -> Tensor:
    """Labels int64 ``[T, B]`` that name a class, 0 at the steps that do not count."""
    _check(targets, len(outputs))
    labels = targets[:, : len(outputs)].T
    if mask is not None:
        labels = labels.masked_fill(~mask, 0)
    return class_numbers(labels.flatten(), outputs.shape[-1]).view(outputs.shape[:2])
