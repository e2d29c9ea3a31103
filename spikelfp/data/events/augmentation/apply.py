"""Augmenting a batch of sparse sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp import machine
from spikelfp.data.events.augmentation.base import CHANGE, Augmentation, Changes
from spikelfp.data.events.augmentation.kernels import change, close_gaps, measure
from spikelfp.data.events.augmentation.random import Draws
from spikelfp.data.events.batching import PackedFrames, damaged
from spikelfp.data.events.event import Sensor
from spikelfp.errors import UserError
from spikelfp.machine import empty

_GRAIN = 1 << 14  # entries below which another thread costs more than it saves
_ROOM = 1 << 18  # entries by which their room is rounded up
_PLACE, _COUNT = torch.empty(0, dtype=torch.uint32), torch.empty(0, dtype=torch.uint16)


def check_augmentations(chosen: Iterable[Augmentation], sensor: Sensor) -> tuple[Augmentation, ...]:
    """The ``chosen`` augmentations, if they fit each other and the ``sensor``.

    Raises:
        UserError: for two that draw the same, and for one that makes no sense on the sensor.
    """
    found: dict[str, Augmentation] = {}
    for one in chosen:
        if one.what in found:
            raise UserError(f"{found[one.what]} and {one} both draw the {one.what} of a sample: keep one of them")
        one.check(sensor)
        found[one.what] = one
    return tuple(found.values())


def draw_changes(
    augmentations: Sequence[Augmentation], seed: int, epoch: int, indices: NDArray[np.int64] | Sequence[int]
) -> tuple[Changes, NDArray[np.uint64]]:
    """What happens to the samples ``indices`` ``[B]`` in an epoch: :data:`CHANGE` ``[B]``, and uint64 keys ``[B]``.

    The keys are for what is drawn within a sample. Both depend on the two numbers and each index alone.
    """
    draws = Draws.of(seed, epoch, indices)
    changes = np.zeros(len(draws.keys), CHANGE)
    for one in augmentations:
        one.draw(changes, draws)
    return changes, draws.bits("events")


def augmented(
    places: NDArray[np.uint32],
    counts: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    steps: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    sensor: Sensor,
    levels: int,
    augmentations: Sequence[Augmentation],
    seed: int,
    epoch: int,
    indices: NDArray[np.int64] | Sequence[int],
) -> PackedFrames:
    """The sequences ``rows`` (int64 ``[B]``) of :class:`~spikelfp.data.events.batching.PackedFrames`, augmented.

    Gives ``B`` sequences in the order of ``rows``, as long as before; hand them on with ``np.arange(B)`` as rows. What
    happens to a sample depends on ``(seed, epoch, indices[b])``, the augmentations and the sample alone.

    sensor: that the sequences come from, behind the transforms. levels: of their binning. augmentations: as
    :func:`check_augmentations` returned them; their order makes no difference. indices: numbers ``[B]`` of the
    samples, which stay the same from epoch to epoch and however the data set is cut.

    Raises:
        DataError: for places that do not rise or lie behind the steps.
    """
    changes, keys = draw_changes(augmentations, seed, epoch, indices)
    return changed(PackedFrames(places, counts, offsets, steps), rows, sensor, levels, changes, keys)


def changed(
    packed: PackedFrames,
    rows: NDArray[np.int64],
    sensor: Sensor,
    levels: int,
    changes: Changes,
    keys: NDArray[np.uint64],
) -> PackedFrames:
    """The sequences ``rows`` after ``changes`` ``[B]`` (:data:`CHANGE`); chance within a sample comes from its key."""
    places, counts = np.asarray(packed.places), np.asarray(packed.counts)
    offsets, steps = np.asarray(packed.offsets), np.asarray(packed.steps)
    rows = np.asarray(rows, np.int64)
    samples, total = len(rows), int((offsets[rows + 1] - offsets[rows]).sum())
    grain = max(1, _GRAIN * samples // max(total, 1))
    most, found = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    measure(counts, offsets, steps, rows, sensor.size, changes, keys, most, 0, samples)
    begin = most.cumsum() - most
    shape = np.array((1, 1, *sensor.shape)[-3:], np.int64)
    wide = _arrays(int(most.sum()))

    def write(low: int, high: int) -> None:
        change(places, counts, offsets, steps, rows, shape, levels, changes, keys, begin, *wide, found, low, high)

    machine.split(write, samples, grain)
    if samples and found.min() < 0:
        raise damaged()
    ends = np.concatenate([np.zeros(1, np.int64), found.cumsum()])
    close = _arrays(int(ends[-1]))
    machine.split(lambda low, high: close_gaps(*wide, begin, ends, *close, low, high), samples, grain)
    return PackedFrames(*close, ends, steps[rows])


def _arrays(entries: int) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """Room for entries, from memory that is used again: it is known by its size, so there are few sizes."""
    room = (-(-entries // _ROOM) * _ROOM,)
    return empty(room, _PLACE).numpy()[:entries], empty(room, _COUNT).numpy()[:entries]
