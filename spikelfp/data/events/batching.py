"""Sparse sequences side by side: batches ``[T, B, …]``, dense or as a sparse COO tensor, without a loop in Python."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import machine
from spikelfp.data.events.batching_kernels import count_steps, fill, list_entries
from spikelfp.data.events.binning import SparseFrames
from spikelfp.errors import DataError, ShapeError

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
