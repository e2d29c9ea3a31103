"""Events accumulated over windows of time: as frames, and as rates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.errors import UserError


def time_edges(events: Events, parts: int, origin: int | None = None) -> NDArray[np.int64]:
    """The edges ``[K + 1]`` in µs of ``K`` windows of equal length (to a µs) that hold all ``events`` ``[M]``.

    Window ``k`` is ``edges[k] <= t < edges[k + 1]``. ``K`` is ``parts``, or the µs of the recording if these are fewer.
    origin: where the first begins; ``None``: at the first event.

    Raises:
        UserError: for no parts or no events.
    """
    if parts < 1 or len(events) == 0:
        raise UserError(
            f"a recording is cut into 1 part or more and has events, got {parts} parts, {len(events)} events"
        )
    first = int(events["t"][0]) if origin is None else origin
    span = int(events["t"][-1]) - first + 1
    parts = min(parts, span)
    # Python's numbers, since µs · parts can leave int64; rounded up, so that t is in window (t − first) · K // span
    return np.array([first - (-number * span // parts) for number in range(parts + 1)], dtype=np.int64)


def cut(events: Events, edges: NDArray[np.int64]) -> list[Events]:
    """The events of every window: views of ``events``, which are sorted by time."""
    places = np.searchsorted(events["t"], edges)
    return [events[begin:end] for begin, end in pairwise(places)]


def elements(events: Events, sensor: Sensor) -> NDArray[np.int64]:
    """The element ``(p · height + y) · width + x`` ``[M]`` of each event in the flattened shape of the sensor."""
    rows = events["p"].astype(np.int64) * sensor.height + events["y"]
    return rows * sensor.width + events["x"]


def count(events: Events, sensor: Sensor) -> NDArray[Any]:
    """Events of every element, int64 of the sensor's shape ``[P, H, W]`` or ``[N]``."""
    return np.bincount(elements(events, sensor), minlength=sensor.size).reshape(sensor.shape)


def shrink(counts: NDArray[Any], most: int) -> NDArray[Any]:
    """Events ``[P, H, W]`` added up over square blocks, so that no side is longer than ``most``; small ones as are."""
    height, width = counts.shape[-2:]
    block = -(-max(height, width) // most)
    if block == 1:
        return counts
    padded: NDArray[Any] = np.pad(counts, ((0, 0), (0, -height % block), (0, -width % block)))
    planes, rows, columns = padded.shape
    blocks: NDArray[Any] = padded.reshape(planes, rows // block, block, columns // block, block)
    return blocks.sum((2, 4))


def rates(events: Events, sensor: Sensor, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Events per second ``[P, K]`` of each polarity in every window."""
    parts = cut(events, edges)
    totals = np.array([np.bincount(part["p"], minlength=sensor.polarities) for part in parts], dtype=np.float64)
    return totals.T * 1e6 / np.diff(edges)
