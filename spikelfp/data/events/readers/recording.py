"""What a reader returns, and the checks that all readers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.data.events.readers.order import SLACK, in_order
from spikelfp.errors import DataError

Place = Callable[[int], str]
"""Says where event ``i`` of the file stands: "event 12, at byte 76,"."""


class Recording(NamedTuple):
    """The content of one file.

    events: ``[M]`` of dtype :data:`~spikelfp.data.events.event.EVENT`, at least one, sorted by time, times as in the
    file. sensor: that they lie on: of the file's header, else the known one of the format, else the one handed in, else
    the smallest that holds the events. facts: what the header says; always ``format``, and ``disordered``, the number
    of events that were sorted in, if there were any.
    """

    events: Events
    sensor: Sensor
    facts: dict[str, Any]


def places(start: int, step: int) -> Place:
    """Of events of ``step`` bytes each, the first at byte ``start``."""
    return lambda event: f"event {event}, at byte {start + step * int(event)},"


def numbered(event: int) -> str:
    """Of events that have no place of their own in the file."""
    return f"event {event}"


def pack(
    where: str,
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any] | int = 0,
    p: NDArray[Any] | int = 0,
    place: Place = numbered,
) -> Events:
    """Columns of whole numbers as one array of events.

    Raises:
        DataError: for the first ``x`` or ``y`` that is no pixel of any sensor: below 0 or above 65535.
    """
    for name, values in (("x", x), ("y", y)):
        if isinstance(values, np.ndarray) and values.dtype.itemsize > 2 and len(values):
            outside = (values < 0) | (values > 0xFFFF)
            if bool(outside.any()):
                first = int(np.argmax(outside))
                raise DataError(f"{where}: {place(first)} has {name} = {values[first]}, expected 0 to 65535")
    events = np.zeros(len(t), EVENT)  # zeros between the fields too: equal events have equal bytes
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def finish(
    where: str,
    events: Events,
    sensor: Sensor | None,
    facts: dict[str, Any],
    slack: int | None = SLACK,
    place: Place = numbered,
    camera: bool = True,
) -> Recording:
    """The recording of ``events`` as they come in the file.

    sensor: of the file or handed in; ``None``: the smallest that holds them, of two polarities if it is a ``camera``.
    slack: see :func:`~spikelfp.data.events.readers.order.in_order`.

    Raises:
        DataError: for no events, an event outside the sensor, or times out of order by more than ``slack``.
    """
    if len(events) == 0:
        raise DataError(f"{where}: holds no events")
    top = {name: int(events[name].max()) for name in ("x", "y", "p")}
    if sensor is None:
        sensor = Sensor(top["x"] + 1, top["y"] + 1, 2 if camera or top["p"] else 1)
    for name, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        if top[name] >= end:
            first = int(np.argmax(events[name] >= end))
            raise DataError(
                f"{where}: {place(first)} has {name} = {events[name][first]}, outside the sensor of {sensor} "
                f"(0 to {end - 1})"
            )
    events, disordered = in_order(events, where, slack, place)
    return Recording(events, sensor, {**facts, "disordered": disordered} if disordered else facts)
