"""Transforms of columns and rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import check_whole
from spikelfp.data.events.transforms.base import Transform, select, transforms
from spikelfp.errors import UserError


@transforms.register("crop")
@dataclass(frozen=True)
class Crop(Transform):
    """The rectangle of ``width`` columns from ``x`` on and ``height`` rows from ``y`` on; what lies outside is lost.

    Of a line of channels, those from ``x`` on; ``y`` is 0 and ``height`` 1.

    Raises:
        UserError: for a rectangle without pixels or, on a sensor, one that reaches over its edge.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, least in (("x", 0), ("y", 0), ("width", 1), ("height", 1)):
            check_whole(f"{name} of crop", getattr(self, name), least)

    def sensor(self, sensor: Sensor) -> Sensor:
        """The rectangle."""
        if self.x + self.width > sensor.width or self.y + self.height > sensor.height:
            raise UserError(
                f"crop of {self.width} x {self.height} from column {self.x} and row {self.y} on reaches over the edge "
                f"of the sensor of {sensor}"
            )
        return replace(sensor, width=self.width, height=self.height)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """``x − self.x`` and ``y − self.y`` of the events within."""
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
    """The ``size`` columns and rows in the middle; of a line the channels in the middle. tonic's ``CenterCrop``.

    Of an odd number to leave out, the larger half is behind.

    Raises:
        UserError: for a size below 1 or, on a sensor, above its own.
    """

    size: int

    def __post_init__(self) -> None:
        check_whole("size of center-crop", self.size, 1)

    def _crop(self, sensor: Sensor) -> Crop:
        height = 1 if sensor.is_line else self.size
        if self.size > sensor.width or height > sensor.height:
            raise UserError(f"center-crop of {self.size} is larger than the sensor of {sensor}")
        return Crop((sensor.width - self.size) // 2, (sensor.height - height) // 2, self.size, height)

    def sensor(self, sensor: Sensor) -> Sensor:
        """The middle."""
        return self._crop(sensor).sensor(sensor)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The events in the middle."""
        return self._crop(sensor)(events, sensor)


@transforms.register("flip-x")
@dataclass(frozen=True)
class FlipX(Transform):
    """Columns from right to left, ``x' = W − 1 − x``; tonic's ``RandomFlipLR(p=1)``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Mirrored left to right."""
        flipped = events.copy()
        flipped["x"] = sensor.width - 1 - flipped["x"]
        return flipped


@transforms.register("flip-y")
@dataclass(frozen=True)
class FlipY(Transform):
    """Rows upside down, ``y' = H − 1 − y``; tonic's ``RandomFlipUD(p=1)``."""

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Turned upside down."""
        flipped = events.copy()
        flipped["y"] = sensor.height - 1 - flipped["y"]
        return flipped


@transforms.register("downsample")
@dataclass(frozen=True)
class Downsample(Transform):
    """Squares of ``factor`` by ``factor`` pixels, or ``factor`` channels of a line, become one: ``x' = ⌊x / factor⌋``.

    All events are kept, those that come to lie on each other too. tonic's ``Downsample(spatial_factor=1/factor)``, up
    to its rounding of ``1/factor``. What is left over at the edge makes a pixel of its own.

    Raises:
        UserError: for a factor below 1.
    """

    factor: int

    def __post_init__(self) -> None:
        check_whole("factor of downsample", self.factor, 1)

    def sensor(self, sensor: Sensor) -> Sensor:
        """A smaller one."""
        return replace(sensor, width=-(-sensor.width // self.factor), height=-(-sensor.height // self.factor))

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The same events, closer together."""
        smaller = events.copy()
        for field in "xy":
            smaller[field] = smaller[field].astype(np.int64) // self.factor
        return smaller


@transforms.register("flip-polarity")
@dataclass(frozen=True)
class FlipPolarity(Transform):
    """ON for OFF and OFF for ON; tonic's ``RandomFlipPolarity(p=1)``.

    Raises:
        UserError: on a sensor of one polarity.
    """

    def sensor(self, sensor: Sensor) -> Sensor:
        """The same, if it has two polarities."""
        if sensor.polarities != 2:
            raise UserError(f"flip-polarity needs a sensor of two polarities, this one has {sensor}")
        return sensor

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """``p' = 1 − p``."""
        self.sensor(sensor)
        flipped = events.copy()
        flipped["p"] = 1 - flipped["p"]
        return flipped


@transforms.register("merge-polarities")
@dataclass(frozen=True)
class MergePolarities(Transform):
    """One polarity for both; tonic's ``MergePolarities``."""

    def sensor(self, sensor: Sensor) -> Sensor:
        """The same with one polarity."""
        return replace(sensor, polarities=1)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """``p' = 0``."""
        merged = events.copy()
        merged["p"] = 0
        return merged
