"""Sparse tensors on the CPU as lists of events: index arithmetic in one pass that also checks the indices.

torch accepts an index outside of the shape, which would lead a kernel to the memory of others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import kernels, machine
from spikelfp.functional.sequence import check_places, merged, replaced
from spikelfp.kernels.events.conv_kernels import ImageEvents
from spikelfp.machine import empty


class EventRows(NamedTuple):
    """Row ``r`` of a matrix ``[R, K]`` holds ``value[e]`` in column ``column[e]`` for ``begin[r] ≤ e < end[r]``.

    Gaps between rows are allowed; their entries are not used.

    Attributes:
        begin: first entry of each row, int64 ``[R]``.
        end: entry after the last of each row, int64 ``[R]``.
        column: int32, rising within a row.
        value: in the dtype of the matrix.
    """

    begin: Tensor
    end: Tensor
    column: Tensor
    value: Tensor

    def numpy(self) -> tuple[np.ndarray, ...]:
        """Hand the tensors out as arrays, without a copy."""
        return tuple(part.numpy() for part in self)

    @property
    def total(self) -> int:
        """Number of entries."""
        return int((self.end - self.begin).sum())


_BLOCK = 2048  # entries worked on at once: their places stay in the L1 cache


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join(indices, pitch, sizes, start, end, low, high, places):
    """Flatten axes ``start`` to ``end`` of entries ``low … high``; return whether all lie within these axes."""
    outside = np.int64(0)
    for axis in range(start, end + 1):
        index, size = indices[axis * pitch + low : axis * pitch + high], sizes[axis]
        if axis == start:
            for e in range(len(index)):
                outside |= index[e] | (size - 1 - index[e])  # negative where either is
                places[e] = index[e]
        else:
            for e in range(len(index)):
                outside |= index[e] | (size - 1 - index[e])
                places[e] = places[e] * size + index[e]
    return outside >= 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _merge(indices, pitch, sizes, start, end, joined):
    """Copy all axes to the rows of ``joined``, the axes ``start`` to ``end`` flattened to one row."""
    fits = True
    total = joined.shape[1]
    for low in range(0, total, _BLOCK):
        high = min(low + _BLOCK, total)
        for axis in range(len(sizes)):
            if axis <= start:
                last = end if axis == start else axis
                fits &= _join(indices, pitch, sizes, axis, last, low, high, joined[axis, low:high])
            elif axis > end:
                fits &= _join(indices, pitch, sizes, axis, axis, low, high, joined[axis - end + start, low:high])
    return fits


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rows(indices, pitch, sizes, edges, column):
    """Write the first entry of each row (all axes but the last) to ``edges``, and the last axis to ``column``."""
    last = len(sizes) - 1
    total, row, fits = len(column), 0, True
    places = np.empty(_BLOCK, np.int64)
    edges[0] = 0
    for low in range(0, total, _BLOCK):
        high = min(low + _BLOCK, total)
        fits &= _join(indices, pitch, sizes, last, last, low, high, places)
        for e in range(high - low):
            column[low + e] = places[e]
        fits &= _join(indices, pitch, sizes, 0, last - 1, low, high, places)
        if not fits:
            return False
        for e in range(high - low):
            while row < places[e]:
                row += 1
                edges[row] = low + e
    edges[row + 1 :] = total
    return True


def _flat(x: Tensor) -> tuple[np.ndarray, int, np.ndarray]:
    """Return the indices of ``x`` axis by axis in memory, the distance between axes, and the sizes of the axes."""
    indices = x.indices() if x.indices().stride(1) == 1 else x.indices().contiguous()
    axes, total = indices.shape
    pitch = indices.stride(0)
    flat = indices.as_strided(((axes - 1) * pitch + total,), (1,))
    return flat.numpy(), pitch, np.array(x.shape, np.int64)


def merge(x: Tensor, start: int, end: int) -> Tensor:
    """Flatten axes ``start`` to ``end`` of a coalesced COO tensor: :func:`~spikelfp.functional.sequence.merged`.

    Where compiled kernels do not run, torch does the arithmetic with its own checks.

    Raises:
        ShapeError: for an index outside of the shape, where compiled kernels run.
    """
    if x.device.type != "cpu" or kernels.chosen_kernels() not in ("auto", "numba"):
        return merged(x, start, end)
    shape = x.shape
    joined = empty((len(shape) - (end - start), x._nnz()), x.indices())
    if x._nnz() and not _merge(*_flat(x), start, end, joined.numpy()):
        check_places(x)
    return replaced(x, indices=joined, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def sparse_rows(x: Tensor) -> EventRows:
    """List the events of ``x [..., K]``, a coalesced COO tensor on the CPU; its leading axes are the rows.

    The result is that of :func:`~spikelfp.kernels.events.linear.events_of` for the dense matrix, at any density.

    Raises:
        ShapeError: for an index outside of the shape.
    """
    edges = torch.zeros(math.prod(x.shape[:-1]) + 1, dtype=torch.int64)
    column = torch.empty(x._nnz(), dtype=torch.int32)
    if len(column) and not _rows(*_flat(x), edges.numpy(), column.numpy()):
        check_places(x)
    values = x.values().detach()  # a view would keep the whole sparse tensor for the backward pass
    return EventRows(edges[:-1], edges[1:], column, values.contiguous())


_GRAIN = 65_536  # positions and entries below which another thread costs more than it saves


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sort(indices, entries, starts, channels, height, width, keys, values, columns, first, last):
    """Sort the events of images ``first … last`` from channel order to position order, by counting."""
    plane = height * width
    place = np.empty(plane, np.int64)
    for n in range(first, last):
        place[:] = 0
        for e in range(starts[n], starts[n + 1]):
            place[indices[2, e] * width + indices[3, e]] += 1
        at = starts[n]
        for p in range(plane):
            columns[n, p] = at
            place[p], at = at, at + place[p]
        columns[n, plane] = at
        for e in range(starts[n], starts[n + 1]):
            p = indices[2, e] * width + indices[3, e]
            slot = place[p]
            place[p] = slot + 1
            keys[slot] = indices[3, e] * channels + indices[1, e]
            values[slot] = entries[e]


def sparse_images(x: Tensor) -> ImageEvents:
    """List the events of images ``x [N, C, H, W]``, a coalesced COO tensor on the CPU; ``W C`` is at most 65,536.

    The result is that of :func:`~spikelfp.kernels.events.conv_kernels.image_events` for the dense images, at any
    density. Indices are not checked.
    """
    count, channels, height, width = x.shape
    indices, entries = x.indices().contiguous(), x.values().contiguous()
    total, plane = len(entries), height * width
    events = ImageEvents(
        torch.empty(total, dtype=torch.uint16),
        torch.empty_like(entries),
        torch.empty(count, plane + 1, dtype=torch.int64 if total > 2**31 - 1 else torch.int32),
    )
    starts = torch.searchsorted(indices[0], torch.arange(count + 1))
    fixed = (indices.numpy(), entries.numpy(), starts.numpy(), channels, height, width, *events.numpy())
    grain = max(1, _GRAIN * max(count, 1) // (count * plane + total + 1))
    machine.split(lambda low, high: _sort(*fixed, low, high), count, grain)
    return events


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _average(plane, row, column, entries, windows, out_height, out_width, divisor, last, rows, columns, values):
    """Divide the sums of windows by ``divisor``, in order; return how many differ from 0.

    ``last`` takes an entry of each of these windows.
    """
    down, across = windows
    sums = np.zeros(out_width, entries.dtype)
    count, e = 0, 0
    while e < len(entries):
        image, y = plane[e], row[e] // down
        while e < len(entries) and plane[e] == image and row[e] // down == y:
            x = column[e] // across
            if x < out_width:
                sums[x] += entries[e]
            e += 1
        for x in range(out_width):
            if sums[x] != 0 and y < out_height:
                last[count], rows[count], columns[count] = e - 1, y, x
                values[count] = sums[x] / divisor
                count += 1
            sums[x] = 0
    return count


def sparse_average(x: Tensor, windows: tuple[int, int], divisor: int) -> Tensor:
    """Average-pool a sparse tensor over windows that touch, as ``F.avg_pool2d``; the rest at the border is dropped.

    Args:
        x: ``[..., H, W]``, a coalesced COO tensor on the CPU, float32 or float64.
        windows: height and width of a window.
        divisor: divisor of the sum over a window.

    Returns:
        a coalesced COO tensor without entries of 0.

    Raises:
        ShapeError: for an index outside of the shape.
    """
    check_places(x)
    height, width = (size // window for size, window in zip(x.shape[-2:], windows, strict=True))
    indices, entries = x.indices(), x.values().contiguous().numpy()
    plane, row, column = (index.contiguous().numpy() for index in merged(x, 0, x.dim() - 3).indices())
    last, rows, columns = (np.empty(len(entries), np.int64) for _ in range(3))
    values: Any = np.empty_like(entries)
    by = entries.dtype.type(divisor)
    count = _average(plane, row, column, entries, windows, height, width, by, last, rows, columns, values)
    lead = indices[:-2, torch.from_numpy(last[:count])]
    places = torch.cat([lead, torch.from_numpy(rows[:count])[None], torch.from_numpy(columns[:count])[None]])
    means = torch.from_numpy(values[:count].copy())
    return replaced(x, indices=places, values=means, shape=(*x.shape[:-2], height, width))
