"""A batch of binned recordings, written out where it is used."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp import machine
from spikelfp.data.events.batching import PackedFrames, batch_dense, batch_sparse
from spikelfp.data.events.cache.store import ones
from spikelfp.data.events.event import Sensor
from spikelfp.data.loader import Sequences, whole_batches
from spikelfp.errors import DataError
from spikelfp.machine import available, gigabytes

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
