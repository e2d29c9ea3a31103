"""Small recordings made from a seed, some of which cannot be read."""

from __future__ import annotations

import time

import numpy as np

from spikelfp.data.events import EVENT, Binning, Events, Pipeline, Recordings, Sensor, SparseFrames, check_events
from spikelfp.data.events.batching import PackedFrames
from spikelfp.errors import DataError


class Toy(Recordings):
    """``n`` recordings of up to 60 events on 5 x 4 pixels.

    bad: numbers of those that cannot be read. seconds: that reading one takes. seed: of the content.
    """

    def __init__(
        self, n: int = 12, bad: tuple[int, ...] = (), seed: int = 0, seconds: float = 0.0, name: str = "toy train"
    ) -> None:
        self.name, self.sensor, self.class_names = name, Sensor(5, 4, 2), ("a", "b", "c")
        self.labels = np.arange(n) % 3
        self.bad, self.seed, self.seconds = bad, seed, seconds
        self.reads = 0

    def read(self, index: int) -> Events:
        self.reads += 1
        time.sleep(self.seconds)
        if index in self.bad:
            raise DataError(f"{self.where(index)}: truncated at byte {100 + index}")
        random = np.random.default_rng((self.seed, index))
        events = np.zeros(int(random.integers(1, 61)), EVENT)
        events["t"] = np.sort(random.integers(0, 100, len(events)))
        for field, end in (("x", 5), ("y", 4), ("p", 2)):
            events[field] = random.integers(0, end, len(events))
        return check_events(events, self.sensor, self.where(index))

    def where(self, index: int) -> str:
        return f"toy/{index}.bin"

    def fingerprint(self) -> str:
        return f"toy {self.seed} {self.bad} {self.labels.tolist()}"


def frames_of(recordings: Recordings, index: int, binning: Binning) -> np.ndarray:
    """``[T, P, H, W]`` of one recording, event by event, straight from what :class:`Binning` says."""
    events, sensor = recordings.read(index), recordings.sensor
    first, last = int(events["t"][0]), int(events["t"][-1])
    steps = []
    for number, time_ in enumerate(events["t"].tolist()):
        if binning.bins is not None:
            steps.append((time_ - first) * binning.bins // (last - first + 1))
        elif binning.window is not None:
            steps.append((time_ - first) // binning.window)
        else:
            steps.append(number // binning.count)
    length = binning.bins or min(steps[-1] + 1, binning.most or 10**9)
    values = np.zeros((length, *sensor.shape), np.float32)
    for step, event in zip(steps, events, strict=True):
        if step < length:
            values[step, event["p"], event["y"], event["x"]] += 1
    return np.minimum(values, binning.levels) / np.float32(binning.levels)


BINS = Pipeline(Binning(bins=3))
WINDOW = Pipeline(Binning(window=10, levels=4))
COUNT = Pipeline(Binning(count=7, most=5, levels=300))
PIPELINES = (BINS, WINDOW, COUNT)


def pack(sequences: list[SparseFrames]) -> PackedFrames:
    """At least one sequence, one after the other."""
    lengths = [len(frames.places) for frames in sequences]
    return PackedFrames(
        np.concatenate([frames.places for frames in sequences]),
        np.concatenate([frames.counts for frames in sequences]),
        np.cumsum([0, *lengths], dtype=np.int64),
        np.array([frames.steps for frames in sequences], np.int64),
    )
