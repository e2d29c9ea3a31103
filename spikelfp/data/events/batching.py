"""Batches ``[T, B, …]`` of sparse sequences, dense or as a sparse COO tensor, written by compiled loops."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import machine
from spikelfp.data.events.binning import damaged, ones
from spikelfp.data.events.event import Sensor
from spikelfp.data.loader import Sequences, whole_batches
from spikelfp.errors import DataError, ShapeError
from spikelfp.machine import available, gigabytes

_GRAIN = 1 << 16  # elements or entries below which another thread costs more than it saves
_SMALL = 1 << 28  # bytes of a batch up to which free memory is not asked for


class PackedFrames(NamedTuple):
    """Sequences of ``N`` recordings, one after the other; see :class:`~spikelfp.data.events.SparseFrames`.

    Recording ``i`` has ``places[offsets[i]:offsets[i + 1]]`` and the ``counts`` of the same slice; places count from
    the beginning of each recording.

    Attributes:
        places: uint16 or uint32 ``[M]``.
        counts: uint8 or uint16 ``[M]``.
        offsets: int64 ``[N + 1]``.
        steps: int32 or int64 ``[N]``.
    """

    places: NDArray[Any]
    counts: NDArray[Any]
    offsets: NDArray[np.int64]
    steps: NDArray[Any]


class BatchForm(NamedTuple):
    """Form in which a batch is written.

    Attributes:
        sensor: of the recordings.
        levels: an element with count ``n`` has the value ``n / levels``.
        sparse: as a sparse COO tensor.
    """

    sensor: Sensor
    levels: int
    sparse: bool


def write_batch(frames: PackedFrames, rows: NDArray[np.int64], form: BatchForm) -> Sequences:
    """Write sequences into one batch.

    Args:
        frames: the sequences.
        rows: int64 ``[B]``, the numbers of those that are wanted; ``B`` may be 0.
        form: dense or sparse, levels and sensor.

    Returns:
        float32 ``[T, B, …]``, ``T`` the steps of the longest.

    Raises:
        DataError: for places that do not rise or lie after the steps, and for a batch that does not fit into memory.
    """
    steps = np.asarray(frames.steps[rows], np.int64)
    length = int(steps.max()) if len(rows) else 1
    shape = (length, len(rows), *form.sensor.shape)
    # two events far apart in time make many steps; per step a sparse batch takes three counts, a dense one all elements
    needed = length * len(rows) * (24 if form.sparse else 4 * form.sensor.size)

    def too_large(free: int | None) -> DataError:
        left = "that much is not left" if free is None else f"{gigabytes(free)} are left"
        return DataError(
            f"a batch of {len(rows)} sequences of up to {length} steps of {form.sensor} would need about "
            f"{gigabytes(needed)}, and {left}: bin by a longer window, limit the steps (most, --steps), or take "
            f"smaller batches{'' if form.sparse else ', sparse batches (--sparse)'}"
        )

    if needed > _SMALL:
        free = available(torch.device("cpu"))
        if free is not None and needed > free:
            raise too_large(free)
    if form.sparse:
        indices, entries = batch_sparse(frames, rows, form.sensor.shape, form.levels, length)
        values = torch.sparse_coo_tensor(indices, entries, shape, is_coalesced=True, check_invariants=False)
    else:
        try:
            out = machine.empty(shape, torch.empty(0))
        except MemoryError:  # a limit that the system does not tell in advance
            raise too_large(None) from None
        values = batch_dense(frames, rows, form.sensor.size, form.levels, out)
    return Sequences(values, None if bool((steps == length).all()) else torch.from_numpy(steps))


def batch_dense(frames: PackedFrames, rows: NDArray[np.int64], size: int, levels: int, out: Tensor) -> Tensor:
    """Write sequences into a dense batch: ``out[t, b]`` is ``count / levels``, and 0 after the steps of sample ``b``.

    Args:
        frames: the sequences.
        rows: int64 ``[B]``, the sequence of each sample.
        size: elements of one step.
        levels: of the binning.
        out: contiguous float32 ``[T, B, size]`` or ``[T, B, *shape]``, ``T`` at least the steps of each. Every element
            is written, so that it may hold anything before (see :func:`spikelfp.machine.empty`).

    Returns:
        ``out``.

    Raises:
        ShapeError: for an ``out`` of another shape or dtype, or with too few steps.
        DataError: for places that do not rise or lie after the steps.
    """
    samples = len(rows)
    if out.dtype != torch.float32 or not out.is_contiguous() or out.device.type != "cpu" or out.dim() < 3:
        raise ShapeError(f"a batch is contiguous float32 [T, B, …] on the CPU, got {out.dtype} {tuple(out.shape)}")
    if out.shape[1] != samples or math.prod(out.shape[2:]) != size:
        raise ShapeError(f"{samples} sequences of {size} elements a step do not fit a batch {tuple(out.shape)}")
    if samples == 0:
        return out
    _check_steps(frames, rows, len(out))
    values, wrong = out.view(len(out), samples, size).numpy(), np.zeros(1, np.uint8)
    places, counts, offsets, _ = (np.asarray(each) for each in frames)
    grain = max(1, _GRAIN // (len(out) * size))

    def write(low: int, high: int) -> None:
        fill(places, counts, offsets, np.asarray(rows), size, levels, values, wrong, low, high)

    machine.split(write, samples, grain)
    if wrong[0]:
        raise damaged()
    return out


def batch_sparse(
    frames: PackedFrames, rows: NDArray[np.int64], shape: tuple[int, ...], levels: int, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Write sequences as the parts of a coalesced sparse COO tensor ``[T, B, *shape]``.

    The tensor is ``torch.sparse_coo_tensor(indices, values, (T, B, *shape), is_coalesced=True,
    check_invariants=False)``.

    Args:
        frames: the sequences.
        rows: int64 ``[B]``, the sequence of each sample.
        shape: of one step, :attr:`~spikelfp.data.events.Sensor.shape`.
        levels: of the binning.
        length: ``T``, by default the steps of the longest.

    Returns:
        ``indices`` int64 ``[2 + len(shape), nnz]`` with columns ``(t, b, *element)`` in rising order, and ``values``
        float32 ``[nnz]``, each ``count / levels``.

    Raises:
        ShapeError: for a ``length`` that is too short.
        DataError: for places that do not rise or lie after the steps.
    """
    samples, size = len(rows), math.prod(shape)
    if samples == 0:
        return torch.empty(2 + len(shape), 0, dtype=torch.int64), torch.empty(0)
    length = int(frames.steps[rows].max()) if length is None else length
    _check_steps(frames, rows, length)
    places, counts, offsets, _ = (np.asarray(each) for each in frames)
    rows = np.asarray(rows)
    per_step, wrong = np.zeros((length, samples), np.int64), np.zeros(1, np.uint8)
    total = int((offsets[rows + 1] - offsets[rows]).sum())
    grain = max(1, _GRAIN * samples // max(total, 1))

    def count(low: int, high: int) -> None:
        count_steps(places, offsets, rows, size, per_step, wrong, low, high)

    machine.split(count, samples, grain)
    if wrong[0]:
        raise damaged()
    begin = per_step.cumsum().reshape(per_step.shape) - per_step
    indices = torch.empty(2 + len(shape), total, dtype=torch.int64)
    values = torch.empty(total)
    axes = np.array((1, 1, *shape)[-3:], np.int64)

    def write(low: int, high: int) -> None:
        list_entries(
            places, counts, offsets, rows, axes, levels, begin, indices.numpy(), values.numpy(), low, high
        )  # fmt: skip

    machine.split(write, samples, grain)
    return indices, values


def _check_steps(frames: PackedFrames, rows: NDArray[np.int64], length: int) -> None:
    longest = int(np.asarray(frames.steps)[rows].max())
    if longest > length:
        raise ShapeError(f"a batch of {length} steps is too short for a sequence of {longest}")


class WorkerBatch:
    """Batch on its way out of a worker process: only what is not zero is sent, and is written on arrival.

    A dense batch is many times as large; to bring it through shared memory takes longer than to write it.
    """

    def __init__(self, frames: PackedFrames, rows: NDArray[np.int64], form: BatchForm) -> None:
        self.frames, self.rows, self.form = frames, rows, form

    def __reduce__(self) -> tuple[Any, ...]:
        (places, counts, offsets, steps), rows = self.frames, self.rows
        slices = [slice(offsets[row], offsets[row + 1]) for row in rows]
        sent = [
            np.concatenate([each[chosen] for chosen in slices]) if slices else each[:0]
            for each in (places, counts)[: 1 if self.form.levels == 1 else 2]
        ]
        return _received, (self.form, steps[rows], offsets[rows + 1] - offsets[rows], *sent)


whole_batches(WorkerBatch)


def _received(
    form: BatchForm,
    steps: NDArray[Any],
    lengths: NDArray[np.int64],
    places: NDArray[Any],
    counts: NDArray[Any] | None = None,
) -> Sequences:
    offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
    frames = PackedFrames(places, ones(len(places)) if counts is None else counts, offsets, steps)
    return write_batch(frames, np.arange(len(steps)), form)


# Compiled loops


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill(places, counts, offsets, rows, size, levels, out, wrong, low, high):
    """Write the samples ``low…high`` of a dense batch ``out`` float32 ``[T, B, size]``, zeros included.

    Sample ``b`` is sequence ``rows[b]``. All samples of a step are written before the next step, as they lie side by
    side in memory. Places that do not rise, or lie after ``T``, are left out and set ``wrong[0]``.
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

    ``shape`` is int64 ``[3]``: polarities, rows and columns; ``indices`` int64 ``[5, nnz]`` or, of a line of channels,
    ``[3, nnz]``.
    """
    unit = np.float32(levels)
    height, width = shape[1], shape[2]
    size = shape[0] * height * width
    line = len(indices) == 3
    for b in range(low, high):
        t, first, to = np.int64(-1), np.int64(0), np.int64(0)
        row, edge, p, y = np.int64(0), np.int64(-1), np.int64(0), np.int64(0)  # ``edge``: first element after the row
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
