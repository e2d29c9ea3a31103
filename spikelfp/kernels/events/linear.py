"""The three products of a dense layer whose input ``X [R, K]`` is given by its events; ``W [N, K]``, ``M [R, N]``::

    Y[r, :]  = b + Σ_e value[e] W[:, index[e]]             forward: gather the weights of active inputs
    m[r, i]  = Σ_j M[r, j] W[j, i]   where X[r, i] ≠ 0      message to the active inputs
    dW[:, i] = Σ_r X[r, i] M[r, :]                         weight update: gather the messages of active rows

The first two read the weights of an input side by side, from a transposed copy ``[K, N]`` that a step makes once.

All run over tiles of columns that stay in the L2 cache, four events at a time, so that an accumulator is loaded
and stored once for four of them. They run over, and keep, the entries of a matrix that are not zero, row by row
(:class:`Events`).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import machine
from spikelfp.machine import empty

_FINDING = 262_144  # entries below which another thread costs more than it saves
_SAMPLE = 65_536  # entries that tell roughly how dense a matrix is
_COLUMN = torch.empty(0, dtype=torch.int32)
_GROUP = 8  # entries looked at in one go: most groups of a sparse row are empty


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
def _compact(matrix, begin, end, index, value, limit, first, last):
    """Rows ``first…last``, from entry ``first · limit`` on; the first row that does not fit any more, else ``last``."""
    columns = matrix.shape[1]
    active = np.zeros((columns + _GROUP - 1) // _GROUP * _GROUP, np.uint8)
    groups = active.view(np.uint64)
    e = int(first * limit)
    stop = int(last * limit)
    for r in range(first, last):
        begin[r] = e
        row = matrix[r]
        needed = 0
        for j in range(columns):
            active[j] = row[j] != 0
        if e + columns > stop:  # near the end of the room: count first, so that nothing is written behind it
            for j in range(columns):
                needed += active[j]
            if e + needed >= stop:
                return r
        for g in range(len(groups)):
            if groups[g] != 0:
                for j in range(g * _GROUP, min((g + 1) * _GROUP, columns)):
                    index[e] = j
                    value[e] = row[j]
                    e += active[j]
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
    size = int(rows * room) + columns + _GROUP
    column = empty((size,), _COLUMN)
    value = empty((size,), matrix)
    begin, end = torch.empty(2, rows, dtype=torch.int64)
    places = [part.numpy() for part in (begin, end, column, value)]
    full = False

    def run(first: int, last: int) -> None:
        nonlocal full
        if _compact(values, *places, room, first, last) < last:
            full = True

    machine.split(run, rows, max(1, _FINDING // max(columns, 1)), pieces=1)
    return None if full else Events(begin, end, column, value)


_TILE = 256  # columns; 1000 rows of them are 1 MB
_GRAIN = 64  # rows below which another thread costs more than it saves
_ENTRIES = 262_144  # the same for entries that are only moved
_LINE = 16  # rows or columns transposed together: a cache line of float32
_SMALL = 65_536  # weights that stay in the cache with their updates
_CACHE = 1 << 20  # bytes of a tile of updates, at most
_LEAST = 64  # columns of a tile, at least
_PARTS = 4  # parts of the rows whose updates are added up at the end
_REUSE = 2  # copies of a tile pay when each of its rows is read this often

# Sums in another order, as vector units and the dense products make them; infinities and NaN as they are.
_SUMS = {"contract", "reassoc", "nsz"}


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _tile(matrix, low, high):
    copy = np.empty((matrix.shape[0], high - low), matrix.dtype)
    for r in range(matrix.shape[0]):
        for j in range(high - low):
            copy[r, j] = matrix[r, low + j]
    return copy


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _transpose(matrix, out, first, last):
    """Columns ``first … last`` of ``matrix`` as rows of ``out``."""
    for low in range(first, last, _LINE):
        width = min(_LINE, last - low)
        for top in range(0, matrix.shape[0], _LINE):
            height = min(_LINE, matrix.shape[0] - top)
            for i in range(width):
                row = out[low + i, top : top + height]
                for j in range(height):
                    row[j] = matrix[top + j, low + i]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _gather(total, rows, low, which, value, e, stop):
    """``total += Σ value[e] rows[which[e], low:]`` over ``e … stop``; slices of whole rows keep to vector units."""
    width = len(total)
    high = low + width
    while e + 4 <= stop:
        v0, v1, v2, v3 = value[e], value[e + 1], value[e + 2], value[e + 3]
        r0, r1 = rows[which[e], low:high], rows[which[e + 1], low:high]
        r2, r3 = rows[which[e + 2], low:high], rows[which[e + 3], low:high]
        for j in range(width):
            total[j] += v0 * r0[j] + v1 * r1[j] + v2 * r2[j] + v3 * r3[j]
        e += 4
    while e < stop:
        v0, r0 = value[e], rows[which[e], low:high]
        for j in range(width):
            total[j] += v0 * r0[j]
        e += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(begin, end, index, value, weight, bias, out, copy, top, bottom, left, right):
    for low in range(left, right, _TILE):
        high = min(low + _TILE, right)
        tile = _tile(weight, low, high) if copy else weight
        for r in range(top, bottom):
            total = out[r, low:high]
            for j in range(high - low):
                total[j] = bias[low + j]
            _gather(total, tile, 0 if copy else low, index, value, begin[r], end[r])


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _message(begin, end, index, weight, message, out, top, bottom):
    width = weight.shape[1]
    nil = weight.dtype.type(0)
    for r in range(top, bottom):
        m, target = message[r], out[r]
        target[:] = nil
        e, stop = begin[r], end[r]
        while e + 4 <= stop:
            i0, i1, i2, i3 = index[e], index[e + 1], index[e + 2], index[e + 3]
            w0, w1, w2, w3 = weight[i0], weight[i1], weight[i2], weight[i3]
            s0, s1, s2, s3 = nil, nil, nil, nil
            for j in range(width):
                s0 += m[j] * w0[j]
                s1 += m[j] * w1[j]
                s2 += m[j] * w2[j]
                s3 += m[j] * w3[j]
            target[i0], target[i1], target[i2], target[i3] = s0, s1, s2, s3
            e += 4
        while e < stop:
            w0, s0 = weight[index[e]], nil
            for j in range(width):
                s0 += m[j] * w0[j]
            target[index[e]] = s0
            e += 1


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _update(begin, end, index, value, message, out, width, left, right):
    """Rows ``left … right`` of ``Mᵀ X``, ``width`` at a time: a tile of ``Xᵀ M`` that stays in the L2 cache."""
    columns = out.shape[1]
    tile = np.empty((columns, width), out.dtype)
    for low in range(left, right, width):
        high = min(low + width, right)
        tile[:] = out.dtype.type(0)
        for r in range(len(begin)):
            m = message[r, low:high]
            for e in range(begin[r], end[r]):
                target, v = tile[index[e], : high - low], value[e]
                for j in range(high - low):
                    target[j] += v * m[j]
        for line in range(0, columns, _LINE):
            height = min(_LINE, columns - line)
            for j in range(high - low):
                target = out[low + j, line : line + height]
                for i in range(height):
                    target[i] = tile[line + i, j]


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _scatter(begin, end, index, value, message, total, top, bottom):
    """``total [K, N] += Xᵀ M`` over rows ``top … bottom``."""
    for r in range(top, bottom):
        m = message[r]
        for e in range(begin[r], end[r]):
            target, v = total[index[e]], value[e]
            for j in range(len(m)):
                target[j] += v * m[j]


def _over(run, rows: int, columns: int) -> None:
    """``run(top, bottom, left, right)`` over a matrix, in parts: of its columns where that leaves whole tiles."""
    if columns >= 2 * _TILE:
        machine.split(lambda left, right: run(0, rows, left, right), columns, _TILE)
    else:
        machine.split(lambda top, bottom: run(top, bottom, 0, columns), rows, _GRAIN)


def transposed(matrix: np.ndarray, out: np.ndarray) -> None:
    """``out [K, N]`` of ``matrix [N, K]``."""
    grain = max(_LINE, _ENTRIES // max(len(matrix), 1))
    machine.split(lambda first, last: _transpose(matrix, out, first, last), len(out), grain)


def forward(events: tuple[np.ndarray, ...], weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """``out [R, N] = X Wᵀ + b``; weight: ``Wᵀ [K, N]``."""
    copy = len(out) >= _REUSE * len(weight)
    _over(lambda *part: _forward(*events, weight, bias, out, copy, *part), *out.shape)


def message(events: tuple[np.ndarray, ...], weight: np.ndarray, messages: np.ndarray, out: np.ndarray) -> None:
    """``out [R, K] = M W`` where ``X`` is not zero, and 0 elsewhere; weight: ``Wᵀ [K, N]``."""
    begin, end, index, _ = events
    machine.split(lambda top, bottom: _message(begin, end, index, weight, messages, out, top, bottom), len(out), _GRAIN)


def update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """``out [N, K] = Mᵀ X``."""
    if out.size <= _SMALL:
        _narrow_update(events, messages, out)
        return
    width = max(_LEAST, min(_TILE, _CACHE // max(out.shape[1] * out.itemsize, 1) // _LINE * _LINE))
    machine.split(lambda left, right: _update(*events, messages, out, width, left, right), len(out), _LEAST)


def _narrow_update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """:func:`update` of few weights: they stay in the cache. The parts are the same for any number of threads."""
    rows = len(messages)
    parts = max(1, min(_PARTS, rows // _GRAIN))
    shares = np.zeros((parts, *out.shape[::-1]), out.dtype)

    def run(first: int, last: int) -> None:
        for part in range(first, last):
            _scatter(*events, messages, shares[part], rows * part // parts, rows * (part + 1) // parts)

    machine.split(run, parts, 1, pieces=_PARTS)
    np.copyto(out, shares.sum(0).T)
