"""Compiled loops that say which events are kept: boolean ``[M]``.

width, height: of the smallest sensor that holds all events, so that every event lies on it.
"""

from __future__ import annotations

import numba
import numpy as np


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
