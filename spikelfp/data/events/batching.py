"""Batches ``[T, B, …]`` of sparse sequences, dense or as a sparse COO tensor, written by compiled loops."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import machine
from spikelfp.data.events.binning import SparseFrames
from spikelfp.data.events.event import Sensor
from spikelfp.data.sequences import Sequences, whole_batches
from spikelfp.errors import DataError, ShapeError
from spikelfp.machine import available, gigabytes


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill(places, counts, offsets, rows, size, levels, out, wrong, low, high):
    """Write the samples ``low…high`` of a dense batch ``out`` float32 ``[T, B, size]``, zeros included.

    Sample ``b`` is sequence ``rows[b]``. Step by step for all of them, since those stand side by side in memory. Places
    that do not rise, or lie behind ``T``, are left out and set ``wrong[0]``.
    """
    unit = np.float32(levels)
    next_entry = np.empty(high - low, np.int64)
    for b in range(low, high):
        next_entry[b - low] = offsets[rows[b]]
    for t in range(out.shape[0]):
        first = np.int64(t) * size
        for b in range(low, high):
            line = out[t, b]
            for e in range(size):
                line[e] = 0
            entry, end = next_entry[b - low], offsets[rows[b] + 1]
            while entry < end:
                element = np.int64(places[entry]) - first
                if element >= size:
                    break
                if element < 0:
                    wrong[0] = 1
                    break
                line[element] = np.float32(counts[entry]) / unit
                entry += 1
            next_entry[b - low] = entry
    for b in range(low, high):
        if next_entry[b - low] < offsets[rows[b] + 1]:
            wrong[0] = 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_steps(places, offsets, rows, size, entries, wrong, low, high):
    """Count the entries of each step of the samples ``low…high`` in ``entries`` int64 ``[T, B]``, all zero before."""
    steps = entries.shape[0]
    for b in range(low, high):
        t, first, before = 0, np.int64(0), np.int64(-1)
        for entry in range(offsets[rows[b]], offsets[rows[b] + 1]):
            place = np.int64(places[entry])
            if place >= first + size:
                t = place // size
                first = t * size
            if place <= before or t >= steps:
                wrong[0] = 1
                break
            before = place
            entries[t, b] += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def list_entries(places, counts, offsets, rows, shape, levels, begin, indices, values, low, high):
    """Write the samples ``low…high`` of a sparse batch: entries of step ``t`` of sample ``b`` from ``begin[t, b]`` on.

    shape: int64 ``[3]``, polarities, rows and columns. indices: int64 ``[5, nnz]`` or, of a line, ``[3, nnz]``.
    """
    unit = np.float32(levels)
    height, width = shape[1], shape[2]
    size = shape[0] * height * width
    line = len(indices) == 3
    for b in range(low, high):
        t, first, to = np.int64(-1), np.int64(0), np.int64(0)
        row, edge, p, y = np.int64(0), np.int64(-1), np.int64(0), np.int64(0)  # ``edge``: first element behind the row
        for entry in range(offsets[rows[b]], offsets[rows[b] + 1]):
            place = np.int64(places[entry])
            if t < 0 or place >= first + size:
                t = place // size
                first = t * size
                to = begin[t, b]
                edge = -1
            element = place - first
            if element >= edge:
                row = element // width
                edge = (row + 1) * width
                p, y = row // height, row % height
            indices[0, to] = t
            indices[1, to] = b
            if line:
                indices[2, to] = element
            else:
                indices[2, to] = p
                indices[3, to] = y
                indices[4, to] = element - row * width
            values[to] = np.float32(counts[entry]) / unit
            to += 1


_GRAIN = 1 << 16  # elements or entries below which another thread costs more than it saves


class PackedFrames(NamedTuple):
    """The sequences of ``N`` recordings, one behind the other; see :class:`~spikelfp.data.events.SparseFrames`.

    Those of recording ``i`` are ``places[offsets[i]:offsets[i + 1]]`` and ``counts`` likewise; places count from the
    begin of each recording.

    places: uint32 ``[M]``. counts: uint16 ``[M]``. offsets: int64 ``[N + 1]``. steps: int64 ``[N]``.
    """

    places: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    steps: NDArray[np.int64]


def pack(sequences: Iterable[SparseFrames]) -> PackedFrames:
    """The ``sequences`` one behind the other, at least one."""
    each = list(sequences)
    lengths = np.array([len(one.places) for one in each], np.int64)
    return PackedFrames(
        np.concatenate([one.places for one in each]),
        np.concatenate([one.counts for one in each]),
        np.concatenate([np.zeros(1, np.int64), lengths.cumsum()]),
        np.array([one.steps for one in each], np.int64),
    )


def dense(frames: SparseFrames, shape: tuple[int, ...], levels: int = 1) -> Tensor:
    """One sequence as float32 ``[T, *shape]``, values ``count / levels``. The plain way, for drawing and for tests.

    shape: of one step, :attr:`~spikelfp.data.events.Sensor.shape`.
    """
    values = torch.zeros(frames.steps * math.prod(shape))
    values[torch.from_numpy(frames.places.astype(np.int64))] = torch.from_numpy(frames.counts.astype(np.float32))
    return (values / levels).view(frames.steps, *shape)


def batch_dense(
    places: NDArray[np.uint32],
    counts: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    steps: NDArray[np.int64],
    rows: NDArray[np.int64],
    size: int,
    levels: int,
    out: Tensor,
) -> Tensor:
    """Write the sequences ``rows`` (int64 ``[B]``) of :class:`PackedFrames` into ``out``, and return it.

    Sample ``b`` is sequence ``rows[b]``; values are ``count / levels``, and 0 behind its ``steps``. Every element is
    written, so that ``out`` may hold anything before (take it from :func:`spikelfp.machine.empty`).

    size: elements of one step. out: contiguous float32 ``[T, B, size]`` or ``[T, B, *shape]``, ``T`` at least the steps
    of each.

    Raises:
        ShapeError: for an ``out`` of another shape or dtype, or too few steps.
        DataError: for places that do not rise or lie behind the steps.
    """
    samples = len(rows)
    check_batch(out, steps, rows, size)
    if samples == 0:
        return out
    values, wrong = out.view(len(out), samples, size).numpy(), np.zeros(1, np.uint8)
    data = np.asarray(places), np.asarray(counts), np.asarray(offsets), np.asarray(rows)
    grain = max(1, _GRAIN // (len(out) * size))
    machine.split(lambda low, high: fill(*data, size, levels, values, wrong, low, high), samples, grain)
    if wrong[0]:
        raise damaged()
    return out


def batch_sparse(
    places: NDArray[np.uint32],
    counts: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    steps: NDArray[np.int64],
    rows: NDArray[np.int64],
    shape: tuple[int, ...],
    levels: int,
    length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The sequences ``rows`` (int64 ``[B]``) of :class:`PackedFrames` as the parts of a coalesced sparse COO tensor.

    Gives ``(indices, values)``: int64 ``[2 + len(shape), nnz]``, columns ``(t, b, *element)`` in rising order, and
    float32 ``[nnz]``, ``count / levels``. For the tensor ``[T, B, *shape]``::

        torch.sparse_coo_tensor(indices, values, (T, B, *shape), is_coalesced=True, check_invariants=False)

    shape: of one step, :attr:`~spikelfp.data.events.Sensor.shape`. length: ``T``, by default the most ``steps``.

    Raises:
        ShapeError: for a ``length`` that is too short.
        DataError: for places that do not rise or lie behind the steps.
    """
    samples, size = len(rows), math.prod(shape)
    if samples == 0:
        return torch.empty(2 + len(shape), 0, dtype=torch.int64), torch.empty(0)
    length = int(steps[rows].max()) if length is None else length
    _check_steps(steps, rows, length)
    data = np.asarray(places), np.asarray(counts), np.asarray(offsets), np.asarray(rows)
    entries, wrong = np.zeros((length, samples), np.int64), np.zeros(1, np.uint8)
    total = int((data[2][data[3] + 1] - data[2][data[3]]).sum())
    grain = max(1, _GRAIN * samples // max(total, 1))

    def count(low: int, high: int) -> None:
        count_steps(data[0], *data[2:], size, entries, wrong, low, high)

    machine.split(count, samples, grain)
    if wrong[0]:
        raise damaged()
    begin = entries.cumsum().reshape(entries.shape) - entries
    indices = torch.empty(2 + len(shape), total, dtype=torch.int64)
    values = torch.empty(total)
    lines = np.array((1, 1, *shape)[-3:], np.int64)

    def write(low: int, high: int) -> None:
        list_entries(*data, lines, levels, begin, indices.numpy(), values.numpy(), low, high)

    machine.split(write, samples, grain)
    return indices, values


def ones(length: int) -> NDArray[Any]:
    """The counts of a store whose counts are all 1, one of them in memory."""
    return np.broadcast_to(np.ones(1, np.uint8), length)


def damaged() -> DataError:
    """The error for sequences that cannot have come from :func:`~spikelfp.data.events.bin_events`."""
    return DataError("binned events: places do not rise, or lie behind the last step; the cache may be damaged")


def check_batch(out: Tensor, steps: NDArray[np.int64], rows: NDArray[np.int64], size: int) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless the sequences ``rows`` fit into the dense batch ``out``."""
    if out.dtype != torch.float32 or not out.is_contiguous() or out.device.type != "cpu" or out.dim() < 3:
        raise ShapeError(f"a batch is contiguous float32 [T, B, …] on the CPU, got {out.dtype} {tuple(out.shape)}")
    if out.shape[1] != len(rows) or math.prod(out.shape[2:]) != size:
        raise ShapeError(f"{len(rows)} sequences of {size} elements a step do not fit a batch {tuple(out.shape)}")
    if len(rows):
        _check_steps(steps, rows, len(out))


def _check_steps(steps: NDArray[np.int64], rows: NDArray[np.int64], length: int) -> None:
    """Raise for a sequence longer than the batch."""
    longest = int(np.asarray(steps)[rows].max())
    if longest > length:
        raise ShapeError(f"a batch of {length} steps is too short for a sequence of {longest}")


_SMALL = 1 << 28  # bytes of a batch whose room is not asked for


class Written(NamedTuple):
    """How sequences are written out.

    sensor: that they come from. levels: value of an element with count ``n`` is ``n / levels``. sparse: as a sparse COO
    tensor.
    """

    sensor: Sensor
    levels: int
    sparse: bool


def write_out(frames: PackedFrames, rows: NDArray[np.int64], how: Written) -> Sequences:
    """The sequences ``rows`` (int64 ``[B]``, ``B`` may be 0) of ``frames``, float32 ``[T, B, …]``, ``T`` the steps of
    the longest of them.

    Raises:
        DataError: for places that do not rise or lie behind the steps, and batches that do not fit into memory.
    """
    steps = np.asarray(frames.steps[rows], np.int64)
    length = int(steps.max()) if len(rows) else 1
    shape = (length, len(rows), *how.sensor.shape)
    _check_room(length, len(rows), how)
    if how.sparse:
        parts = batch_sparse(*frames, rows, how.sensor.shape, how.levels, length)
        values = torch.sparse_coo_tensor(*parts, shape, is_coalesced=True, check_invariants=False)
    else:
        try:
            room = machine.empty(shape, torch.empty(0))
        except MemoryError:  # a limit that is not told in advance
            raise _too_large(length, len(rows), how, None) from None
        values = batch_dense(*frames, rows, how.sensor.size, how.levels, room)
    return Sequences(values, None if bool((steps == length).all()) else torch.from_numpy(steps))


def _check_room(length: int, samples: int, how: Written) -> None:
    """Refuse a batch that does not fit into memory: two events far apart in time make many steps."""
    needed = _needed(length, samples, how)
    if needed <= _SMALL:
        return
    there = available(torch.device("cpu"))
    if there is not None and needed > there:
        raise _too_large(length, samples, how, there)


def _needed(length: int, samples: int, how: Written) -> int:
    """Bytes of a batch: three counts of a step, or its elements."""
    return length * samples * (24 if how.sparse else 4 * how.sensor.size)


def _too_large(length: int, samples: int, how: Written, there: int | None) -> DataError:
    sparse = "" if how.sparse else ", sparse batches (--sparse)"
    left = "that much is not left" if there is None else f"{gigabytes(there)} are left"
    return DataError(
        f"a batch of {samples} sequences of up to {length} steps of {how.sensor} would need about "
        f"{gigabytes(_needed(length, samples, how))}, and {left}: bin by a longer window, limit the steps (most, "
        f"--steps), or take smaller batches{sparse}"
    )


class Parcel:
    """A batch on its way out of a worker process: only what is not zero is sent, and is written out on arrival.

    A dense batch is many times as large, and to bring it through shared memory takes longer than to write it.
    """

    def __init__(self, frames: PackedFrames, rows: NDArray[np.int64], how: Written) -> None:
        self.frames, self.rows, self.how = frames, rows, how

    def __reduce__(self) -> tuple[Any, ...]:
        (places, counts, offsets, steps), rows = self.frames, self.rows
        parts = [slice(offsets[row], offsets[row + 1]) for row in rows]
        sent = [
            np.concatenate([each[part] for part in parts]) if parts else each[:0]
            for each in (places, counts)[: 1 if self.how.levels == 1 else 2]
        ]
        return _arrived, (self.how, steps[rows], offsets[rows + 1] - offsets[rows], *sent)


whole_batches(Parcel)


def _arrived(
    how: Written,
    steps: NDArray[Any],
    lengths: NDArray[np.int64],
    places: NDArray[Any],
    counts: NDArray[Any] | None = None,
) -> Sequences:
    offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    frames = PackedFrames(places, ones(len(places)) if counts is None else counts, offsets, steps)
    return write_out(frames, np.arange(len(steps)), how)
