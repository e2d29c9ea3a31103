"""The steps of a sequence: when each of them was, and what is in some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning import Binning, SparseFrames
from spikelfp.data.events.event import Events
from spikelfp.data.events.show.frames import time_edges


def step_edges(events: Events, binning: Binning, steps: int) -> NDArray[np.int64]:
    """When the ``steps`` of the sequence of ``events`` began and the last ended, int64 ``[steps + 1]`` in µs.

    By count, a step begins with its first event and ends where the next begins. Steps without time of their own (all
    events in fewer µs than steps) are of length 0.
    """
    first, end = int(events["t"][0]) if binning.origin is None else binning.origin, int(events["t"][-1]) + 1
    if binning.window is not None:
        return first + np.arange(steps + 1, dtype=np.int64) * binning.window
    if binning.count is not None:
        starts = events["t"][: steps * binning.count : binning.count]
        behind = steps * binning.count
        last = int(events["t"][behind]) if behind < len(events) else end
        return np.append(starts, last).astype(np.int64)
    edges = time_edges(events, steps, first)
    return np.append(edges, np.full(steps + 1 - len(edges), end, dtype=np.int64))


def some_steps(frames: SparseFrames, shape: Sequence[int], steps: Sequence[int], levels: int) -> NDArray[np.float32]:
    """The values of the chosen ``steps`` ``[S]`` of a sequence, float32 ``[S, *shape]``; the others are never dense."""
    size = int(np.prod(shape))
    values = np.zeros((len(steps), size), dtype=np.float32)
    for row, step in zip(values, steps, strict=True):
        begin, end = np.searchsorted(frames.places, [step * size, (step + 1) * size])
        row[frames.places[begin:end].astype(np.int64) - step * size] = frames.counts[begin:end] / levels
    return values.reshape(len(steps), *shape)
