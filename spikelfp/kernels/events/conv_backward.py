r"""Messages and weight updates of a convolution whose input is given by its events.

With ``x`` the value of the event in row ``y``, column ``u``, channel ``c``, and ``(i, j)`` running over the kernel::

    m[y, u, c]      = Σ_(i, j) W[i, j, c, :] · M[(y + p − i) / s, (u + p − j) / s, :]     message, at events only
    dW[i, j, c, :] += x M[(y + p − i) / s, (u + p − j) / s, :]                           weight update

The messages ``M`` to the unpooled output of one image, or a band of its rows, are made from the pooled ones and the
winners and stay in the cache. As forward, a position of the output at a time, one row of the kernel after the other:
the events that it sees there are a range, and its messages stay in registers while they go by. Sums over images are
made by each thread for itself, then added up.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.conv import array, by_row, grain, room
from spikelfp.kernels.events.conv_events import ImageEvents
from spikelfp.kernels.events.conv_lanes import clear, lane_sum
from spikelfp.kernels.events.conv_pool import unpool_rows
from spikelfp.kernels.events.conv_shape import Geometry
from spikelfp.kernels.events.conv_vectors import (
    VECTOR,
    WIDE,
    dot_rows,
    dot_rows_narrow,
    spread_row,
    spread_row_narrow,
)
from spikelfp.machine import empty


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scatter(keys, values, columns, weight, g, tile, width, wide, top, bottom, message, live, sums, update):
    """From the messages to rows ``top … bottom`` of the output of one image: add to those at its events, and to dW."""
    origin = np.int64(columns[0])
    for ky in range(g.kernel_height):
        for oy in range(top, bottom):
            y = oy * g.stride_height + ky - g.pad_height
            if y < 0 or y >= g.height:
                continue
            for ox in range(g.used_width):
                place = (oy - top) * g.used_width + ox
                left = ox * g.stride_width - g.pad_width
                begin, end = max(left, 0), min(left + g.kernel_width, g.width)
                if begin >= end:
                    continue
                low, high = np.int64(columns[y * g.width + begin]), np.int64(columns[y * g.width + end])
                if low >= high or not live[place]:
                    continue
                at = place * width
                rows = (ky * g.kernel_width - left) * g.channels * g.padded + tile
                if sums.size > 0:
                    if wide:
                        dot_rows(message, at, weight, rows, g.padded, keys, sums, origin, low, high)
                    else:
                        dot_rows_narrow(message, at, weight, rows, g.padded, keys, sums, origin, low, high)
                if update.size > 0:
                    if wide:
                        spread_row(message, at, update, rows, g.padded, keys, values, low, high)
                    else:
                        spread_row_narrow(message, at, update, rows, g.padded, keys, values, low, high)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _to_events(keys, columns, sums, g, n, out):
    """Add up the lanes of the sums of image ``n`` and put them in their places; the others get 0."""
    lanes = VECTOR // sums.itemsize
    plane = g.height * g.width
    begin, origin = n * g.channels * plane, columns[0]
    clear(out, begin, begin + g.channels * plane)
    e = p = 0
    for _ in range(g.height):
        for x in range(g.width):
            while e < columns[p + 1] - origin:
                c = keys[origin + e] - x * g.channels
                out[begin + c * plane + p] = lane_sum(sums, e * lanes)
                e += 1
            p += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _backward(keys, values, columns, weight, g, message, winners, scratch, rows, live, sums, out, update, first, last):
    lanes = VECTOR // weight.itemsize
    for n in range(first, last):
        own = columns[n]
        if sums.size > 0:
            clear(sums, 0, (own[-1] - own[0]) * lanes)
        for top in range(0, g.used_height, g.band):
            bottom = min(top + g.band, g.used_height)
            tile = 0
            while tile < g.padded:
                wide = tile + WIDE * lanes <= g.padded
                width = WIDE * lanes if wide else lanes
                line = g.used_width * width
                unpool_rows(message, winners, n, tile, width, top, bottom, g, scratch, 0, width, line, rows, live)
                _scatter(keys, values, own, weight, g, tile, width, wide, top, bottom, scratch, live, sums, update)
                tile += width
        if sums.size > 0:
            _to_events(keys, own, sums, g, n, out)


def backward(
    events: ImageEvents, weight: Tensor, g: Geometry, message: Tensor, winners: Tensor, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Message to the events, ``[N, C, H, W]`` and 0 elsewhere, and the weight update, from ``message [N, O, …]``."""
    keys, values, columns = events.numpy()
    most = int((columns[:, -1] - columns[:, 0]).max(initial=0))
    out = empty((len(message), g.channels, g.height, g.width), message) if to_x else None
    rows = by_row(weight, g)
    shares: dict[int, Tensor] = {}
    fixed = (keys, values, columns, array(rows), g, array(message), array(winners))
    target = array(message.new_empty(0) if out is None else out)

    def run(first: int, last: int) -> None:
        live = np.empty(g.used_height * g.used_width, np.bool_)
        sums = array(weight.new_empty(max(most, 1) * VECTOR // weight.element_size() if to_x else 0))
        shares[first] = torch.zeros_like(rows) if to_weight else rows.new_empty(0)
        _backward(*fixed, room(g, weight), room(g, weight), live, sums, target, array(shares[first]), first, last)

    machine.split(run, len(message), grain(g))
    if not to_weight:
        return out, None
    total = sum((shares[first] for first in sorted(shares)), torch.zeros_like(rows))
    update = total.view(g.kernel_height, g.kernel_width, g.channels, g.padded)[..., : g.outputs]
    return out, update.permute(3, 2, 0, 1).contiguous()
