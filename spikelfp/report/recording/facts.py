"""What is shown of one recording."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events import Events, EventSplits, Pipeline, Recordings, Sensor, SparseFrames, check_events
from spikelfp.data.events.show import RecordingNumbers, count, cut, elements, numbers_of, shrink, step_edges, time_edges
from spikelfp.errors import UserError
from spikelfp.registry import check_name, unknown_name
from spikelfp.report import wording

Array = NDArray[Any]

LARGEST = 480
"""Pixels of the longer side of an accumulated picture, at most."""

RATE_WINDOWS = 60
"""Windows of time in which events are counted for their rate."""


@dataclass(frozen=True)
class Recording:
    """The ``events`` of one recording, and what it is.

    name: in a few words. where: its file. label: its class, where that is known. pipeline: how it is made into the
    sequence that a network gets.

    Raises:
        DataError: for events that do not fit the sensor, and for none.
    """

    name: str
    where: str
    events: Events
    sensor: Sensor
    pipeline: Pipeline
    label: str | None = None

    def __post_init__(self) -> None:
        check_events(self.events, self.sensor, self.where)

    @property
    def is_camera(self) -> bool:
        """Whether it can be shown as a picture: with more than one row and column."""
        return is_camera(self.sensor)

    @cached_property
    def numbers(self) -> RecordingNumbers:
        return numbers_of(self.events, self.sensor)

    @cached_property
    def rate_edges(self) -> NDArray[np.int64]:
        """Of the windows that events are counted in, in µs."""
        return time_edges(self.events, RATE_WINDOWS)

    @property
    def line(self) -> Sensor:
        """The sensor as a line of its elements, polarities one after the other."""
        return Sensor(self.sensor.size)

    @cached_property
    def elements(self) -> Array:
        """The element ``[M]`` of every event."""
        return elements(self.events, self.sensor)

    @cached_property
    def sequence(self) -> SparseFrames:
        """What a network gets."""
        return self.pipeline(self.events, self.sensor)

    @property
    def seen(self) -> Sensor:
        """The sensor as a network gets it."""
        return self.pipeline.sensor(self.sensor)

    @cached_property
    def step_edges(self) -> NDArray[np.int64]:
        """When the steps of the sequence began and ended, in µs."""
        events, sensor = self.events, self.sensor
        for transform in self.pipeline.transforms:
            events, sensor = transform(events, sensor), transform.sensor(sensor)
        steps = self.sequence.steps
        if len(events) == 0:  # nothing is left, so that no step has a time
            return np.full(steps + 1, self.events["t"][0], dtype=np.int64)
        return step_edges(events, self.pipeline.binning, steps)

    def frames(self, edges: NDArray[np.int64]) -> list[Array]:
        """The events between the ``edges`` in µs, accumulated: ``[P, H, W]`` each; of large sensors over blocks of
        pixels."""
        return [shrink(count(part, self.sensor), LARGEST) for part in cut(self.events, edges)]


def is_camera(sensor: Sensor) -> bool:
    """Whether events of the sensor make a picture."""
    return min(sensor.height, sensor.width) > 1


def of_data_set(
    splits: EventSplits, part: str, index: int | None, label: str | None, pipeline: Pipeline | None
) -> Recording:
    """Recording ``index`` of a part, or the first of class ``label``, or the first.

    With both, the recording of that number among those of the class.

    Raises:
        UserError: for a part, a class or a number that is not there.
        DataError: for a recording that cannot be read.
    """
    parts: dict[str, Recordings] = {"train": splits.train, "test": splits.test}
    recordings = parts[check_name("part", part, parts)]
    among = np.arange(len(recordings))
    if label is not None:
        if label not in recordings.class_names:
            raise unknown_name(f"class of {splits.name}", label, recordings.class_names)
        among = np.flatnonzero(recordings.labels == recordings.class_names.index(label))
    number = 0 if index is None else index
    if not 0 <= number < len(among):
        of_class = "" if label is None else f" of class {label}"
        has = f"{len(among):,} recordings{of_class}" + (f", 0 to {len(among) - 1}" if len(among) else "")
        raise UserError(f"there is no recording {number} in {splits.name} {part}: it has {has}")
    chosen = int(among[number])
    return Recording(
        name=f"{wording.data_name(splits.name)} · {part} · recording {chosen}",
        where=recordings.where(chosen),
        events=recordings.read(chosen),
        sensor=recordings.sensor,
        pipeline=pipeline or splits.pipeline,
        label=recordings.class_names[int(recordings.labels[chosen])],
    )
