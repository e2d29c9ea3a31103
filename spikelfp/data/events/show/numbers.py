"""A recording in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.show.frames import count
from spikelfp.errors import UserError


@dataclass(frozen=True)
class RecordingNumbers:
    """What a recording holds.

    Attributes:
        events: their number.
        duration: µs from the first to the last.
        rate: events per second; ``None`` where all are of one instant.
        on_share: share of ON events; ``None`` of a sensor with one polarity.
        active: share of pixels, or channels, with an event.
        hottest: column and row of the pixel with the most events; of a line, its channel and 0.
        hottest_events: how many it has, of both polarities.
    """

    events: int
    duration: int
    rate: float | None
    on_share: float | None
    active: float
    hottest: tuple[int, int]
    hottest_events: int


def per_pixel(events: Events, sensor: Sensor) -> NDArray[Any]:
    """Events of every pixel or channel, both polarities together: int64 ``[H, W]``, with ``H`` 1 of a line."""
    return count(events, sensor).reshape(sensor.polarities, sensor.height, sensor.width).sum(0)


def numbers_of(events: Events, sensor: Sensor) -> RecordingNumbers:
    """The numbers of a recording ``[M]``.

    Raises:
        UserError: without events.
    """
    if len(events) == 0:
        raise UserError("a recording without events has no rate and no duration")
    pixels = per_pixel(events, sensor)
    row, column = divmod(int(pixels.argmax()), sensor.width)
    duration = int(events["t"][-1]) - int(events["t"][0])
    return RecordingNumbers(
        events=len(events),
        duration=duration,
        rate=len(events) * 1e6 / duration if duration else None,
        on_share=float(np.mean(events["p"] == 1)) if sensor.polarities == 2 else None,
        active=float(np.mean(pixels > 0)),
        hottest=(column, row),
        hottest_events=int(pixels[row, column]),
    )
