"""Events and the sensor they come from: the array that every reader returns and that everything else takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError, UserError

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")], align=True)
"""Type of one event: time ``t`` in µs; column ``x`` and row ``y`` of the sensor, from its top left corner; polarity
``p``, 1 for ON and 0 for OFF. On a line of channels, such as a cochlea, ``x`` is the channel, ``y`` and ``p`` are 0."""

Events = NDArray[Any]
"""Events ``[M]`` of dtype :data:`EVENT`, sorted by time."""


@dataclass(frozen=True)
class Sensor:
    """Size of a sensor: its events have ``x < width``, ``y < height`` and ``p < polarities``.

    Attributes:
        width: columns, or channels of a line.
        height: rows, 1 for a line of channels.
        polarities: 1, or 2 for ON and OFF.

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
        """Whether the sensor is a line of channels and not a camera."""
        return self.height == 1 and self.polarities == 1

    @property
    def size(self) -> int:
        """Number of elements of one step."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        if self.is_line:
            return f"{self.width} channels"
        return f"{self.width} x {self.height} pixels, {self.polarities} polarit{'y' if self.polarities == 1 else 'ies'}"


def check_events(events: Events, sensor: Sensor, where: str) -> Events:
    """Check that events lie on their sensor and are sorted by time.

    Args:
        events: ``[M]``, at least one.
        sensor: that they should lie on.
        where: where they come from, a file for example; it opens the messages.

    Returns:
        ``events``.

    Raises:
        DataError: for another dtype, for no events, and for the first event outside the sensor or earlier than the one
            before it, which it names by its number.
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
