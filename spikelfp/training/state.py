"""Where a training run stands: its place in the epochs, and the sums over the epoch so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spikelfp.rewards.mask import masked

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
    """What one batch showed: its samples, how many were right, and the means over it of what the method watches.

    The numbers may be scalar tensors: reading one waits for the device.
    """

    samples: int
    correct: Any = 0
    watched: dict[str, Any] = field(default_factory=dict)
    classified: bool = True  # labels were classes, and correct counts
    density: float | None = None


@dataclass
class Tally:
    """Sums over the epoch so far; tensors until it ends, so that a GPU is not waited for."""

    samples: int = 0
    batches: int = 0
    correct: Any = 0
    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    density: float = 0.0
    density_looks: int = 0
    classified: bool = True

    def __post_init__(self) -> None:
        for name in self.sums:  # in checkpoints without counts every batch had every value
            self.counts.setdefault(name, self.batches)

    def add(self, seen: Seen) -> None:
        self.samples += seen.samples
        self.batches += 1
        self.correct = self.correct + seen.correct
        self.classified = self.classified and seen.classified
        for name, value in seen.watched.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        if seen.density is not None:
            self.density += seen.density
            self.density_looks += 1

    def means(self) -> dict[str, float]:
        """What the epoch adds up to, as a row of ``metrics.csv``."""
        row = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        if self.classified:
            row["train_accuracy"] = float(self.correct) / self.samples
        if self.density_looks:
            row["update_density"] = self.density / self.density_looks
        return row


def predict(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Class of each sample ``[B]``: the largest output summed over time ``[T, B, C]`` (A.6.4).

    mask: boolean ``[T, B]``, the steps that count; by default all.
    """
    return scores(outputs, mask).argmax(-1)


def scores(outputs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Outputs ``[T, B, C]`` summed over the steps that count, ``[B, C]``."""
    return (outputs if mask is None else masked(outputs, mask)).sum(0)
