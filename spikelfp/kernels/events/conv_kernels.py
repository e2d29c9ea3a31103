r"""Compiled kernels of event-driven convolution and max-pooling: finding events, forward pass, backward pass.

Forward, with ``x`` the value of the event in row ``y``, column ``u``, channel ``c``::

    z[i, j, :] = b + Σ_e x W[y + p − s i, u + p − s j, c, :]

Back, with ``(i, j)`` running over the kernel::

    m[y, u, c]      = Σ_(i, j) W[i, j, c, :] · M[(y + p − i) / s, (u + p − j) / s, :]     message, at events only
    dW[i, j, c, :] += x M[(y + p − i) / s, (u + p − j) / s, :]                           weight update

Both take one row of the kernel after the other, and for each row one output position after the other. The events under
that row are a range, and the weights, ``W [kernel row, kernel column · C, O]``, stay in the L1 cache. The output of an
image, or a band of its rows, stays in the L2 cache until it is pooled; the backward pass computes the messages to it
from the pooled messages and the winners. Each thread sums over its images, then these sums are added.

Max-pooling follows ``torch.nn.functional.max_pool2d``: squares that touch, the rest at the border is dropped, the first
of equal values wins, NaN wins over all. The winner is kept in one byte, as its offset in the square, row by row.
Unpooled arrays are ordered by position, ``[row, column, channel]``; pooled ones channel by channel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp import machine
from spikelfp.kernels.events.vectors import (
    VECTOR,
    WIDE,
    clear,
    dot_rows,
    dot_rows_narrow,
    lane_sum,
    lowest_bit,
    move,
    nonzero_bits,
    nonzero_count,
    padded,
    pool_window,
    spread_row,
    spread_row_narrow,
    transpose_square,
    unpool_window,
    weighted_rows,
    weighted_rows_narrow,
)
from spikelfp.machine import empty

_BAND = 131_072  # bytes of output worked on at once: it stays in the L2 cache beside the weights


class Geometry(NamedTuple):
    """Sizes of a convolution of ``[channels, height, width]`` to ``[outputs, out_height, out_width]`` and its pooling.

    Attributes:
        pool: side of the squares of the max-pooling, 1 for no pooling.
        used_height: rows of the output that pooling covers.
        used_width: columns of the output that pooling covers.
        padded: outputs rounded up to whole vectors.
        band: rows of output worked on at once.
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    pad_height: int
    pad_width: int
    outputs: int
    out_height: int
    out_width: int
    pool: int
    used_height: int
    used_width: int
    padded: int
    band: int

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width after the pooling."""
        return self.out_height // self.pool, self.out_width // self.pool


class Steps(NamedTuple):
    """Stride, padding, dilation and groups of a convolution, as in ``torch.nn.functional.conv2d``."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def geometry(x: Tensor, weight: Tensor, steps: Steps, pool: int) -> Geometry:
    """Compute the sizes for images ``x [N, C, H, W]`` and ``weight [O, C / groups, kernel height, kernel width]``."""
    (_, channels, height, width), (outputs, _, kernel_height, kernel_width) = x.shape, weight.shape
    down, across = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1  # the formula of torch.nn.Conv2d
        for size, kernel, stride, padding, dilation in zip(
            (height, width), (kernel_height, kernel_width), *steps[:3], strict=True
        )
    )
    return Geometry(
        channels, height, width, kernel_height, kernel_width, *steps.stride, *steps.padding,
        outputs=outputs,
        out_height=down,
        out_width=across,
        pool=pool,
        used_height=down // pool * pool,
        used_width=across // pool * pool,
        padded=padded(outputs, weight.element_size()),
        band=max(1, _BAND // (WIDE * VECTOR * pool * max(across, 1))) * pool,
    )  # fmt: skip


_EVENTS_GRAIN = 65_536  # entries below which another thread costs more than it saves
MOST_KEYS = 2**16
"""Most entries of a row of an image."""


class ImageEvents(NamedTuple):
    """Entries of images ``x [N, C, H, W]`` that are not zero, sorted by image, row, column and channel.

    Attributes:
        keys: ``column · C + channel``, uint16.
        values: in the dtype of ``x``.
        columns: ``[N, H W + 1]``, int32 (int64 for more than 2³¹ − 1 events): first event of each position, so that
            the events of any part of a row are a range; the last entry is the end.
    """

    keys: Tensor
    values: Tensor
    columns: Tensor

    def numpy(self) -> tuple[np.ndarray, ...]:
        """Hand the tensors out as arrays, without a copy."""
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
    """Append the places, counted from ``begin``, of the non-zero entries of ``begin … end``; return the new count."""
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
    """Find the events of images that lie in memory channel by channel, and sort them by counting."""
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
    """Find the events of images that lie in memory position by position, which are in order already."""
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
    """Find the events of images.

    Args:
        x: ``[N, C, H, W]``, float32 or float64 on the CPU; ``W C`` must not exceed :data:`MOST_KEYS`.
        limit: highest density.

    Returns:
        The events, or ``None`` at a higher density.
    """
    count, channels, height, width = x.shape
    by_position = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    flat = x.detach().permute(0, 2, 3, 1) if by_position else x.detach().contiguous()
    entries = flat.reshape(-1).numpy()
    size = channels * height * width
    grain = max(1, _EVENTS_GRAIN // max(size, 1))
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


LARGEST = 16
"""Side of the largest square whose offsets fit into one byte."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _transpose(source, at, pitch, rows, columns, target, target_at, target_pitch):
    """Set ``target[j, i] = source[i, j]``; a pitch is the distance from row to row."""
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
    """Pool rows ``top … bottom`` of an image, ``width`` channels (whole vectors) of it.

    Args:
        source: unpooled output, flat.
        at: place in ``source`` at which row ``top`` begins.
        pitch: elements from one position to the next.
        line: elements from one row to the next.
        width: number of channels.
        top: first row.
        bottom: row after the last.
        g: the sizes.
        rows: scratch memory for ``width`` channels at all pooled positions.
        out: pooled output ``[N, O, P]``, written from ``channel`` on of image ``n``.
        winners: ``[N, P, padded]``, likewise.
        n: the image.
        channel: first channel written.
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
    """Send the messages to rows ``top … bottom`` of ``target``: each pooled one to its winner, 0 to the others.

    ``live`` is set, for each position, to whether any message there differs from 0; where none does, ``target`` is left
    as it is. Channels beyond those of the message get 0.
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
    """Pool ``source [N, out height, out width, padded]`` to ``out [N, O, height, width]`` and its ``winners``."""
    arrays = [part.reshape(-1).numpy() for part in (source, out, winners)]

    def run(first: int, last: int) -> None:
        rows = np.empty(math.prod(g.pooled) * g.padded, arrays[0].dtype)
        _pool(arrays[0], g, rows, *arrays[1:], first, last)

    machine.split(run, len(source), _grain(g))


def unpool(message: Tensor, winners: Tensor, g: Geometry, target: Tensor) -> None:
    """Send ``message [N, O, height, width]`` back to ``target [N, out height, out width, padded]``."""
    arrays = [part.reshape(-1).numpy() for part in (message, winners, target)]

    def run(first: int, last: int) -> None:
        rows = np.empty(math.prod(g.pooled) * g.padded, arrays[0].dtype)
        live = np.empty(g.used_height * g.used_width, np.bool_)
        _unpool(arrays[0], arrays[1], g, arrays[2], rows, live, first, last)

    machine.split(run, len(target), _grain(g))


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
                        weighted_rows(out, at, out, at, weight, rows, g.padded, keys, values, low, high)
                    else:
                        weighted_rows_narrow(out, at, out, at, weight, rows, g.padded, keys, values, low, high)


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
    """Return how many images one thread takes at least."""
    return max(1, _GRAIN // (g.channels * g.height * g.width + g.outputs * g.out_height * g.out_width))


def by_row(weight: Tensor, g: Geometry) -> Tensor:
    """Arrange ``weight [O, C, kernel height, kernel width]`` as ``[kernel height · kernel width · C, padded]``."""
    rows = weight.new_zeros(g.kernel_height, g.kernel_width, g.channels, g.padded)
    rows[..., : g.outputs] = weight.detach().permute(2, 3, 1, 0)
    return rows.flatten(0, 2)


def array(tensor: Tensor) -> np.ndarray:
    """View a tensor as a flat array, without a copy."""
    return tensor.detach().reshape(-1).numpy()


def band_buffer(g: Geometry, like: Tensor) -> np.ndarray:
    """Allocate the output of a band of rows in torch's memory, which is aligned for vectors, unlike numpy's."""
    rows = min(g.band, g.used_height)
    return array(like.new_empty(rows * g.used_width * WIDE * VECTOR // like.element_size()))


def forward(
    events: ImageEvents, weight: Tensor, bias: Tensor | None, g: Geometry, out: Tensor, winners: Tensor
) -> None:
    """Write ``out [N, O, height, width]``, pooled, and the ``winners [N, height · width, padded]`` (empty without)."""
    offsets = weight.new_zeros(g.padded)
    if bias is not None:
        offsets[: g.outputs] = bias.detach()
    fixed = (*events.numpy(), array(by_row(weight, g)), offsets.numpy(), g)
    targets = array(out), array(winners)

    def run(first: int, last: int) -> None:
        _forward(*fixed, band_buffer(g, weight), band_buffer(g, weight), *targets, first, last)

    machine.split(run, len(out), grain(g))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scatter(keys, values, columns, weight, g, tile, width, wide, top, bottom, message, live, sums, update):
    """Add the messages to rows ``top … bottom`` of an output to the messages at its events, and to dW."""
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
    """Add up the lanes of the sums of image ``n`` and write them to its events; other places get 0."""
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
    """Compute the message to the events, ``[N, C, H, W]``, 0 elsewhere, and the update, from ``message [N, O, …]``."""
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
        buffers = band_buffer(g, weight), band_buffer(g, weight)
        _backward(*fixed, *buffers, live, sums, target, array(shares[first]), first, last)

    machine.split(run, len(message), grain(g))
    if not to_weight:
        return out, None
    total = sum((shares[first] for first in sorted(shares)), torch.zeros_like(rows))
    update = total.view(g.kernel_height, g.kernel_width, g.channels, g.padded)[..., : g.outputs]
    return out, update.permute(3, 2, 0, 1).contiguous()
