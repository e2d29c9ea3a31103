"""The events of a convolution's input that is given as a sparse tensor: brought into order, nothing scanned."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.conv_events import ImageEvents

_GRAIN = 65_536  # positions and entries below which another thread costs more than it saves


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sort(indices, entries, starts, channels, height, width, keys, values, columns, first, last):
    """From channel by channel to position by position, by counting; images ``first … last``."""
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
    """Events of images ``x [N, C, H, W]``, a coalesced COO tensor on the CPU whose indices fit; ``W C`` to 65,536.

    The same as :func:`~spikelfp.kernels.events.conv_events.image_events` gives for the dense images of the same
    entries, which are all events, whatever their density.
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
