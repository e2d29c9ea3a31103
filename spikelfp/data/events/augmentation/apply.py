"""Augmenting a batch of sparse sequences: a compiled loop makes all changes of a sample in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp import machine
from spikelfp.data.events.augmentation.base import CHANGE, Augmentation, Changes, Draws
from spikelfp.data.events.batching import PackedFrames
from spikelfp.data.events.binning import add, collect, damaged
from spikelfp.data.events.event import Sensor
from spikelfp.errors import UserError
from spikelfp.machine import empty
from spikelfp.terminal import brief

_WEYL, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_DROP, _JITTER, _NOISE = (np.uint64(n) for n in (0xA5A5B7C1D3E5F701, 0x3C6EF372FE94F82B, 0xDAA66D2C7DDF743F))
_11, _27, _30, _31, _32, _LOW = (np.uint64(n) for n in (11, 27, 30, 31, 32, 2**32 - 1))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _mix(z):
    """The finaliser of SplitMix64, as in :mod:`~spikelfp.data.events.augmentation.base`."""
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gap(state, log_rest):
    """Failures before the first success of trials, geometric, from a random state; a float, for it may be huge."""
    uniform = (np.float64(_mix(state) >> _11) + 0.5) * 2.0**-53
    return math.floor(math.log(uniform) / log_rest)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def measure(counts, offsets, steps, rows, size, changes, keys, most, low, high):
    """Enter into ``most`` int64 ``[B]`` the largest number of entries of each of the samples ``low…high``."""
    for b in range(low, high):
        first, end = offsets[rows[b]], offsets[rows[b] + 1]
        total = end - first
        if changes[b].jitter > 0:
            total = np.int64(0)
            for entry in range(first, end):
                total += counts[entry]
        if changes[b].noise > 0:
            log_rest, behind = math.log1p(-changes[b].noise), float(steps[rows[b]] * size)
            state = _mix(keys[b] ^ _NOISE)
            place = _gap(state, log_rest)
            while place < behind:
                total += 1
                state += _WEYL
                place += 1.0 + _gap(state, log_rest)
        most[b] = min(total, steps[rows[b]] * size)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _row_targets(shape, this, targets):
    """The first element of the row that each row of elements (polarities times rows) moves to; −1 if it is lost."""
    polarities, height, width = shape[0], shape[1], shape[2]
    down = this.dy if height > 1 else 0
    for p in range(polarities):
        to_p = 1 - p if this.swap else p
        for y in range(height):
            to_y = (height - 1 - y if this.upside_down else y) + down
            targets[p * height + y] = (to_p * height + to_y) * width if 0 <= to_y < height else -1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _first_entry(places, first, end, place):
    """The first of the entries ``first…end`` at or after ``place``."""
    while first < end:
        middle = (first + end) // 2
        if np.int64(places[middle]) < place:
            first = middle + 1
        else:
            end = middle
    return first


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _move(step, places, counts, entry, end, base, shape, levels, this, targets, states):
    """Add the entries of the step at ``base`` to ``step`` where they move to, and return the first entry after them.

    It is −1 for an entry of a step before. ``states`` uint64 ``[2]`` are those of the random sequences for drop and for
    jitter.
    """
    height, width = shape[1], shape[2]
    size = shape[0] * height * width
    columns, edge = np.uint32(width), np.uint64(width)
    sign, shift = (np.int64(-1), this.dx + width - 1) if this.mirror else (np.int64(1), this.dx)
    share, reach, spread = np.uint64((1.0 - this.drop) * 2.0**32), this.jitter, np.uint64(2 * this.jitter + 1)
    dropping, drop, jitter = this.drop > 0, states[0], states[1]
    while entry < end:
        element = np.int64(places[entry]) - base
        if element >= size:
            break
        if element < 0:
            entry = -1
            break
        count = np.int64(counts[entry])
        entry += 1
        if dropping:
            kept = np.int64(0)
            for _ in range(count):
                drop += _WEYL
                kept += (_mix(drop) >> _32) < share
            count = kept
        line = np.int64(np.uint32(element) // columns)  # of 32 bits: twice as fast as of 64
        x = element - line * width
        if reach == 0:
            to_x, target = sign * x + shift, targets[line]
            if (np.uint64(to_x) < edge) & (target >= 0) & (count > 0):
                add(step, np.uint64(target + to_x), count, levels)
            continue
        y = line % height
        for _ in range(count):
            jitter += _WEYL
            bits = _mix(jitter)
            old_x = x + np.int64(((bits & _LOW) * spread) >> _32) - reach
            old_y = y if height == 1 else y + np.int64(((bits >> _32) * spread) >> _32) - reach
            to_x = sign * old_x + shift
            if 0 <= old_x < width and 0 <= to_x < width and 0 <= old_y < height:
                target = targets[line - y + old_y]
                if target >= 0:
                    add(step, np.uint64(target + to_x), 1, levels)
    states[0], states[1] = drop, jitter
    return entry


@numba.njit(nogil=True, cache=True, error_model="numpy")
def change(places, counts, offsets, steps, rows, shape, levels, changes, keys, begin, new_places, new_counts, found,
           low, high):  # fmt: skip
    """Write the changed samples ``low…high``, each from entry ``begin[b]`` on, and its number of entries to ``found``.

    The number is −1 for places that do not rise or lie after the last step, and the loop ends there.

    Args:
        places: of all samples, uint32.
        counts: of all samples, uint16.
        offsets: first entry of each sample, int64.
        steps: of each sample, int64.
        rows: samples to change, int64 ``[B]``.
        shape: polarities, rows and columns, int64 ``[3]``.
        levels: largest count.
        changes: ``[B]`` of dtype :data:`~.base.CHANGE`.
        keys: uint64 ``[B]``.
        begin: entries int64 ``[B]`` at which to write.
        new_places: written to.
        new_counts: written to.
        found: int64 ``[B]``, written to.
        low: first of the samples.
        high: end of the samples.
    """
    size = shape[0] * shape[1] * shape[2]
    words = (size + 63) // 64
    step = np.zeros(size, np.uint16), np.zeros(words, np.uint64), np.zeros((words + 63) // 64, np.uint64)
    targets, states = np.empty(shape[0] * shape[1], np.int64), np.empty(2, np.uint64)
    for b in range(low, high):
        this = changes[b]
        start, end, length = offsets[rows[b]], offsets[rows[b] + 1], steps[rows[b]]
        _row_targets(shape, this, targets)
        states[0], states[1] = _mix(keys[b] ^ _DROP), _mix(keys[b] ^ _JITTER)
        noise, log_rest = _mix(keys[b] ^ _NOISE), math.log1p(-this.noise)
        noise_place = _gap(noise, log_rest) if this.noise > 0 else math.inf
        found[b] = -1
        if start < end and places[end - 1] >= length * size:
            return
        to, entry, following = begin[b], start, np.int64(0)  # ``entry``: the first of step ``following``
        for t in range(length):
            source = (t - this.dt) % length if this.wrap else t - this.dt
            if 0 <= source < length:
                if source != following:
                    entry = _first_entry(places, start, end, source * size)
                entry = _move(
                    step, places, counts, entry, end, source * size, shape, levels, this, targets, states
                )  # fmt: skip
                if entry < 0:
                    return
                following = source + 1
            while noise_place < (t + 1) * size:
                add(step, np.uint64(np.int64(noise_place) - t * size), 1, levels)
                noise += _WEYL
                noise_place += 1.0 + _gap(noise, log_rest)
            to = collect(step, t * size, new_places, new_counts, to)
        found[b] = to - begin[b]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def close_gaps(places, counts, begin, offsets, new_places, new_counts, low, high):
    """Move the entries at ``begin[b]`` to ``offsets[b]…offsets[b + 1]``, for the samples ``low…high``."""
    for b in range(low, high):
        shift = begin[b] - offsets[b]
        for entry in range(offsets[b], offsets[b + 1]):
            new_places[entry] = places[entry + shift]
            new_counts[entry] = counts[entry + shift]


_GRAIN = 1 << 14  # entries below which another thread costs more than it saves
_BLOCK = 1 << 18  # entries to whose multiple allocations are rounded up
_PLACE, _COUNT = torch.empty(0, dtype=torch.uint32), torch.empty(0, dtype=torch.uint16)


def check_augmentations(chosen: Iterable[Augmentation], sensor: Sensor) -> tuple[Augmentation, ...]:
    """Check that augmentations fit each other and a sensor.

    Args:
        chosen: the augmentations.
        sensor: of the sequences, after the transforms.

    Returns:
        The augmentations.

    Raises:
        UserError: for two that draw the same property, and for one that makes no sense on the sensor.
    """
    found: dict[str, Augmentation] = {}
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise UserError(f"augmentations are a list of Augmentation objects, got {brief(chosen)}")
    for one in chosen:
        if not isinstance(one, Augmentation):
            raise UserError(f"augmentations are Augmentation objects, got {brief(one)}")
        if one.aspect in found:
            raise UserError(f"{found[one.aspect]} and {one} both draw the {one.aspect} of a sample: keep one of them")
        one.check(sensor)
        found[one.aspect] = one
    return tuple(found.values())


def draw_changes(
    augmentations: Sequence[Augmentation], seed: int, epoch: int, indices: NDArray[np.int64] | Sequence[int]
) -> tuple[Changes, NDArray[np.uint64]]:
    """Draw the changes of samples in an epoch.

    Args:
        augmentations: to draw for.
        seed: of the run.
        epoch: its number.
        indices: numbers of the samples ``[B]``.

    Returns:
        Changes ``[B]`` of dtype :data:`~.base.CHANGE`, and keys uint64 ``[B]`` for random numbers within a sample. Both
        depend on the seed, the epoch and each index alone.
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
    """Augment some of the sequences of :class:`~spikelfp.data.events.batching.PackedFrames`.

    The changes of a sample depend on ``(seed, epoch, indices[b])``, the augmentations and the sample alone.

    Args:
        places: of the packed frames.
        counts: of the packed frames.
        offsets: of the packed frames.
        steps: of the packed frames.
        rows: sequences to augment, int64 ``[B]``.
        sensor: of the sequences, after the transforms.
        levels: of their binning.
        augmentations: as :func:`check_augmentations` returned them; their order makes no difference.
        seed: of the run.
        epoch: its number.
        indices: numbers of the samples ``[B]``, which are equal in all epochs and all parts of the data set.

    Returns:
        ``B`` sequences in the order of ``rows``, as long as before; their rows are ``np.arange(B)``.

    Raises:
        DataError: for places that do not rise or lie after the last step.
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
    """Apply changes to sequences.

    Args:
        packed: all sequences.
        rows: those to change, int64 ``[B]``.
        sensor: of the sequences.
        levels: of their binning.
        changes: ``[B]`` of dtype :data:`~.base.CHANGE`.
        keys: uint64 ``[B]``, for random numbers within a sample.
    """
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
    """Arrays for entries, of memory that is used again: it is known by its size, so there are few sizes."""
    size = (-(-entries // _BLOCK) * _BLOCK,)
    return empty(size, _PLACE).numpy()[:entries], empty(size, _COUNT).numpy()[:entries]
