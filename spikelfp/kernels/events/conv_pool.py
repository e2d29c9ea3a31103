r"""Max-pooling of one image at a time and its way back, for convolutions that keep no unpooled output.

As ``torch.nn.functional.max_pool2d``: squares that touch, what is left over at the border is dropped, the first of
equal values wins, NaN wins over all. The winner is kept as its offset in the square, row by row, in one byte.

The unpooled side lies position by position, ``[row, column, channel]``; the pooled side channel by channel.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.conv_lanes import clear, move, nonzero_bits, pool_window, transpose_square, unpool_window
from spikelfp.kernels.events.conv_shape import Geometry
from spikelfp.kernels.events.conv_vectors import VECTOR

LARGEST = 16
"""Side of the largest square whose offsets fit into one byte."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _transpose(source, at, pitch, rows, columns, target, target_at, target_pitch):
    """``target[j, i] = source[i, j]``; pitch: from row to row."""
    lanes = VECTOR // source.itemsize
    whole_rows, whole_columns = rows - rows % lanes, columns - columns % lanes
    for i in range(0, whole_rows, lanes):
        for j in range(0, whole_columns, lanes):
            transpose_square(source, at + i * pitch + j, pitch, target, target_at + j * target_pitch + i, target_pitch)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            target[target_at + j * target_pitch + i] = source[at + i * pitch + j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pool_rows(source, at, pitch, line, width, top, bottom, g, rows, out, winners, n, channel):
    """Pool rows ``top … bottom`` of an image; ``source[at]`` is where row ``top`` begins.

    pitch: elements from a position to the next; line: from a row to the next. Takes ``width`` channels, whole vectors,
    to those from ``channel`` on of image ``n`` of ``out [N, O, P]`` and ``winners [N, P, padded]``. rows: room for
    them at all pooled positions.
    """
    side, across = g.pool, g.used_width // g.pool
    positions = g.used_height // side * across
    count = min(width, g.outputs - channel)
    lanes = VECTOR // source.itemsize
    first, last = top // side, bottom // side
    target = (n * g.outputs + channel) * positions + first * across
    if side == 1:
        for y in range(first, last):
            _transpose(source, at + (y - top) * line, pitch, across, count, out, target, positions)
            target += across
        return
    place = 0
    kept = (n * positions + first * across) * g.padded + channel
    for py in range(first, last):
        for px in range(across):
            corner = at + (py * side - top) * line + px * side * pitch
            for j in range(0, width, lanes):
                pool_window(source, corner + j, pitch, line, side, rows, place + j, winners, kept + j)
            place += width
            kept += g.padded
    _transpose(rows, 0, width, (last - first) * across, count, out, target, positions)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def unpool_rows(message, winners, n, channel, width, top, bottom, g, target, at, pitch, line, rows, live):
    """The way back: messages to rows ``top … bottom`` of ``target``, each pooled one to its winner, 0 to the others.

    ``live``, one entry a position: whether any message there may differ from 0; where none does, ``target`` is left as
    it is. Channels beyond those of the message get 0.
    """
    side, across = g.pool, g.used_width // g.pool
    positions = g.used_height // side * across
    count = min(width, g.outputs - channel)
    lanes = VECTOR // target.itemsize
    first, last = top // side, bottom // side
    source = (n * g.outputs + channel) * positions + first * across
    pooled = (last - first) * across
    _transpose(message, source, positions, count, pooled, rows, 0, width)
    kept = (n * positions + first * across) * g.padded + channel
    place = 0
    for py in range(first, last):
        for px in range(across):
            for j in range(count, width):
                rows[place + j] = 0
            alive = False
            for j in range(0, width, lanes):
                alive |= nonzero_bits(rows, place + j) != 0
            for y in range(py * side - top, (py + 1) * side - top):
                for x in range(px * side, (px + 1) * side):
                    live[y * g.used_width + x] = alive
            if alive:
                corner = at + (py * side - top) * line + px * side * pitch
                for j in range(0, width, lanes):
                    if side == 1:
                        move(rows, place + j, target, corner + j)
                    else:
                        unpool_window(target, corner + j, pitch, line, side, rows, place + j, winners, kept + j)
            place += width
            kept += g.padded


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pool(source, g, rows, out, winners, first, last):
    line = g.out_width * g.padded
    for n in range(first, last):
        at = n * g.out_height * line
        pool_rows(source, at, g.padded, line, g.padded, 0, g.used_height, g, rows, out, winners, n, 0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unpool(message, winners, g, target, rows, live, first, last):
    line = g.out_width * g.padded
    for n in range(first, last):
        at = n * g.out_height * line
        clear(target, at, at + g.out_height * line)
        unpool_rows(message, winners, n, 0, g.padded, 0, g.used_height, g, target, at, g.padded, line, rows, live)


def _grain(g: Geometry) -> int:
    return max(1, 65_536 // max(1, g.padded * g.out_height * g.out_width))


def pool(source: Tensor, g: Geometry, out: Tensor, winners: Tensor) -> None:
    """``source [N, out height, out width, padded]`` to ``out [N, O, height, width]``; winners ``[N, …, padded]``."""
    arrays = [part.reshape(-1).numpy() for part in (source, out, winners)]

    def run(first: int, last: int) -> None:
        rows = np.empty(math.prod(g.pooled) * g.padded, arrays[0].dtype)
        _pool(arrays[0], g, rows, *arrays[1:], first, last)

    machine.split(run, len(source), _grain(g))


def unpool(message: Tensor, winners: Tensor, g: Geometry, target: Tensor) -> None:
    """Messages ``[N, O, height, width]`` to those before the pooling, ``target [N, out height, out width, padded]``."""
    arrays = [part.reshape(-1).numpy() for part in (message, winners, target)]

    def run(first: int, last: int) -> None:
        rows = np.empty(math.prod(g.pooled) * g.padded, arrays[0].dtype)
        live = np.empty(g.used_height * g.used_width, np.bool_)
        _unpool(arrays[0], arrays[1], g, arrays[2], rows, live, first, last)

    machine.split(run, len(target), _grain(g))
