"""Average-pooling of sparse images: sparse again, with at most as many entries."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp.functional.sequence import check_places, merged, replaced


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _average(plane, row, column, entries, windows, out_height, out_width, divisor, last, rows, columns, values):
    """Sums of windows over ``divisor``, in order; returns how many differ from 0. last: an entry of each of them."""
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
    """Sums over touching ``windows`` (height, width) of ``x [..., H, W]``, over ``divisor``; as ``F.avg_pool2d``.

    x: a coalesced COO tensor on the CPU, float32 or float64; so is what is returned, without entries of 0. What is left
    over at the border is dropped. Raises :class:`~spikelfp.errors.ShapeError` for an index outside of the shape.
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
