r"""The three products of a dense layer whose input ``X [R, K]`` is given by its events; ``W [N, K]``, ``M [R, N]``::

    Y[r, :]  = b + Σ_e value[e] W[:, index[e]]             forward: gather the weights of active inputs
    m[r, i]  = Σ_j M[r, j] W[j, i]   where X[r, i] ≠ 0      message to the active inputs
    dW[:, i] = Σ_r X[r, i] M[r, :]                         weight update: gather the messages of active rows

The first two read the weights of an input side by side, from a transposed copy ``[K, N]`` that a step makes once.

Sums run over tiles of columns that stay in the L2 cache, and stay in registers while their events go by
(:mod:`~spikelfp.kernels.events.row_vectors`). For the update the events of a block of rows are put in the order of
their columns first.
"""

from __future__ import annotations

import numba
import numpy as np

from spikelfp.kernels import threads
from spikelfp.kernels.events.conv_vectors import VECTOR
from spikelfp.kernels.events.row_vectors import aligned, row_sum

_TILE = 256  # columns; 1000 rows of them are 1 MB
_GRAIN = 64  # rows below which another thread costs more than it saves
_ENTRIES = 262_144  # the same for entries that are only moved
_LINE = 16  # rows or columns transposed together: a cache line of float32
_SMALL = 65_536  # weights that stay in the cache with their updates
_CACHE = 1 << 20  # bytes of a tile of updates, at most
_LEAST = 64  # columns of a tile, at least
_BLOCK = 512  # rows whose messages are read from the cache, column after column
_FEW = 5  # events of a column in a block for which their order pays
_PARTS = 4  # parts of the rows whose updates are added up at the end
_REUSE = 2  # copies of a tile pay when each of its rows is read this often

# Sums in another order, as vector units and the dense products make them; infinities and NaN as they are.
_SUMS = {"contract", "reassoc", "nsz"}


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
    if not copy:
        for r in range(top, bottom):
            total = out[r, left:right]
            for j in range(right - left):
                total[j] = bias[left + j]
            _gather(total, weight, left, index, value, begin[r], end[r])
        return
    columns, flat = out.shape[1], out.reshape(-1)
    lanes = VECTOR // out.itemsize
    room = np.empty(lanes, out.dtype)
    for low in range(left, right, _TILE):
        width = min(_TILE, right - low)
        pitch = (width + lanes - 1) // lanes * lanes
        rows, start = aligned(out, len(weight) * pitch), np.zeros(pitch, out.dtype)
        tile = rows.reshape(len(weight), pitch)
        tile[:, width:] = out.dtype.type(0)
        for k in range(len(weight)):
            row = weight[k, low : low + width]
            for j in range(width):
                tile[k, j] = row[j]
        for j in range(width):
            start[j] = bias[low + j]
        for r in range(top, bottom):
            row_sum(start, 0, flat, r * columns + low, width, rows, 0, pitch, index, value, begin[r], end[r], room)


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
def _spread(begin, end, index, value, message, out, width, left, right):
    """:func:`_update` without an order of columns, for columns with hardly an event in a block of rows."""
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
        _write(tile, out, low, high)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _write(tile, out, low, high):
    """``out[low : high]`` of its transposed tile."""
    columns = out.shape[1]
    for line in range(0, columns, _LINE):
        height = min(_LINE, columns - line)
        for j in range(high - low):
            target = out[low + j, line : line + height]
            for i in range(height):
                target[i] = tile[line + i, j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _by_column(begin, end, index, value, places, edges, rows, values, first, last):
    """The events of blocks ``first … last`` of rows, ordered by their columns.

    Those of block ``p`` come from ``places[p]`` on: of column ``k`` they end at ``edges[p, k + 1]``, where those of the
    next one begin. rows: within the block.
    """
    for p in range(first, last):
        edge, top, bottom = edges[p], p * _BLOCK, min((p + 1) * _BLOCK, len(begin))
        edge[:] = 0
        for r in range(top, bottom):
            for e in range(begin[r], end[r]):
                edge[index[e] + 1] += 1
        edge[0] = places[p]
        for k in range(1, len(edge)):
            edge[k] += edge[k - 1]
        for r in range(top, bottom):
            for e in range(begin[r], end[r]):
                k = index[e]
                rows[edge[k]], values[edge[k]] = r - top, value[e]
                edge[k] += 1
        for k in range(len(edge) - 1, 0, -1):
            edge[k] = edge[k - 1]
        edge[0] = places[p]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _update(edges, rows, values, message, out, width, left, right):
    """Rows ``left … right`` of ``Mᵀ X``, ``width`` at a time: a tile of ``Xᵀ M``, one block of rows after the other.

    Both begin at whole vectors. What is left of the last one is taken element by element, since behind the last row of
    the messages there is nothing to read.
    """
    columns, total, lanes = out.shape[1], message.shape[1], VECTOR // out.itemsize
    flat, room = message.reshape(-1), np.empty(lanes, out.dtype)
    sums = aligned(out, columns * width)
    tile = sums.reshape(columns, width)
    for low in range(left, right, width):
        high = min(low + width, right)
        whole = (high - low) // lanes * lanes
        tile[:] = out.dtype.type(0)
        for p in range(len(edges)):
            top = p * _BLOCK
            for k in range(columns):
                first, last = edges[p, k], edges[p, k + 1]
                if first == last:
                    continue
                at = k * width
                row_sum(sums, at, sums, at, whole, flat, top * total + low, total, rows, values, first, last, room)
                for e in range(first, last):
                    for j in range(whole, high - low):
                        tile[k, j] += values[e] * message[top + rows[e], low + j]
        _write(tile, out, low, high)


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
        threads.split(lambda left, right: run(0, rows, left, right), columns, _TILE)
    else:
        threads.split(lambda top, bottom: run(top, bottom, 0, columns), rows, _GRAIN)


def transposed(matrix: np.ndarray, out: np.ndarray) -> None:
    """``out [K, N]`` of ``matrix [N, K]``."""
    grain = max(_LINE, _ENTRIES // max(len(matrix), 1))
    threads.split(lambda first, last: _transpose(matrix, out, first, last), len(out), grain)


def forward(events: tuple[np.ndarray, ...], weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """``out [R, N] = X Wᵀ + b``; weight: ``Wᵀ [K, N]``."""
    copy = len(out) >= _REUSE * len(weight)
    _over(lambda *part: _forward(*events, weight, bias, out, copy, *part), *out.shape)


def message(events: tuple[np.ndarray, ...], weight: np.ndarray, messages: np.ndarray, out: np.ndarray) -> None:
    """``out [R, K] = M W`` where ``X`` is not zero, and 0 elsewhere; weight: ``Wᵀ [K, N]``."""
    begin, end, index, _ = events
    threads.split(lambda top, bottom: _message(begin, end, index, weight, messages, out, top, bottom), len(out), _GRAIN)


def update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """``out [N, K] = Mᵀ X``."""
    if out.size <= _SMALL:
        _narrow_update(events, messages, out)
        return
    begin, end, _, value = events
    lanes, columns = VECTOR // out.itemsize, out.shape[1]
    width = max(_LEAST, min(_TILE, _CACHE // max(columns * out.itemsize, 1) // lanes * lanes))
    counts = [int((end[low : low + _BLOCK] - begin[low : low + _BLOCK]).sum()) for low in range(0, len(begin), _BLOCK)]
    blocks, total = len(counts), sum(counts)
    if total < _FEW * blocks * columns:
        threads.split(lambda left, right: _spread(*events, messages, out, width, left, right), len(out), _LEAST)
        return
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    ordered = np.empty((blocks, columns + 1), np.int64), np.empty(total, np.int32), np.empty(total, value.dtype)
    threads.split(lambda first, last: _by_column(*events, places, *ordered, first, last), blocks, 1)

    def run(first: int, last: int) -> None:  # parts begin at whole vectors: the sums do not depend on the threads
        _update(*ordered, messages, out, width, first * lanes, min(last * lanes, len(out)))

    threads.split(run, -(-len(out) // lanes), _LEAST // lanes)


def _narrow_update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """:func:`update` of few weights: they stay in the cache. The parts are the same for any number of threads."""
    rows = len(messages)
    parts = max(1, min(_PARTS, rows // _GRAIN))
    shares = np.zeros((parts, *out.shape[::-1]), out.dtype)

    def run(first: int, last: int) -> None:
        for part in range(first, last):
            _scatter(*events, messages, shares[part], rows * part // parts, rows * (part + 1) // parts)

    threads.split(run, parts, 1, pieces=_PARTS)
    np.copyto(out, shares.sum(0).T)
