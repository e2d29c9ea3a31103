r"""A convolution whose input is given by its events, with the max-pooling behind it, event by event::

    z[i, j, :] = b + Σ_e x W[y + p − s i, u + p − s j, c, :]     x: the event in row y, column u, channel c

A position of the output at a time, one row of the kernel after the other: the events that it sees there are a range,
and the weights that are read, ``W [kernel row, kernel column · C, O]``, stay in the L1 cache. The output of an image,
or a band of its rows, lives in the L2 cache until it is pooled; :mod:`spikelfp.kernels.events.conv_backward` is the way
back.
"""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.conv_events import ImageEvents
from spikelfp.kernels.events.conv_lanes import move
from spikelfp.kernels.events.conv_pool import pool_rows
from spikelfp.kernels.events.conv_shape import Geometry
from spikelfp.kernels.events.conv_vectors import VECTOR, WIDE, add_rows, add_rows_narrow

_GRAIN = 65_536  # elements of input and output below which another thread costs more than it saves


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gather(keys, values, columns, weight, g, tile, width, wide, top, bottom, out):
    """Add to rows ``top … bottom`` of the output of one image, ``out [positions, width]``."""
    for ky in range(g.kernel_height):
        for oy in range(top, bottom):
            y = oy * g.stride_height + ky - g.pad_height
            if y < 0 or y >= g.height:
                continue
            for ox in range(g.used_width):
                left = ox * g.stride_width - g.pad_width
                begin, end = max(left, 0), min(left + g.kernel_width, g.width)
                if begin >= end:
                    continue
                low, high = np.int64(columns[y * g.width + begin]), np.int64(columns[y * g.width + end])
                if low < high:
                    at = ((oy - top) * g.used_width + ox) * width
                    rows = (ky * g.kernel_width - left) * g.channels * g.padded + tile
                    if wide:
                        add_rows(out, at, weight, rows, g.padded, keys, values, low, high)
                    else:
                        add_rows_narrow(out, at, weight, rows, g.padded, keys, values, low, high)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(keys, values, columns, weight, bias, g, scratch, rows, out, winners, first, last):
    lanes = VECTOR // weight.itemsize
    for n in range(first, last):
        for top in range(0, g.used_height, g.band):
            bottom = min(top + g.band, g.used_height)
            tile = 0
            while tile < g.padded:
                wide = tile + WIDE * lanes <= g.padded
                width = WIDE * lanes if wide else lanes
                for at in range(0, (bottom - top) * g.used_width * width, width):
                    for j in range(0, width, lanes):
                        move(bias, tile + j, scratch, at + j)
                _gather(keys, values, columns[n], weight, g, tile, width, wide, top, bottom, scratch)
                line = g.used_width * width
                pool_rows(scratch, 0, width, line, width, top, bottom, g, rows, out, winners, n, tile)
                tile += width


def grain(g: Geometry) -> int:
    return max(1, _GRAIN // (g.channels * g.height * g.width + g.outputs * g.out_height * g.out_width))


def by_row(weight: Tensor, g: Geometry) -> Tensor:
    """``weight [O, C, kernel height, kernel width]`` as ``[kernel height · kernel width · C, padded]``."""
    rows = weight.new_zeros(g.kernel_height, g.kernel_width, g.channels, g.padded)
    rows[..., : g.outputs] = weight.detach().permute(2, 3, 1, 0)
    return rows.flatten(0, 2)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1).numpy()


def room(g: Geometry, like: Tensor) -> np.ndarray:
    """For the output of a band of rows; torch's memory, unlike numpy's, begins where a vector may."""
    rows = min(g.band, g.used_height)
    return array(like.new_empty(rows * g.used_width * WIDE * VECTOR // like.element_size()))


def forward(
    events: ImageEvents, weight: Tensor, bias: Tensor | None, g: Geometry, out: Tensor, winners: Tensor
) -> None:
    """``out [N, O, height, width]``, pooled, and the ``winners [N, height · width, padded]`` (empty without)."""
    offsets = weight.new_zeros(g.padded)
    if bias is not None:
        offsets[: g.outputs] = bias.detach()
    fixed = (*events.numpy(), array(by_row(weight, g)), offsets.numpy(), g)
    targets = array(out), array(winners)

    def run(first: int, last: int) -> None:
        _forward(*fixed, room(g, weight), room(g, weight), *targets, first, last)

    machine.split(run, len(out), grain(g))
