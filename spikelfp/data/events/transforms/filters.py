"""Transforms that leave out events by what else happened at their pixel or beside it. Polarities are one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import check_positive, check_whole
from spikelfp.data.events.transforms.base import Transform
from spikelfp.data.events.transforms.filter_kernels import every, rested, with_neighbours
from spikelfp.data.events.transforms.selection import select
from spikelfp.errors import UserError

_MOST_PIXELS = 1 << 27


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
