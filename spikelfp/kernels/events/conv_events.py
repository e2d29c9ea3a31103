"""The entries of images that are not zero, position by position: what event-driven convolutions run over."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.conv_lanes import lowest_bit, nonzero_bits, nonzero_count
from spikelfp.kernels.events.conv_vectors import VECTOR

_GRAIN = 65_536  # entries below which another thread costs more than it saves
MOST_KEYS = 2**16
"""Entries that a row of an image may have."""


class ImageEvents(NamedTuple):
    """What is not zero in images ``x [N, C, H, W]``, sorted by image, row, column and channel.

    keys: ``column · C + channel``, uint16; values: in the dtype of ``x``. ``columns [N, H W + 1]``, int32: where the
    events of each position begin, so that those of any stretch of a row are a range; its last entry is their end.
    """

    keys: Tensor
    values: Tensor
    columns: Tensor

    def numpy(self) -> tuple[np.ndarray, ...]:
        """Hands the tensors out as arrays, without a copy."""
        return tuple(part.numpy() for part in self)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(x, size, counts, first, last):
    lanes = VECTOR // x.itemsize
    for n in range(first, last):
        count, at, end = 0, n * size, (n + 1) * size
        while at + lanes <= end:
            count += nonzero_count(x, at)
            at += lanes
        while at < end:
            count += x[at] != 0
            at += 1
        counts[n] = count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _find(x, begin, end, found, count):
    """Append the places behind ``begin`` of all that is not zero in ``begin … end``; returns how many there are now."""
    lanes = VECTOR // x.itemsize
    at = begin
    while at + lanes <= end:
        bits = nonzero_bits(x, at)
        while bits:
            found[count] = at - begin + lowest_bit(bits)
            count += 1
            bits &= bits - np.uint64(1)
        at += lanes
    while at < end:
        if x[at] != 0:
            found[count] = at - begin
            count += 1
        at += 1
    return count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _planes(x, channels, height, width, starts, keys, values, columns, first, last):
    """Events of images that lie in memory channel by channel: found so, then brought into order by counting."""
    plane = height * width
    place = np.empty(plane, np.int64)
    found = np.empty(channels * plane, np.int32)
    until = np.empty(channels, np.int64)
    before = np.empty(plane, np.int32)
    for p in range(plane):
        before[p] = p % width * channels
    for n in range(first, last):
        count = 0
        for c in range(channels):
            low = (n * channels + c) * plane
            count = _find(x, low, low + plane, found, count)
            until[c] = count
        place[:] = 0
        for e in range(count):
            place[found[e]] += 1
        at = starts[n]
        for p in range(plane):
            columns[n, p] = at
            place[p], at = at, at + place[p]
        columns[n, plane] = at
        e = 0
        for c in range(channels):
            low = (n * channels + c) * plane
            while e < until[c]:
                p = found[e]
                slot = place[p]
                place[p] = slot + 1
                keys[slot] = before[p] + c
                values[slot] = x[low + p]
                e += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rows(x, channels, height, width, starts, keys, values, columns, first, last):
    """Events of images that lie in memory position by position: in order as they are found."""
    row = width * channels
    found = np.empty(row, np.int32)
    for n in range(first, last):
        at = starts[n]
        for y in range(height):
            low = (n * height + y) * row
            count = _find(x, low, low + row, found, 0)
            e = 0
            for column in range(width):
                columns[n, y * width + column] = at + e
                while e < count and found[e] < (column + 1) * channels:
                    keys[at + e] = found[e]
                    values[at + e] = x[low + found[e]]
                    e += 1
            at += count
        columns[n, height * width] = at


def image_events(x: Tensor, limit: float) -> ImageEvents | None:
    """Events of ``x [N, C, H, W]``, float32 or float64 on the CPU; ``None`` at a higher density than ``limit``.

    ``W C`` must not exceed :data:`MOST_KEYS`.
    """
    count, channels, height, width = x.shape
    by_position = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    flat = x.detach().permute(0, 2, 3, 1) if by_position else x.detach().contiguous()
    entries = flat.reshape(-1).numpy()
    size = channels * height * width
    grain = max(1, _GRAIN // max(size, 1))
    counts = np.empty(count, np.int64)
    machine.split(lambda low, high: _count(entries, size, counts, low, high), count, grain)
    total = int(counts.sum())
    if total > limit * x.numel():
        return None
    events = ImageEvents(
        torch.empty(total, dtype=torch.uint16),
        torch.empty(total, dtype=x.dtype),
        torch.empty(count, height * width + 1, dtype=torch.int64 if total > 2**31 - 1 else torch.int32),
    )
    starts = np.cumsum(counts) - counts
    fill = _rows if by_position else _planes
    machine.split(
        lambda low, high: fill(entries, channels, height, width, starts, *events.numpy(), low, high), count, grain
    )
    return events
