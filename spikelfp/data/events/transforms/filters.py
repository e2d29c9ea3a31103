"""Compiled loops that say which events are kept: boolean ``[M]``.

width, height: of the smallest sensor that holds all events, so that every event lies on it.
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def with_neighbours(events, width, height, window):
    """Events of which one of the four pixels beside was last active less than ``window`` before, at first at 0."""
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
    """Events more than ``period`` behind the last one of their pixel, and the first of each."""
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
    """The ``number``-th event of each pixel, that number behind it, and so on."""
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
    """Events with company: one of the four pixels beside was active less than ``window_us`` before (two of a line).

    tonic's ``Denoise(filter_time)`` to the letter: what counts is the last event of each of those pixels, kept or not,
    and before it has any, it counts as active at time 0. So events before ``window_us`` are kept; align times or not
    with that in mind. (Pixels behind the last column and row with any event do not exist.)

    Raises:
        UserError: for less than 1.
    """

    window_us: int

    def __post_init__(self) -> None:
        check_whole("window_us of denoise", self.window_us, 1, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The events with company."""
        return _filtered("denoise", events, with_neighbours, self.window_us)


@transforms.register("refractory")
@dataclass(frozen=True)
class Refractory(Transform):
    """Events more than ``us`` behind the one before at the same pixel, ``t[n] − t[n−1] > us``, which may be left out
    itself; and the first of each pixel.

    tonic's ``RefractoryPeriod(delta=us)``, which loses in addition the first event of a pixel at time 0 or before.

    Raises:
        UserError: for less than 0.
    """

    us: int

    def __post_init__(self) -> None:
        check_whole("us of refractory", self.us, 0, " µs")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The events of rested pixels."""
        return _filtered("refractory", events, rested, self.us)


@transforms.register("decimate")
@dataclass(frozen=True)
class Decimate(Transform):
    """Every ``number``-th event of each pixel; tonic's ``Decimation``.

    Raises:
        UserError: for less than 1.
    """

    number: int

    def __post_init__(self) -> None:
        check_whole("number of decimate", self.number, 1)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The events whose number at their pixel, from 1 on, is a multiple."""
        return _filtered("decimate", events, every, self.number)


@transforms.register("hot-pixels")
@dataclass(frozen=True)
class HotPixels(Transform):
    """Leaves out all events of pixels that fire at more than ``rate`` Hz, from the first to the last event of the
    recording; tonic's ``DropPixel(hot_pixel_frequency)``.

    A recording of a single instant has infinite rates: nothing is left.

    Raises:
        UserError: for a rate that is not above 0.
    """

    rate: float

    def __post_init__(self) -> None:
        check_positive("rate of hot-pixels", self.rate, " Hz")

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The events of all other pixels."""
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
        raise UserError(f"{name}: {width} x {height} pixels are too many to remember a time of each: crop them before")
    return select(events, keep(events, width, height, parameter))
