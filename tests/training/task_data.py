"""Small data of every task, networks for them, and the trainers that several processes make alike."""

from __future__ import annotations

from typing import Any

import torch

from spikelfp import data, models
from spikelfp.data import DataSplits, TargetScale
from spikelfp.training import TemporalTrainer

KINDS = {"regression": 2, "multi-label": 3, "sequence-labels": 3}
"""Tasks, and outputs of a network for the data below."""

STEPS = 6


def samples(task: str, count: int = 90, scale: TargetScale | None = None, seed: int = 0) -> Any:
    """A data set of which a linear function is to be learnt; sequences of unequal lengths for labels of steps."""
    random = torch.Generator().manual_seed(seed)
    if task == "sequence-labels":
        x = torch.randn(count, STEPS, 4, generator=random)
        lengths = torch.randint(2, STEPS + 1, (count,), generator=random)
        return data.arrays(x, (x[..., 0] > 0).long() + (x[..., 1] > 0).long(), lengths=lengths)
    x = torch.randn(count, 4, generator=random)
    if task == "multi-label":
        return data.arrays(x, (x[:, :3] > 0.3).long())
    y = torch.stack([x[:, 0] - x[:, 1], 0.5 * x[:, 2] + 0.1], 1)
    return data.ArrayDataset(x, y, target_scale=scale)


def splits(task: str, scale: TargetScale | None = None) -> DataSplits:
    """Training and test part of it."""
    parts = samples(task, 90, scale), samples(task, 40, scale, seed=1)
    outputs = KINDS[task]
    return DataSplits(f"made for {task}", *parts, outputs, (4,), tuple(f"output {k}" for k in range(outputs)))


def make(kind: str, dtype: torch.dtype = torch.float32, /, **options: Any) -> TemporalTrainer:
    """A trainer for that data."""
    torch.manual_seed(0)
    net = models.lif_mlp([4, 16, KINDS[kind]], readout="li", beta=0.6).to(dtype)
    steps = None if kind == "sequence-labels" else STEPS
    given = {"task": kind, "steps": steps, "batch_size": 16, "lr": 0.01, "device": "cpu", "progress": False}
    return TemporalTrainer(net, **{**given, **options})
