"""Where a training run stands: its place in the epochs, and the sums over the epoch so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spikelfp.data.samples import TargetScale
from spikelfp.rewards.mask import masked
from spikelfp.tasks import Task

MEASURED = ("seconds",)
"""Entries of a row of metrics that are no outcome of training: equal runs differ in them, and checkpoints lack them."""


@dataclass
class Position:
    """Where training stands: ``batch`` batches into ``epoch``, after ``step`` steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Seen:
    """What one batch showed. The numbers may be tensors: reading one waits for the device.

    Attributes:
        samples: of the batch, those of all workers.
        watched: means over it of what the method watches.
        score: what its samples add to the score of the task, empty where its targets cannot be judged.
        density: share of the weights that the update touched; ``None`` where nobody looked.
    """

    samples: int
    watched: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Tensor] = field(default_factory=dict)
    density: float | None = None

    @property
    def correct(self) -> Any:
        """How many samples (or steps) were right, where they have classes."""
        return self.score.get("correct", 0)

    def judge(self, found: dict[str, Tensor]) -> None:
        """Add the sums of some more samples."""
        self.score = added(self.score, found)


@dataclass
class Tally:
    """Sums over the epoch so far; tensors until it ends, so that a GPU is not waited for."""

    samples: int = 0
    batches: int = 0
    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    judged: bool = True
    density: float = 0.0
    density_looks: int = 0

    @classmethod
    def of(cls, content: dict[str, Any]) -> Tally:
        """As a checkpoint has it; the first versions counted right classes alone."""
        content = dict(content)
        correct, judged = content.pop("correct", None), content.pop("classified", True)
        if correct is not None:
            seen = {"samples": content["samples"], "correct": correct} if content["samples"] else {}
            content |= {"score": seen, "judged": judged}
        if "counts" not in content:  # every batch had every value
            content["counts"] = dict.fromkeys(content["sums"], content["batches"])
        return cls(**content)

    def add(self, seen: Seen) -> None:
        """Take in a batch."""
        self.samples += seen.samples
        self.batches += 1
        self.judged = self.judged and bool(seen.score)
        self.score = added(self.score, seen.score) if self.judged else {}
        for name, value in seen.watched.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if seen.density is not None:
            self.density += seen.density
            self.density_looks += 1

    def means(self, task: Task, scale: TargetScale | None = None) -> dict[str, float]:
        """What the epoch adds up to, as a row of ``metrics.csv``; ``scale``: that of the targets."""
        row = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        row |= self.judgement(task, scale)
        if self.density_looks:
            row["update_density"] = self.density / self.density_looks
        return row

    def judgement(self, task: Task, scale: TargetScale | None = None) -> dict[str, float]:
        """The score of the epoch so far, and the loss where the method does not watch one; empty where none is known.

        Raises:
            KeyError: for sums of another task.
        """
        if not self.judged or not self.score:
            return {}
        found = {f"train_{task.score}": task.metrics(self.score, scale)[task.score]}
        if "loss" in self.score and "loss" not in self.sums:
            found = {"loss": float(self.score["loss"]) / float(self.score["samples"]), **found}
        return found


def added(sums: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Sums of both, by name."""
    return {name: value + sums[name] if name in sums else value for name, value in more.items()} if more else sums


def predict(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Class of each sample ``[B]``: the largest output summed over time ``[T, B, C]`` (A.6.4).

    mask: boolean ``[T, B]``, the steps that count; by default all.
    """
    return scores(outputs, mask).argmax(-1)


def scores(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Outputs ``[T, B, C]`` summed over the steps that count, ``[B, C]``."""
    return (outputs if mask is None else masked(outputs, mask)).sum(0)
