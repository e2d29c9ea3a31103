"""Small event data for the tests of the report: sequences in memory, and recordings in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikelfp.data.events import EVENT, Events, Sensor
from spikelfp.data.loader import Sequences
from spikelfp.data.samples import Samples

CAMERA, LINE = Sensor(12, 9, 2), Sensor(15)


class Kept(Samples):
    """Sequences ``[T, …]`` of unequal lengths, put side by side as those of a cache are."""

    def __init__(self, sequences: list[Tensor], labels: list[int], sparse: bool = False, longer: int = 0) -> None:
        """longer: steps of padding even behind the longest of a batch."""
        self.sequences, self.labels = sequences, torch.tensor(labels)
        self.sparse, self.longer = sparse, longer

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sequences[0].shape[1:])

    @property
    def levels(self) -> int | None:
        return 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.sequences[index], self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Sequences, Tensor]:
        chosen = [self.sequences[i] for i in indices]
        lengths = torch.tensor([len(each) for each in chosen])
        values = torch.zeros(int(lengths.max()) + self.longer, len(chosen), *self.shape)
        for column, each in enumerate(chosen):
            values[: len(each), column] = each
        equal = not self.longer and bool((lengths == lengths[0]).all())
        dense_or_not = values.to_sparse().coalesce() if self.sparse else values
        return Sequences(dense_or_not, None if equal else lengths), self.labels[list(indices)]

    def subset(self, indices: Tensor) -> Kept:
        rows = indices.tolist()
        return Kept([self.sequences[i] for i in rows], self.labels[rows].tolist(), self.sparse, self.longer)


def kept(sensor: Sensor, lengths: Sequence[int], classes: int, **options: object) -> Kept:
    """Random spikes on a sensor, one sequence for each of the ``lengths``."""
    torch.manual_seed(1)
    sequences = [(torch.rand(length, *sensor.shape) < 0.3).float() for length in lengths]
    labels = [index % classes for index in range(len(lengths))]
    return Kept(sequences, labels, **options)  # type: ignore[arg-type]


def recorded(sensor: Sensor, number: int = 200, span: int = 50_000, seed: int = 0, start: int = 0) -> Events:
    """Random events, sorted by time, the first at ``start`` µs and the last ``span`` µs later."""
    random = np.random.default_rng(seed)
    events = np.zeros(number, EVENT)
    events["t"] = np.sort(random.integers(0, span + 1, number)) + start
    events["t"][[0, -1]] = start, start + span
    for name, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        events[name] = random.integers(0, end, number)
    return events


def folder_of(sensor: Sensor, folder: Path, classes: int = 2, each: int = 12) -> Path:
    """A folder with a folder of ``.npy`` recordings for each class, some longer than others."""
    for label in range(classes):
        (folder / f"kind{label}").mkdir(parents=True)
        for number in range(each):
            events = recorded(sensor, span=30_000 + 4_000 * (number % 3), seed=100 * label + number)
            events["x"] = np.minimum(events["x"], sensor.width // (label + 1) - 1)
            events["x"][0] = sensor.width - 1
            np.save(folder / f"kind{label}" / f"{number}.npy", events)
    return folder
