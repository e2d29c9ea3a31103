"""Compiled loop of :func:`~spikelfp.data.events.binning.bin_events`."""

from __future__ import annotations

import numba
import numpy as np

from spikelfp.data.events.step_kernels import add, collect


@numba.njit(nogil=True, cache=True, error_model="numpy")
def bin_sorted(events, width, height, polarities, by_number, begin, parts, length, steps, limited, levels,
               step, places, counts):  # fmt: skip
    """Write the sequence of ``events``, sorted by time, into ``places`` and ``counts`` ``[M]``; the entries it has.

    Event ``i`` at ``k = t[i] − begin``, or ``k = i`` if ``by_number``, is of step ``k · parts // length``; there are
    none of ``steps`` or more or, if ``limited``, they are left out. ``k · parts + length · (steps + 1)`` must fit
    int64. Divisions are made only where a step begins. −1 for an event before its forerunner or outside the sensor.
    """
    columns, rows, signs = np.uint64(width), np.uint64(height), np.uint64(polarities)
    size = polarities * height * width
    now, until, end = np.int64(0), np.int64(0), 0  # events with k < until are of step ``now``
    before = events[0].t
    for i in range(len(events)):
        event = events[i]
        t, x, y, p = event.t, np.uint64(event.x), np.uint64(event.y), np.uint64(event.p)
        if t < before or x >= columns or y >= rows or p >= signs:
            return -1
        before = t
        k = i if by_number else t - begin
        if k >= until:
            if i > 0:
                end = collect(step, now * size, places, counts, end)
            now = k * parts // length
            if now >= steps:
                return end if limited else -1
            until = ((now + 1) * length + parts - 1) // parts
        add(step, (p * rows + y) * columns + x, 1, levels)
    return collect(step, now * size, places, counts, end)
