"""``F.linear`` for inputs that are mostly zero, event by event where that is faster.

The input ``X [R, K]`` is given by its events; with ``W [N, K]`` and messages ``M [R, N]``::

    Y[r, :]  = b + Σ_e value[e] W[:, index[e]]             forward: gather the weights of active inputs
    m[r, i]  = Σ_j M[r, j] W[j, i]   where X[r, i] ≠ 0      message to the active inputs, or to those that are heard
    dW[:, i] = Σ_r X[r, i] M[r, :]                         weight update: gather the messages of active rows

The first two read the weights from a transposed copy ``[K, N]``, in which those of an input lie side by side.

Sums run over tiles of columns that stay in the L2 cache; a sum stays in registers during its loop over events
(:mod:`~spikelfp.kernels.events.vectors`). For the update the events of a block of rows are first sorted by column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from spikelfp import machine
from spikelfp.functional.once import no_second_derivative
from spikelfp.kernels.choice import EventChoice, can_run, chosen_events
from spikelfp.kernels.events.sparse import EventRows, sparse_rows
from spikelfp.kernels.events.vectors import VECTOR, aligned, lowest_bit, nonzero_bits, row_sum
from spikelfp.machine import empty

Heard = Callable[[], Tensor | None]
"""Function to a boolean tensor of the shape of an input, true where the message to it is wanted; ``None``: unknown."""

_FINDING = 262_144  # entries below which another thread costs more than it saves
_SAMPLE = 65_536  # entries from which the density of a matrix is estimated
_COLUMN = torch.empty(0, dtype=torch.int32)


def cache_events(x: Tensor, events: EventRows | None) -> None:
    """Store the events of ``x`` ``[…, K]`` with it, so that the next product need not search for them.

    They are dropped as soon as the tensor is changed in place.
    """
    if events is not None and not x.is_inference():
        x._listed_events = (x._version, events)  # type: ignore[attr-defined]


def cached_events(x: Tensor, limit: float) -> EventRows | None:
    """Return the events stored with ``x``; ``None`` without, or if their density is above ``limit``."""
    version, events = getattr(x, "_listed_events", (None, None))
    if events is None or version != x._version or len(events.column) > limit * x.numel():
        return None
    return events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def listed(flat, at, columns, index, e):
    """Write the columns of non-zero entries of ``flat[at : at + columns]`` to ``index[e:]``, and return their end."""
    lanes = VECTOR // flat.itemsize
    j = 0
    while j + lanes <= columns:
        bits, start = np.uint64(0), j
        # Several vectors at once, because the end of a loop over bits is a mispredicted branch.
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
    """List rows ``first … last`` from entry ``first · limit`` on; return the first row without space, else ``last``."""
    columns, flat = matrix.shape[1], matrix.reshape(-1)
    e = int(first * limit)
    stop = int(last * limit)
    for r in range(first, last):
        begin[r] = e
        row = matrix[r]
        needed = 0
        if e + columns > stop:  # near the end of the memory: count first, to write nothing beyond it
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
    """Count the entries that are not zero in each ``every``-th row, and all entries of these rows."""
    found, seen = 0, 0
    for r in range(0, matrix.shape[0], every):
        row = matrix[r]
        for j in range(len(row)):
            found += row[j] != 0
        seen += len(row)
    return found, seen


def events_of(matrix: Tensor, limit: float) -> EventRows | None:
    """List the events of ``matrix`` ``[R, K]`` (float32 or float64, on the CPU).

    Returns:
        The events, or ``None`` where the rows of a thread are denser than ``limit``.
    """
    if limit < 0:
        return None
    rows, columns = matrix.shape
    values = matrix.detach().contiguous().numpy()
    if limit < 1:
        found, seen = _count(values, max(1, values.size // _SAMPLE))
        if found > (1.25 * limit) * seen:  # a sample is clearly denser
            return None
    per_row = limit * columns + 1 if rows else 0.0  # entries of a row in memory, on average
    size = int(rows * per_row) + columns
    column = empty((size,), _COLUMN)
    value = empty((size,), matrix)
    begin, end = torch.empty(2, rows, dtype=torch.int64)
    places = [part.numpy() for part in (begin, end, column, value)]
    full = False

    def run(first: int, last: int) -> None:
        nonlocal full
        if _compact(values, *places, per_row, first, last) < last:
            full = True

    machine.split(run, rows, max(1, _FINDING // max(columns, 1)), pieces=1)
    return None if full else EventRows(begin, end, column, value)


_TILE = 256  # columns; 1000 rows of them are 1 MB
_GRAIN = 64  # rows below which another thread costs more than it saves
_ENTRIES = 262_144  # entries that are only moved, below which another thread costs more than it saves
_LINE = 16  # rows or columns transposed together: a cache line of float32
_SMALL = 65_536  # weights that stay in the cache with their updates
_CACHE = 1 << 20  # bytes of a tile of updates, at most
_LEAST = 64  # columns of a tile, at least
_BLOCK = 512  # rows whose messages are read from the cache, column after column
_FEW = 5  # events of a column in a block from which on sorting is faster
_PARTS = 4  # parts of the rows whose updates are added up at the end
_REUSE = 2  # copies of a tile pay when each of its rows is read this often

# Sums in another order, as vector units and the dense products make them; infinities and NaN as they are.
_SUMS = {"contract", "reassoc", "nsz"}


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _transpose(matrix, out, first, last):
    """Copy columns ``first … last`` of ``matrix`` to the rows of ``out``."""
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
    """Add ``Σ value[e] rows[which[e], low:]`` over ``e … stop`` to ``total``; slices let the compiler use vectors."""
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
    scratch = np.empty(lanes, out.dtype)
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
            row_sum(start, 0, flat, r * columns + low, width, rows, 0, pitch, index, value, begin[r], end[r], scratch)


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
    """Do as :func:`_update` with unsorted events, for columns with hardly an event in a block of rows."""
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
    """Write a transposed tile to ``out[low : high]``."""
    columns = out.shape[1]
    for line in range(0, columns, _LINE):
        height = min(_LINE, columns - line)
        for j in range(high - low):
            target = out[low + j, line : line + height]
            for i in range(height):
                target[i] = tile[line + i, j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _by_column(begin, end, index, value, places, edges, rows, values, first, last):
    """Sort the events of blocks ``first … last`` of rows by column.

    The events of block ``p`` begin at ``places[p]``; those of its column ``k`` are ``edges[p, k] … edges[p, k + 1]``.
    ``rows`` counts rows within the block.
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
    """Compute rows ``left … right`` of ``Mᵀ X`` as tiles of ``Xᵀ M``, ``width`` wide, one block of rows after another.

    Rows and tiles begin at whole vectors. A last part of a vector is taken element by element, since a vector must not
    be read beyond the last row of the messages.
    """
    columns, total, lanes = out.shape[1], message.shape[1], VECTOR // out.itemsize
    flat, scratch = message.reshape(-1), np.empty(lanes, out.dtype)
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
                row_sum(sums, at, sums, at, whole, flat, top * total + low, total, rows, values, first, last, scratch)
                for e in range(first, last):
                    for j in range(whole, high - low):
                        tile[k, j] += values[e] * message[top + rows[e], low + j]
        _write(tile, out, low, high)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _scatter(begin, end, index, value, message, total, top, bottom):
    """Add ``Xᵀ M`` over rows ``top … bottom`` to ``total [K, N]``."""
    for r in range(top, bottom):
        m = message[r]
        for e in range(begin[r], end[r]):
            target, v = total[index[e]], value[e]
            for j in range(len(m)):
                target[j] += v * m[j]


def transposed(matrix: np.ndarray, out: np.ndarray) -> None:
    """Transpose ``matrix [N, K]`` to ``out [K, N]``."""
    grain = max(_LINE, _ENTRIES // max(len(matrix), 1))
    machine.split(lambda first, last: _transpose(matrix, out, first, last), len(out), grain)


def event_products(events: tuple[np.ndarray, ...], weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Write ``out [R, N] = X Wᵀ + b``, given the transposed weights ``Wᵀ [K, N]``."""
    fixed, (rows, columns) = (*events, weight, bias, out, len(out) >= _REUSE * len(weight)), out.shape
    if columns >= 2 * _TILE:
        machine.split(lambda left, right: _forward(*fixed, 0, rows, left, right), columns, _TILE)
    else:
        machine.split(lambda top, bottom: _forward(*fixed, top, bottom, 0, columns), rows, _GRAIN)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count_marked(mask, counts, first, last):
    for r in range(first, last):
        row, found = mask[r], 0
        for j in range(len(row)):
            found += row[j]
        counts[r] = found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _list_marked(mask, begin, index, first, last):
    ones = np.empty(mask.shape[1], np.float32)
    for r in range(first, last):
        row = mask[r]
        for j in range(len(row)):
            ones[j] = row[j]
        listed(ones, 0, len(row), index, begin[r])


def marked_rows(mask: Tensor, limit: float) -> EventRows | None:
    """List the true entries of a boolean ``mask [R, K]``, without values; ``None`` above the density ``limit``."""
    marks, rows = mask.contiguous().view(torch.uint8).numpy(), len(mask)
    grain = max(1, _FINDING // max(mask.shape[1], 1))
    counts = np.empty(rows, np.int64)
    machine.split(lambda first, last: _count_marked(marks, counts, first, last), rows, grain)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if rows else 0
    if total > limit * mask.numel():
        return None
    begins, index = ends - counts, np.empty(total, np.int32)
    machine.split(lambda first, last: _list_marked(marks, begins, index, first, last), rows, grain)
    begin, end, column = (torch.from_numpy(each) for each in (begins, ends, index))
    return EventRows(begin, end, column, torch.empty(0))


def event_messages(events: tuple[np.ndarray, ...], weight: np.ndarray, messages: np.ndarray, out: np.ndarray) -> None:
    """Write ``out [R, K] = M W`` where ``X`` is not zero, and 0 elsewhere, given ``Wᵀ [K, N]``."""
    begin, end, index, _ = events
    machine.split(lambda top, bottom: _message(begin, end, index, weight, messages, out, top, bottom), len(out), _GRAIN)


def event_update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """Write ``out [N, K] = Mᵀ X``."""
    if out.size <= _SMALL:
        _narrow_update(events, messages, out)
        return
    begin, end, _, value = events
    lanes, columns = VECTOR // out.itemsize, out.shape[1]
    width = max(_LEAST, min(_TILE, _CACHE // max(columns * out.itemsize, 1) // lanes * lanes))
    counts = [int((end[low : low + _BLOCK] - begin[low : low + _BLOCK]).sum()) for low in range(0, len(begin), _BLOCK)]
    blocks, total = len(counts), sum(counts)
    if total < _FEW * blocks * columns:
        machine.split(lambda left, right: _spread(*events, messages, out, width, left, right), len(out), _LEAST)
        return
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    ordered = np.empty((blocks, columns + 1), np.int64), np.empty(total, np.int32), np.empty(total, value.dtype)
    machine.split(lambda first, last: _by_column(*events, places, *ordered, first, last), blocks, 1)

    def run(first: int, last: int) -> None:  # parts begin at whole vectors: the sums do not depend on the threads
        _update(*ordered, messages, out, width, first * lanes, min(last * lanes, len(out)))

    machine.split(run, -(-len(out) // lanes), _LEAST // lanes)


def _narrow_update(events: tuple[np.ndarray, ...], messages: np.ndarray, out: np.ndarray) -> None:
    """Do as :func:`event_update` for few weights, which stay in the cache; parts do not depend on the threads."""
    rows = len(messages)
    parts = max(1, min(_PARTS, rows // _GRAIN))
    shares = np.zeros((parts, *out.shape[::-1]), out.dtype)

    def run(first: int, last: int) -> None:
        for part in range(first, last):
            _scatter(*events, messages, shares[part], rows * part // parts, rows * (part + 1) // parts)

    machine.split(run, parts, 1, pieces=_PARTS)
    np.copyto(out, shares.sum(0).T)


ENTER, LEAVE = 0.22, 0.26
"""Densities below which a wide layer changes to events, and above which it changes back (docs/performance.md)."""
_HANDLING = 20  # outputs whose products cost as much as finding, keeping and sorting an event
_TRANSPOSITION = 10  # rows whose dense products cost as much as the transposed copy of the weights
_SMALLEST = 1_000_000  # multiplications of a dense product below which its time does not matter


def linear_choice() -> EventChoice:
    """Make the choice of a dense layer without inputs so far."""
    return EventChoice(ENTER, LEAVE)


_HEARD = 64
"""Outputs below which the dense product of all messages takes less time than a search for the inputs that are heard."""


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    choice: EventChoice,
    active_only: bool = False,
    heard: Heard | None = None,
) -> Tensor:
    """Compute ``x Wᵀ + b``, ``[…, K]`` to ``[…, N]``, differentiably, as torch's ``F.linear``.

    A sparse ``x`` (COO, coalesced, without a graph) is used event by event at any density. Where the kernels do not run
    (:func:`~spikelfp.kernels.choice.can_run`, or ``SPIKELFP_EVENTS=never``) it is made dense.

    Args:
        x: ``[…, K]``.
        weight: ``W [N, K]``.
        bias: ``[N]`` or ``None``.
        choice: choice of this layer, which records whether events were used.
        active_only: leave out messages to inputs of 0, which are then 0 instead of ``Wᵀ m``. Allowed where the input
            is the output of neurons under an LFP rule, which take no message when silent.
        heard: which inputs take a message, for the backward pass, where some of 0 do
            (:func:`~spikelfp.functional.credit.earners`); messages to others may be left out.
    """
    limit = choice.limit()
    fits = can_run(x, weight) and (x.is_sparse or limit >= 1 or x.numel() * len(weight) >= _SMALLEST)
    events = _events(x, len(weight), limit) if fits else None
    choice.events = events is not None
    if events is not None:
        return EventLinear.apply(x, weight, bias, events, active_only, heard)
    if x.is_sparse:
        x = x.to_dense()
    return DenseLinear.apply(x, weight, bias) if fits else F.linear(x, weight, bias)


def _events(x: Tensor, outputs: int, limit: float) -> EventRows | None:
    if x.is_sparse:
        return None if limit < 0 else sparse_rows(x)
    if limit < 1:
        limit = limit * outputs / (outputs + _HANDLING) - _TRANSPOSITION * x.shape[-1] / x.numel()
    return cached_events(x, limit) or events_of(x.reshape(-1, x.shape[-1]), limit)


class DenseLinear(Function):
    """``F.linear`` of a large input on the CPU, with results in memory that is reused."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(x, weight)
        out = empty((len(rows), len(weight)), x)
        if bias is None:
            torch.mm(rows, weight.t(), out=out)
        else:
            torch.addmm(bias, rows, weight.t(), out=out)
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, messages = x.reshape(-1, x.shape[-1]), message.reshape(-1, len(weight))
        if torch.is_grad_enabled():  # for second derivatives
            return (messages @ weight).view(x.shape), messages.t() @ rows, messages.sum(0)
        to_x, *others = dense_gradients(messages, rows, weight, ctx.needs_input_grad)
        return None if to_x is None else to_x.view(x.shape), *others


def dense_gradients(
    messages: Tensor, rows: Tensor, weight: Tensor, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Send gradients, or messages, of a dense layer back: ``m W``, ``mᵀ x`` and ``Σ m``.

    Args:
        messages: ``m [R, N]``.
        rows: ``x [R, K]``.
        weight: ``W [N, K]``.
        needs: whether the gradients of inputs, weights and bias are wanted.

    Returns:
        Those gradients; ``None`` for those that are not wanted.
    """
    to_x = to_weight = to_bias = None
    if needs[0]:
        to_x = torch.mm(messages, weight, out=empty(rows.shape, messages))
    if needs[1]:
        to_weight = torch.mm(messages.t(), rows, out=empty(weight.shape, messages))
    if needs[2]:
        to_bias = messages.sum(0)
    return to_x, to_weight, to_bias


class EventLinear(Function):
    """:func:`linear` of an input with known events. It keeps the events and the weights, not the input."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, events: EventRows, active_only: bool,
        heard: Heard | None,
    ) -> Tensor:  # fmt: skip
        by_input = empty(weight.shape[::-1], weight)
        transposed(weight.detach().contiguous().numpy(), by_input.numpy())
        out = empty((len(events.begin), len(weight)), weight)
        offsets = weight.new_zeros(len(weight)) if bias is None else bias.detach().contiguous()
        event_products(events.numpy(), by_input.numpy(), offsets.numpy(), out.numpy())
        sparse = active_only and ctx.needs_input_grad[0] and (heard is None or len(weight) >= _HEARD)
        ctx.save_for_backward(by_input if sparse else None, weight, *events)
        ctx.shape, ctx.heard = x.shape, heard
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        by_input, weight, *parts = ctx.saved_tensors
        events = EventRows(*parts).numpy()
        to_x = to_weight = to_bias = None
        messages = message.reshape(-1, len(weight)).contiguous()
        receivers = None if by_input is None else events if ctx.heard is None else _receivers(ctx.heard, weight)
        if receivers is not None:
            to_x = empty((len(messages), len(by_input)), messages)
            event_messages(receivers, by_input.numpy(), messages.numpy(), to_x.numpy())
            to_x = to_x.view(ctx.shape)
        elif ctx.needs_input_grad[0]:
            to_x = torch.mm(messages, weight, out=empty((len(messages), weight.shape[1]), messages)).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            to_weight = empty(weight.shape, messages)
            event_update(events, messages.numpy(), to_weight.numpy())
        if ctx.needs_input_grad[2]:
            to_bias = messages.sum(0)
        return to_x, to_weight, to_bias, None, None, None


def _receivers(heard: Heard, weight: Tensor) -> tuple[np.ndarray, ...] | None:
    """List the inputs that are heard; ``None`` where they are so many, or not known, that all get their message."""
    mask, (outputs, inputs) = heard(), weight.shape
    if mask is None:
        return None
    limit = 1.0 if chosen_events() == "always" else ENTER * outputs / (outputs + _HANDLING)
    found = marked_rows(mask.reshape(-1, inputs), limit)
    return None if found is None else found.numpy()
