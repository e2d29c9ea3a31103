"""Transforms of the coordinates of events: columns, rows, times and polarities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import check_whole
from spikelfp.data.events.transforms.base import Transform, select, transforms
from spikelfp.errors import UserError
from spikelfp.scalars import keep_plain


@transforms.register("crop")
@dataclass(frozen=True)
class Crop(Transform):
    """Keeps the events of a rectangle. On a line of channels, ``y`` is 0 and ``height`` 1.

    Attributes:
        x: first column.
        y: first row.
        width: columns.
        height: rows.

    Raises:
        UserError: for a rectangle without pixels or, on a sensor, one that reaches over its edge.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        keep_plain(self)
        for name, least in (("x", 0), ("y", 0), ("width", 1), ("height", 1)):
            check_whole(f"{name} of crop", getattr(self, name), least)

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the rectangle."""
        if self.x + self.width > sensor.width or self.y + self.height > sensor.height:
            raise UserError(
                f"crop of {self.width} x {self.height} from column {self.x} and row {self.y} on reaches over the edge "
                f"of the sensor of {sensor}"
            )
        return replace(sensor, width=self.width, height=self.height)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events within, and count their columns and rows from its corner."""
        self.sensor(sensor)
        x, y = events["x"], events["y"]
        within = (x >= self.x) & (x < self.x + self.width) & (y >= self.y) & (y < self.y + self.height)
        kept = select(events, within)
        kept["x"] -= self.x
        kept["y"] -= self.y
        return kept


@transforms.register("center-crop")
@dataclass(frozen=True)
class CenterCrop(Transform):
    """Keeps the middle of the sensor, as tonic's ``CenterCrop``.

    Where an odd number of columns or rows is left out, one more of them is at the right or the bottom.

    Attributes:
        size: columns and rows, or channels of a line.

    Raises:
        UserError: for a size below 1 or, on a sensor, above its own.
    """

    size: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("size of center-crop", self.size, 1)

    def _crop(self, sensor: Sensor) -> Crop:
        height = 1 if sensor.is_line else self.size
        if self.size > sensor.width or height > sensor.height:
            raise UserError(f"center-crop of {self.size} is larger than the sensor of {sensor}")
        return Crop((sensor.width - self.size) // 2, (sensor.height - height) // 2, self.size, height)

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the middle of the sensor."""
        return self._crop(sensor).sensor(sensor)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events in the middle."""
        return self._crop(sensor)(events, sensor)


@transforms.register("flip-x")
@dataclass(frozen=True)
class FlipX(Transform):
    """Mirrors the columns: ``x' = W − 1 − x``, as tonic's ``RandomFlipLR(p=1)``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Mirror the events left to right."""
        flipped = events.copy()
        flipped["x"] = sensor.width - 1 - flipped["x"]
        return flipped


@transforms.register("flip-y")
@dataclass(frozen=True)
class FlipY(Transform):
    """Turns the rows upside down: ``y' = H − 1 − y``, as tonic's ``RandomFlipUD(p=1)``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Turn the events upside down."""
        flipped = events.copy()
        flipped["y"] = sensor.height - 1 - flipped["y"]
        return flipped


@transforms.register("downsample")
@dataclass(frozen=True)
class Downsample(Transform):
    """Joins squares of pixels, or neighbouring channels of a line, to one: ``x' = ⌊x / factor⌋``.

    All events are kept. Pixels left over at the edge become a smaller square. Equal to tonic's
    ``Downsample(spatial_factor=1/factor)``, up to its rounding of ``1/factor``.

    Attributes:
        factor: pixels along a side of a square.

    Raises:
        UserError: for a factor below 1.
    """

    factor: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("factor of downsample", self.factor, 1)

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the smaller sensor."""
        return replace(sensor, width=-(-sensor.width // self.factor), height=-(-sensor.height // self.factor))

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Divide columns and rows by the factor."""
        smaller = events.copy()
        for field in "xy":
            smaller[field] = smaller[field].astype(np.int64) // self.factor
        return smaller


@transforms.register("flip-polarity")
@dataclass(frozen=True)
class FlipPolarity(Transform):
    """Swaps ON and OFF events: ``p' = 1 − p``, as tonic's ``RandomFlipPolarity(p=1)``.

    Raises:
        UserError: on a sensor of one polarity.
    """

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the sensor, if it has two polarities."""
        if sensor.polarities != 2:
            raise UserError(f"flip-polarity needs a sensor of two polarities, this one has {sensor}")
        return sensor

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Swap the polarities."""
        self.sensor(sensor)
        flipped = events.copy()
        flipped["p"] = 1 - flipped["p"]
        return flipped


@transforms.register("merge-polarities")
@dataclass(frozen=True)
class MergePolarities(Transform):
    """Makes one polarity of both: ``p' = 0``, as tonic's ``MergePolarities``."""

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the sensor with one polarity."""
        return replace(sensor, polarities=1)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Set all polarities to 0."""
        merged = events.copy()
        merged["p"] = 0
        return merged


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
        keep_plain(self)
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
        keep_plain(self)
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
