"""Transforms that leave out events by other events of their pixel or its neighbours, of both polarities alike.

The compiled loops return which events are kept, boolean ``[M]``. Their ``width`` and ``height`` are those of the
smallest sensor that holds all events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import check_positive, check_whole
from spikelfp.data.events.transforms.base import Transform, select, transforms
from spikelfp.errors import UserError
from spikelfp.scalars import keep_plain


@numba.njit(nogil=True, cache=True, error_model="numpy")
def with_neighbours(events, width, height, window):
    """Whether one of the four neighbours of an event was active less than ``window`` before; all are active at 0."""
    last = np.zeros(width * height, np.int64)
    kept = np.zeros(len(events), np.bool_)
    for i in range(len(events)):
        event = events[i]
        t, x, y = event.t, np.int64(event.x), np.int64(event.y)
        here = y * width + x
        last[here] = t
        kept[i] = (
            (x > 0 and t - last[here - 1] < window)
            or (x < width - 1 and t - last[here + 1] < window)
            or (y > 0 and t - last[here - width] < window)
            or (y < height - 1 and t - last[here + width] < window)
        )
    return kept


@numba.njit(nogil=True, cache=True, error_model="numpy")
def rested(events, width, height, period):
    """Whether an event is the first of its pixel, or more than ``period`` after the one before."""
    last = np.zeros(width * height, np.int64)
    active = np.zeros(width * height, np.bool_)
    kept = np.zeros(len(events), np.bool_)
    for i in range(len(events)):
        event = events[i]
        here = np.int64(event.y) * width + np.int64(event.x)
        kept[i] = not active[here] or event.t - last[here] > period
        active[here] = True
        last[here] = event.t
    return kept


@numba.njit(nogil=True, cache=True, error_model="numpy")
def every(events, width, height, number):
    """Whether the number of an event at its pixel is a multiple of ``number``."""
    seen = np.zeros(width * height, np.int64)
    kept = np.zeros(len(events), np.bool_)
    for i in range(len(events)):
        event = events[i]
        here = np.int64(event.y) * width + np.int64(event.x)
        seen[here] += 1
        if seen[here] == number:
            seen[here] = 0
            kept[i] = True
    return kept


_MOST_PIXELS = 1 << 27


@transforms.register("denoise")
@dataclass(frozen=True)
class Denoise(Transform):
    """Keeps events whose neighbours were active shortly before: one of four pixels, or of two on a line.

    Exactly tonic's ``Denoise(filter_time)``: the last event of each neighbour counts, kept or not, and a neighbour
    without an event counts as active at time 0. So all events before ``window_us`` are kept. (Pixels after the last
    column and row with any event do not exist.)

    Attributes:
        window_us: µs within which a neighbour was active.

    Raises:
        UserError: for less than 1.
    """

    window_us: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("window_us of denoise", self.window_us, 1, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events with an active neighbour."""
        return _filtered("denoise", events, with_neighbours, self.window_us)


@transforms.register("refractory")
@dataclass(frozen=True)
class Refractory(Transform):
    """Keeps events that come late enough after the one before at their pixel: ``t[n] − t[n−1] > us``.

    The event before counts also if it was left out. The first event of each pixel is kept. tonic's
    ``RefractoryPeriod(delta=us)`` loses in addition the first event of a pixel at time 0 or before.

    Attributes:
        us: µs that a pixel rests.

    Raises:
        UserError: for less than 0.
    """

    us: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("us of refractory", self.us, 0, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events of rested pixels."""
        return _filtered("refractory", events, rested, self.us)


@transforms.register("decimate")
@dataclass(frozen=True)
class Decimate(Transform):
    """Keeps every ``number``-th event of each pixel, as tonic's ``Decimation``.

    Attributes:
        number: of events, of which the last is kept.

    Raises:
        UserError: for less than 1.
    """

    number: int

    def __post_init__(self) -> None:
        keep_plain(self)
        check_whole("number of decimate", self.number, 1)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events whose number at their pixel, from 1 on, is a multiple."""
        return _filtered("decimate", events, every, self.number)


@transforms.register("hot-pixels")
@dataclass(frozen=True)
class HotPixels(Transform):
    """Leaves out all events of pixels that fire too often, as tonic's ``DropPixel(hot_pixel_frequency)``.

    Rates are taken from the first to the last event of the recording. If all events are of one instant, rates are
    infinite and nothing is left.

    Attributes:
        rate: Hz that a pixel may have.

    Raises:
        UserError: for a rate that is not above 0.
    """

    rate: float

    def __post_init__(self) -> None:
        keep_plain(self)
        check_positive("rate of hot-pixels", self.rate, " Hz")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Keep the events of all other pixels."""
        if len(events) == 0:
            return events.copy()
        pixel = events["y"].astype(np.int64) * sensor.width + events["x"]
        if sensor.width * sensor.height > _MOST_PIXELS:
            _, pixel = np.unique(pixel, return_inverse=True)
        most = self.rate * (int(events["t"][-1]) - int(events["t"][0])) * 1e-6
        return select(events, np.bincount(pixel)[pixel] <= most)


def _filtered(name: str, events: Events, keep: Callable[..., NDArray[np.bool_]], parameter: int) -> Events:
    """The events that the compiled loop ``keep`` keeps."""
    if len(events) == 0:
        return events.copy()
    width, height = int(events["x"].max()) + 1, int(events["y"].max()) + 1
    if width * height > _MOST_PIXELS:
        raise UserError(f"{name}: {width} x {height} pixels are too many to keep a time of each: crop them before")
    return select(events, keep(events, width, height, parameter))
