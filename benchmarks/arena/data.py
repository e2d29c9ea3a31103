"""Plug-in with the data sets of the arena: folds of N-MNIST, and two tasks that are in the times of spikes alone.

``intervals`` and ``coincidence`` are made by code. In both of them every channel fires equally often in every sample,
so a classifier of counts is at chance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikelfp.data import DataSplits, arrays, datasets
from spikelfp.data.events.recordings import EventSplits, recordings
from spikelfp.data.events.sources.base import Joined, Subset
from spikelfp.data.events.sources.nmnist import nmnist

FOLDS = 5
TRAIN, TEST = 2000, 1000
"""Samples of the tasks that are made by code."""
CHANNELS, STEPS = 20, 50


def fold(data_dir: Path | None, number: int) -> EventSplits:
    """Join all recordings of N-MNIST that there are, and hold every fifth out for the test, in a fixed random order.

    Args:
        data_dir: the data folder.
        number: of the fold, from 0 on.
    """
    whole = nmnist(data_dir)
    joined = Joined((whole.train, whole.test), "nmnist")
    order = np.random.default_rng(0).permutation(len(joined))
    held = np.arange(len(order)) % FOLDS == number
    name = f"nmnist-fold-{number}"
    train, test = (
        Subset(joined, np.sort(order[chosen]), f"{name} {part}") for part, chosen in (("train", ~held), ("test", held))
    )
    return EventSplits(name, train, test, whole.pipeline)


def _register(number: int) -> None:
    @recordings.register(f"nmnist-fold-{number}")
    def one(data_dir: Path | None = None, *, skip_bad: bool = False) -> EventSplits:
        """Load one of five folds of all recordings of N-MNIST."""
        return fold(data_dir, number)


for _number in range(FOLDS):
    _register(_number)


@datasets.register("intervals")
def intervals(data_dir: Path | None = None) -> DataSplits:
    """Make samples whose class is the time between two volleys: 4, 8, 12 or 16 steps.

    Every channel fires once in each volley, up to one step early or late. The first volley begins at a random step.
    """
    return _splits("intervals", _interval, ("4 steps", "8 steps", "12 steps", "16 steps"))


@datasets.register("coincidence")
def coincidence(data_dir: Path | None = None) -> DataSplits:
    """Make samples of two groups of ten channels: whether channel ``i`` of both groups fires at the same steps.

    Every channel fires at three random steps. In class ``together`` those of the second group are the same as those of
    the first; in class ``apart`` they are drawn for themselves.
    """
    return _splits("coincidence", _coincident, ("apart", "together"))


def _interval(label: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(2, STEPS - 20, (), generator=generator))
    sample = torch.zeros(STEPS, CHANNELS, dtype=torch.uint8)
    for begin in (first, first + 4 * (label + 1)):
        steps = begin + torch.randint(-1, 2, (CHANNELS,), generator=generator)
        sample[steps, torch.arange(CHANNELS)] = 1
    return sample


def _coincident(label: int, generator: torch.Generator) -> Tensor:
    half = CHANNELS // 2
    first, second = (torch.rand(STEPS, half, generator=generator).argsort(0).lt(3) for _ in range(2))
    return torch.cat([first, first if label else second], 1).to(torch.uint8)


def _splits(name: str, make: Callable[[int, torch.Generator], Tensor], names: tuple[str, ...]) -> DataSplits:
    """Make balanced training and test parts, always the same."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for samples in (TRAIN, TEST):
        labels = torch.arange(samples) % len(names)
        values = torch.stack([make(int(label), generator) for label in labels])
        parts.append(arrays(values, labels, sequences=True, classes=len(names)))
    return DataSplits(name, *parts, outputs=len(names), shape=(CHANNELS,), names=names)
