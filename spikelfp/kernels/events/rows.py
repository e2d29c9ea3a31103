"""The entries of a matrix that are not zero, row by row: what event-driven products run over, and what they keep."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp.kernels import threads
from spikelfp.kernels.events.conv_lanes import lowest_bit, nonzero_bits
from spikelfp.kernels.events.conv_vectors import VECTOR
from spikelfp.memory import empty

_GRAIN = 262_144  # entries below which another thread costs more than it saves
_SAMPLE = 65_536  # entries that tell roughly how dense a matrix is
_COLUMN = torch.empty(0, dtype=torch.int32)


class Events(NamedTuple):
    """Row ``r`` of a matrix ``[R, K]`` holds ``value[e]`` in column ``column[e]`` for ``begin[r] ≤ e < end[r]``.

    begin, end: int64 ``[R]``; column: int32, rising within a row; value: the dtype of the matrix. Gaps between rows
    are allowed: what lies in them means nothing.
    """

    begin: Tensor
    end: Tensor
    column: Tensor
    value: Tensor

    def numpy(self) -> tuple[np.ndarray, ...]:
        """The same as arrays, without a copy."""
        return tuple(part.numpy() for part in self)

    @property
    def total(self) -> int:
        """How many entries there are."""
        return int((self.end - self.begin).sum())


def remember(x: Tensor, events: Events | None) -> None:
    """Leave the events of ``x`` ``[…, K]``, rows in their order, with it: whoever multiplies it need not look for them.

    They are those of this very tensor, and are forgotten as soon as it is changed in place.
    """
    if events is not None and not x.is_inference():
        x._listed_events = (x._version, events)  # type: ignore[attr-defined]


def remembered(x: Tensor, limit: float) -> Events | None:
    """The events that were left with ``x``, unless there are more of them than ``limit`` of its entries."""
    version, events = getattr(x, "_listed_events", (None, None))
    if events is None or version != x._version or len(events.column) > limit * x.numel():
        return None
    return events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def listed(flat, at, columns, index, e):
    """Write the columns of what is not zero in ``flat[at : at + columns]`` to ``index[e:]``, and return their end."""
    lanes = VECTOR // flat.itemsize
    j = 0
    while j + lanes <= columns:
        bits, start = np.uint64(0), j
        # Several vectors at once: where a loop over bits ends, a processor guesses wrong.
        while j + lanes <= columns and j < start + 4 * lanes:
            bits |= nonzero_bits(flat, at + j) << np.uint64(j - start)
            j += lanes
        while bits:
            index[e] = start + lowest_bit(bits)
            e += 1
            bits &= bits - np.uint64(1)
    while j < columns:
        if flat[at + j] != 0:
            index[e] = j
            e += 1
        j += 1
    return e


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _compact(matrix, begin, end, index, value, limit, first, last):
    """Rows ``first…last``, from entry ``first · limit`` on; the first row that does not fit any more, else ``last``."""
    columns, flat = matrix.shape[1], matrix.reshape(-1)
    e = int(first * limit)
    stop = int(last * limit)
    for r in range(first, last):
        begin[r] = e
        row = matrix[r]
        needed = 0
        if e + columns > stop:  # near the end of the room: count first, so that nothing is written behind it
            for j in range(columns):
                needed += row[j] != 0
            if e + needed >= stop:
                return r
        e = listed(flat, r * columns, columns, index, e)
        for place in range(begin[r], e):
            value[place] = row[index[place]]
        end[r] = e
    return last


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(matrix, every):
    """Entries that are not zero in each ``every``-th row, and all entries of those rows."""
    found, seen = 0, 0
    for r in range(0, matrix.shape[0], every):
        row = matrix[r]
        for j in range(len(row)):
            found += row[j] != 0
        seen += len(row)
    return found, seen


def _looks_denser(matrix: np.ndarray, limit: float) -> bool:
    """Whether a sample of the rows is clearly denser than ``limit``, so that looking for events is in vain."""
    found, seen = _count(matrix, max(1, matrix.size // _SAMPLE))
    return found > (1.25 * limit) * seen


def events_of(matrix: Tensor, limit: float) -> Events | None:
    """Events of ``matrix`` ``[R, K]`` (float32 or float64, on the CPU); ``None`` at a higher density than ``limit``.

    The density that counts is that of the rows each thread looks at.
    """
    if limit < 0:
        return None
    rows, columns = matrix.shape
    values = matrix.detach().contiguous().numpy()
    if limit < 1 and _looks_denser(values, limit):
        return None
    room = limit * columns + 1 if rows else 0.0  # entries a row has room for, on average
    size = int(rows * room) + columns
    column = empty((size,), _COLUMN)
    value = empty((size,), matrix)
    begin, end = torch.empty(2, rows, dtype=torch.int64)
    places = [part.numpy() for part in (begin, end, column, value)]
    full = False

    def run(first: int, last: int) -> None:
        nonlocal full
        if _compact(values, *places, room, first, last) < last:
            full = True

    threads.split(run, rows, max(1, _GRAIN // max(columns, 1)), pieces=1)
    return None if full else Events(begin, end, column, value)
