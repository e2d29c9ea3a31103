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
    """The events of ``start_us ≤ t ≤ end_us``, both by the clock of the recording; tonic's ``CropTime``.

    Times stay as they are. :class:`AlignTime` before it makes them count from the first event.

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
        """The events in between."""
        times = events["t"]
        return select(events, (times >= self.start_us) & (times <= self.end_us))


@transforms.register("downsample-time")
@dataclass(frozen=True)
class DownsampleTime(Transform):
    """Times in steps of ``us``, rounded down, still in µs: ``t' = ⌊t / us⌋ · us``.

    tonic's ``Downsample(time_factor=1/us)`` gives ``t' / us``, up to its rounding of ``1/us``.

    Raises:
        UserError: for less than 1.
    """

    us: int

    def __post_init__(self) -> None:
        check_whole("us of downsample-time", self.us, 1, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The same events, many at the same time."""
        coarse = events.copy()
        coarse["t"] -= coarse["t"] % self.us
        return coarse


@transforms.register("align-time")
@dataclass(frozen=True)
class AlignTime(Transform):
    """Times from the first event on, ``t' = t − t[0]``; tonic's ``TimeAlignment``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The same events, the first at 0."""
        aligned = events.copy()
        aligned["t"] -= aligned["t"][:1]
        return aligned
