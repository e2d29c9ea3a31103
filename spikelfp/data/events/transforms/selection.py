"""Some of the events: several times as fast as numpy's own indexing, which copies field by field."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events


def select(events: Events, kept: NDArray[np.bool_]) -> Events:
    """A copy of the events that are ``kept`` ``[M]``."""
    found = np.empty(int(np.count_nonzero(kept)), events.dtype)
    _select(events, kept, found)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _select(events, kept, found):
    to = 0
    for i in range(len(events)):
        if kept[i]:
            found[to] = events[i]
            to += 1
