"""What an event is: the array that every reader returns and everything behind it takes, and the sensor it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError, UserError

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], align=True)
"""One event: time ``t`` in µs; column ``x`` and row ``y`` of the sensor, from its top left corner; polarity ``p``, 1 of
ON and 0 of OFF. Of a line of channels, such as a cochlea, ``x`` is the channel and ``y`` and ``p`` are 0."""

Events = NDArray[Any]
"""Events ``[M]`` of dtype :data:`EVENT`, sorted by time."""


@dataclass(frozen=True)
class Sensor:
    """What can appear in the fields of an event: ``x < width``, ``y < height``, ``p < polarities``.

    A camera has rows; a line of channels has ``height`` and ``polarities`` 1.

    Raises:
        UserError: for a size below 1, or polarities other than 1 and 2.
    """

    width: int
    height: int = 1
    polarities: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 2**16 and 1 <= self.height <= 2**16):
            raise UserError(f"a sensor has 1 to 65536 columns and rows, got {self.width} x {self.height}")
        if self.polarities not in (1, 2):
            raise UserError(f"a sensor tells 1 or 2 polarities apart, got {self.polarities}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step of a sequence: ``(polarities, height, width)``, or ``(width,)`` for a line of channels."""
        return (self.width,) if self.is_line else (self.polarities, self.height, self.width)

    @property
    def is_line(self) -> bool:
        """Whether it is a line of channels and not a camera."""
        return self.height == 1 and self.polarities == 1

    @property
    def size(self) -> int:
        """Elements of one step."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        if self.is_line:
            return f"{self.width} channels"
        return f"{self.width} x {self.height} pixels, {self.polarities} polarit{'y' if self.polarities == 1 else 'ies'}"


def check_events(events: Events, sensor: Sensor, where: str) -> Events:
    """``events`` if they lie on the ``sensor`` and are sorted by time; ``where`` (a file, say) opens the message.

    Raises:
        DataError: for another dtype, no events, and for the first event outside the sensor or before its forerunner,
            which it names by its number.
    """
    if events.dtype != EVENT or events.ndim != 1:
        raise DataError(f"{where}: expected events [M] of dtype {EVENT}, got {events.dtype} of shape {events.shape}")
    if len(events) == 0:
        raise DataError(f"{where}: holds no events")
    for field, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        values = events[field]
        if int(values.max()) >= end:
            first = int(np.argmax(values >= end))
            raise DataError(
                f"{where}: event {first} has {field} = {values[first]}, outside the sensor of {sensor} (0 to {end - 1})"
            )
    times = events["t"]
    if len(times) > 1 and bool((times[1:] < times[:-1]).any()):
        first = int(np.argmax(times[1:] < times[:-1])) + 1
        raise DataError(f"{where}: event {first} is of {times[first]} µs, before the {times[first - 1]} µs of the last")
    return events
