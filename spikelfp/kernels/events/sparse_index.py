"""Index arithmetic of sparse tensors on the CPU, in one pass over their indices that also sees whether they fit.

An index outside of the shape, which torch lets pass, would lead a kernel to memory that is not its own.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import kernels
from spikelfp.functional.sequence import check_places, merged, replaced
from spikelfp.kernels.events.linear import Events
from spikelfp.machine import empty

_BLOCK = 2048  # entries worked on at once: their places stay in the L1 cache


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join(indices, pitch, sizes, start, end, low, high, places):
    """Where entries ``low … high`` lie in axes ``start`` to ``end`` together; whether they lie inside of all these."""
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
    """All axes to the rows of ``joined``, those from ``start`` to ``end`` to one."""
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
    """``edges``: before which entry each row begins, rows being all axes but the last; ``column``: that one."""
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
    """The indices of ``x`` axis by axis in memory, the distance from axis to axis, and the sizes of the axes."""
    indices = x.indices() if x.indices().stride(1) == 1 else x.indices().contiguous()
    axes, total = indices.shape
    pitch = indices.stride(0)
    flat = indices.as_strided(((axes - 1) * pitch + total,), (1,))
    return flat.numpy(), pitch, np.array(x.shape, np.int64)


def merge(x: Tensor, start: int, end: int) -> Tensor:
    """Axes ``start`` to ``end`` of a coalesced COO tensor as one: :func:`~spikelfp.functional.sequence.merged`.

    Where compiled kernels run (on the CPU) it raises :class:`~spikelfp.errors.ShapeError` for an index outside of the
    shape; elsewhere torch does the arithmetic, and what it checks is checked.
    """
    if x.device.type != "cpu" or kernels.chosen_kernels() not in ("auto", "numba"):
        return merged(x, start, end)
    shape = x.shape
    joined = empty((len(shape) - (end - start), x._nnz()), x.indices())
    if x._nnz() and not _merge(*_flat(x), start, end, joined.numpy()):
        check_places(x)
    return replaced(x, indices=joined, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def sparse_rows(x: Tensor) -> Events:
    """Events of ``x [..., K]``, a coalesced COO tensor on the CPU, whose leading axes are the rows.

    The same as :func:`~spikelfp.kernels.events.linear.events_of` gives for the dense matrix of the same entries, which
    are all events, whatever their density. Raises :class:`~spikelfp.errors.ShapeError` for an index outside of the
    shape.
    """
    edges = torch.zeros(math.prod(x.shape[:-1]) + 1, dtype=torch.int64)
    column = torch.empty(x._nnz(), dtype=torch.int32)
    if len(column) and not _rows(*_flat(x), edges.numpy(), column.numpy()):
        check_places(x)
    values = x.values().detach()  # no view, which would hold all of the sparse tensor for the backward pass
    return Events(edges[:-1], edges[1:], column, values.contiguous())
