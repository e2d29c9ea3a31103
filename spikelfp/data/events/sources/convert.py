"""Columns of numbers as events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikelfp.data.events.event import EVENT, Events
from spikelfp.errors import DataError


def to_events(t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, where: str) -> Events:
    """Events ``[M]`` of the columns ``t``, ``x``, ``y``, ``p``: arrays of ``M`` numbers, flattened, or one number for
    all events.

    ``t`` is in µs, whole or floating point, which is rounded; the others are whole numbers or truth values.

    Raises:
        DataError: for columns of unequal lengths, and for the first number that an event cannot hold (negative, too
            large, not whole, not finite), which it names; ``where`` opens the message.
    """
    length = np.size(t)
    events = np.empty(length, EVENT)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        values = np.asarray(column)
        if values.ndim > 0 and values.size != length:
            raise DataError(f"{where}: {length} times, but {values.size} values of {name}")
        events[name] = _whole(values.reshape(-1) if values.ndim else values, name, where)
    return events


def spike_events(seconds: ArrayLike, channels: ArrayLike, where: str) -> Events:
    """Spikes at ``seconds`` on ``channels`` as events of a line of channels, rounded to µs.

    A list of spikes need not be sorted: the events are, and those of one time keep their order.
    """
    return by_time(to_events(np.asarray(seconds, np.float64) * 1e6, channels, 0, 0, where))


def by_time(events: Events) -> Events:
    """``events`` sorted by time, those of one time in their order; the same array if it is sorted."""
    times = events["t"]
    if bool((times[1:] >= times[:-1]).all()):
        return events
    return events[np.argsort(times, kind="stable")]


def _whole(values: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """``values`` if the field ``name`` of an event can hold all of them; times are rounded first."""
    limits = np.iinfo(EVENT[name])
    if values.dtype.kind == "b" or values.size == 0:
        return values
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where}: {name} must be numbers, got {values.dtype}")
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        # the largest float64 below 2^63 is far from it, so that the comparison with the limit is exact enough
        good = np.isfinite(values) & (rounded >= limits.min) & (rounded < float(limits.max) + 1)
        if name != "t":
            good &= rounded == values
    else:
        rounded = values
        good = (values >= limits.min) & (values <= limits.max)
    if not good.all():
        first = int(np.argmin(good)) if values.ndim else 0
        raise DataError(f"{where}: event {first} has {name} = {values.reshape(-1)[first]}, which no event can have")
    return rounded
