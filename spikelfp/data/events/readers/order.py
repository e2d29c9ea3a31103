"""Events in the order of their times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events
from spikelfp.errors import DataError

SLACK = 100_000
"""µs by which an event may lie behind an earlier time of its file and is still sorted in. Within a packet cameras mix
events a little; a jump further back is a clock that was reset, two recordings in one file, or a damaged time."""


def unwrap(ticks: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Times of a counter of 32 bits that starts again at 0, as int64: a step back by more than half of its range is
    taken as that, a smaller one as disorder."""
    times = ticks.astype(np.int64)
    if len(times) > 1:
        steps = np.diff(times)
        if (np.abs(steps) > 1 << 31).any():
            turns = np.cumsum((steps < -(1 << 31)).astype(np.int64) - (steps > 1 << 31))
            times[1:] += turns << 32
    return times


def in_order(events: Events, where: str, slack: int | None, place: Callable[[int], str]) -> tuple[Events, int]:
    """``events`` sorted by time, equal times as they come, and how many lay behind an earlier time.

    slack: µs that an event may lie behind; ``None`` for any. place: says where event ``i`` stands in the file.

    Raises:
        DataError: for the first event that lies further behind.
    """
    times = events["t"]
    if len(times) < 2 or not bool((times[1:] < times[:-1]).any()):
        return events, 0
    latest = np.maximum.accumulate(times)
    behind = latest - times
    if slack is not None and int(behind.max()) > slack:
        first = int(np.argmax(behind > slack))
        allowed = f"at most {slack} µs of disorder are sorted" if slack else "they must rise"
        raise DataError(
            f"{where}: {place(first)} is of {times[first]} µs, {behind[first]} µs behind an earlier one; {allowed}: "
            "the clock was reset, the file is damaged, or its columns come in another order"
        )
    return events[np.argsort(times, kind="stable")], int(np.count_nonzero(behind))
