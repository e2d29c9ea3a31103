"""Where a training run stands: its place in the epochs, and the sums over the epoch so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Position:
    """Where training stands: ``batch`` batches into ``epoch``, after ``step`` steps in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Tally:
    """Sums over the epoch so far; tensors until it ends, so that a GPU is not waited for."""

    samples: int = 0
    batches: int = 0
    correct: Any = 0
    sums: dict[str, Any] = field(default_factory=dict)
    density: float = 0.0
    density_looks: int = 0

    def add(self, outputs: Tensor, labels: Tensor, watched: dict[str, Tensor]) -> None:
        self.samples += len(labels)
        self.batches += 1
        self.correct = self.correct + (predict(outputs) == labels).sum()
        for name, value in watched.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def means(self) -> dict[str, float]:
        """What the epoch adds up to, as a row of ``metrics.csv``."""
        row = {name: float(value) / self.batches for name, value in self.sums.items()}
        row["train_accuracy"] = float(self.correct) / self.samples
        if self.density_looks:
            row["update_density"] = self.density / self.density_looks
        return row


def predict(outputs: Tensor) -> Tensor:
    """Class of each sample ``[B]``: the largest output summed over time ``[T, B, C]`` (A.6.4)."""
    return outputs.sum(0).argmax(-1)
