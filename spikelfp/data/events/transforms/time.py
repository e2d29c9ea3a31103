"""Transforms of times."""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import check_whole
from spikelfp.data.events.transforms.base import Transform, select, transforms
from spikelfp.errors import UserError


@transforms.register("time-crop")
@dataclass(frozen=True)
class TimeCrop(Transform):
    """Keeps the events of ``start_us ≤ t ≤ end_us``, as tonic's ``CropTime``.

    Times do not change. With :class:`AlignTime` before it, they count from the first event.

    Attributes:
        start_us: µs by the clock of the recording.
        end_us: µs by the clock of the recording.

    Raises:
        UserError: for an end before the start.
    """

    start_us: int
    end_us: int

    def __post_init__(self) -> None:
        for name in ("start_us", "end_us"):
            check_whole(f"{name} of time-crop", getattr(self, name), -(2**62), " µs")
        if self.end_us < self.start_us:
            raise UserError(f"time-crop ends at {self.end_us} µs, before its start at {self.start_us} µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events in between."""
        times = events["t"]
        return select(events, (times >= self.start_us) & (times <= self.end_us))


@transforms.register("downsample-time")
@dataclass(frozen=True)
class DownsampleTime(Transform):
    """Rounds times down to steps: ``t' = ⌊t / us⌋ · us``, still in µs.

    tonic's ``Downsample(time_factor=1/us)`` gives ``t' / us``, up to its rounding of ``1/us``.

    Attributes:
        us: µs of a step.

    Raises:
        UserError: for less than 1.
    """

    us: int

    def __post_init__(self) -> None:
        check_whole("us of downsample-time", self.us, 1, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Round the times down."""
        coarse = events.copy()
        coarse["t"] -= coarse["t"] % self.us
        return coarse


@transforms.register("align-time")
@dataclass(frozen=True)
class AlignTime(Transform):
    """Counts times from the first event: ``t' = t − t[0]``, as tonic's ``TimeAlignment``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Move the first event to time 0."""
        aligned = events.copy()
        aligned["t"] -= aligned["t"][:1]
        return aligned
