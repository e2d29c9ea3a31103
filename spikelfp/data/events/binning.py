"""Steps of a sequence made of events: transforms, then bins (:class:`Pipeline`), and the compiled loops that fill them.

The loops need no sorting and no array of all steps. One step is held at a time, in three arrays: ``held`` uint16
``[size]``, the events of each element; ``bits`` uint64 ``[⌈size/64⌉]``, a bit for each element that holds any; and
``groups`` uint64 ``[⌈size/4096⌉]``, a bit for each word of ``bits`` that is not zero. Between two steps all are zero,
so that a step costs what it holds and not what the sensor has. Everything is unsigned and written without a test,
because a processor cannot guess whether an element holds events already.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.transforms.base import Transform
from spikelfp.errors import DataError, UserError
from spikelfp.scalars import as_whole, keep_plain

_SMALL = 1 << 24  # elements of a step up to which one is held as an array; events of larger ones are sorted

FORMAT = 1
"""Version of transforms and binning. It is raised whenever the same settings give other sequences, so that no cache of
before is used."""

StepArrays = tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]
"""One step while it is filled: ``(held, bits, groups)``."""

_ZERO, _ONE, _SIX, _TWELVE, _LOW = (np.uint64(number) for number in (0, 1, 6, 12, 63))


@dataclass(frozen=True)
class Binning:
    """Rule by which events become the steps of a sequence. Exactly one of ``bins``, ``window`` and ``count`` is given.

    Event ``i`` at time ``t`` belongs to step (whole numbers, rounded down)

    * ``(t − t0) · bins // (t1 − t0 + 1)`` with ``bins``,
    * ``(t − t0) // window`` with ``window``,
    * ``i // count`` with ``count``,

    where ``t0`` is the time of the first event, or the origin, and ``t1`` that of the last event.

    Attributes:
        bins: steps of equal length, from the first to the last event of a recording: all sequences are equally long.
        window: µs of a step, from the first event on; the last step may hold less.
        count: events of a step; the last step may hold fewer.
        most: steps of the longest sequence with ``window`` or ``count``; later events are left out. ``None``: no limit.
        levels: an element with ``n`` events has the value ``min(n, levels) / levels`` in [0, 1]. With 1, the default,
            it is a spike or none. At most 65535.
        origin: time (µs) that steps are counted from, for recordings whose times mean something, such as those from the
            onset of a stimulus on; ``None``: that of the first event. Not with ``count``.

    Raises:
        UserError: for none or several of the three, a number that is not whole or out of range, ``most`` with
            ``bins``, or ``origin`` with ``count``.
    """

    bins: int | None = None
    window: int | None = None
    count: int | None = None
    most: int | None = None
    levels: int = 1
    origin: int | None = None

    def __post_init__(self) -> None:
        keep_plain(self)
        ways = {name: getattr(self, name) for name in ("bins", "window", "count")}
        if sum(value is not None for value in ways.values()) != 1:
            raise UserError(f"events are binned by one of bins, window and count, got {ways}")
        for name in (*ways, "most", "levels"):
            value = getattr(self, name)
            if value is None and name != "levels":
                continue
            number = as_whole(value)
            if number is None or number < 1:
                raise UserError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.levels > 2**16 - 1:
            raise UserError(f"levels must be at most 65535, got {self.levels}")
        if self.bins is not None and self.most is not None:
            raise UserError(f"most limits sequences by window or count; with {self.bins} bins all are as long")
        if self.origin is not None and as_whole(self.origin) is None:
            raise UserError(f"origin must be a whole number of µs, got {self.origin!r}")
        if self.origin is not None and self.count is not None:
            raise UserError(f"steps of {self.count} events have no origin in time")


@dataclass(frozen=True)
class Pipeline:
    """Way of a recording from events to its sequence: ``transforms`` one after the other, then ``binning``.

    It is the same for every recording, and nothing in it is random.

    Attributes:
        binning: rule that makes the steps.
        transforms: applied to the events before, in this order.
    """

    binning: Binning
    transforms: tuple[Transform, ...] = ()

    def sensor(self, sensor: Sensor) -> Sensor:
        """The sensor that events of ``sensor`` lie on after the transforms."""
        for transform in self.transforms:
            sensor = transform.sensor(sensor)
        return sensor

    def __call__(self, events: Events, sensor: Sensor) -> SparseFrames:
        """Make the sequence of one recording.

        Args:
            events: of the recording.
            sensor: that they lie on.

        Returns:
            What is not zero of the sequence. If the transforms leave no event, all of it is zero.

        Raises:
            UserError: for settings that do not fit the sensor or the recording.
            DataError: for events that cannot be binned.
        """
        for transform in self.transforms:
            events, sensor = transform(events, sensor), transform.sensor(sensor)
        return bin_events(events, sensor, self.binning)

    def describe(self) -> str:
        """Text of all settings; pipelines of the same text make the same sequences."""
        steps: list[dict[str, Any]] = [{"kind": type(each).__name__, **each.parameters()} for each in self.transforms]
        return json.dumps({"format": FORMAT, "transforms": steps, "binning": asdict(self.binning)}, sort_keys=True)


USUAL = Pipeline(Binning(bins=20))
"""Pipeline of recordings for which neither a data set nor the user names another."""


class SparseFrames(NamedTuple):
    """Sequence of one recording, zeros left out.

    Attributes:
        places: uint32 ``[M]``, rising: ``step · size + element``, the element within the flattened shape of the sensor
            (:attr:`~spikelfp.data.events.Sensor.shape`).
        counts: uint16 ``[M]``, events of that element in that step, at most the ``levels`` of the binning.
        steps: length of the sequence, at least 1.
        late: events after the last step, which are left out: ``most`` of the binning is the largest number of steps.
    """

    places: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    steps: int
    late: int = 0


def ones(length: int) -> NDArray[Any]:
    """Counts of ``length`` entries that are all 1: a single 1 in memory."""
    return np.broadcast_to(np.ones(1, np.uint8), length)


def damaged() -> DataError:
    """Make the error for sequences that :func:`~spikelfp.data.events.bin_events` cannot have made."""
    return DataError("binned events: places do not rise, or lie after the last step; the cache may be damaged")


def bin_events(events: Events, sensor: Sensor, binning: Binning) -> SparseFrames:
    """Bin the ``events`` of one recording into the steps of a sequence.

    Time and memory grow with the events and with the elements of one step, not with the elements of all steps.

    Args:
        events: ``[M]`` of dtype :data:`~spikelfp.data.events.EVENT`, sorted by time. Without events the sequence is
            zero, and has one step or all the ``bins``.
        sensor: that they lie on.
        binning: rule that makes the steps, see :class:`Binning`.

    Returns:
        What is not zero of the sequence.

    Raises:
        UserError: for ``bins`` that make a sequence of 2³² elements or more.
        DataError: for events that make such a sequence, because they are too many or too far apart in time, and for
            what :func:`~spikelfp.data.events.check_events` refuses, except no events.
    """
    if events.dtype != EVENT or events.ndim != 1:
        check_events(events, sensor, "events to bin")
    begin = 0 if len(events) == 0 else int(events["t"][0]) if binning.origin is None else binning.origin
    parts, length, steps = _division(events, binning, begin)
    size = sensor.size
    if steps * size >= 2**32:
        if binning.bins is not None:
            kind, advice = UserError, "take fewer bins"  # it concerns all recordings, not this one
        else:
            larger = "window" if binning.window is not None else "count"
            kind, advice = DataError, f"take a larger {larger}, a limit of steps (most, --steps)"
        raise kind(
            f"a sequence of {steps} steps of {size} elements ({sensor}) is too large, it must have less than 2^32 "
            f"elements in all: {advice}, or downsample or crop the sensor"
        )
    if len(events) == 0:
        return SparseFrames(np.empty(0, np.uint32), np.empty(0, np.uint16), steps)
    if int(events["t"][0]) < begin:
        raise DataError(f"events to bin: the first is of {int(events['t'][0])} µs, before the origin of {begin} µs")
    if max(int(events["t"][-1]) - begin, (length + 2) * (steps + parts + 2)) >= 2**63:
        raise DataError("events to bin: the time from the first to the last is too long to be told, check their times")
    late = _late(events, binning, begin, steps)
    if size > _SMALL:  # not even one step is to be held
        check_events(events, sensor, "events to bin")
        order = np.arange(len(events)) if binning.count is not None else events["t"] - begin
        x, y, p = (events[name].astype(np.int64) for name in "xyp")
        step = order * parts // length
        all_places = step * size + (p * sensor.height + y) * sensor.width + x
        held_places, all_counts = np.unique(all_places[step < steps], return_counts=True)
        return SparseFrames(
            held_places.astype(np.uint32), np.minimum(all_counts, binning.levels).astype(np.uint16), steps, late
        )
    places, counts = np.empty(len(events), np.uint32), np.empty(len(events), np.uint16)
    found = bin_sorted(
        events, sensor.width, sensor.height, sensor.polarities, binning.count is not None, begin, parts, length,
        steps, binning.most is not None, binning.levels, new_step(size), places, counts,
    )  # fmt: skip
    if found < 0:
        check_events(events, sensor, "events to bin")
        raise DataError("events to bin: changed while they were read")
    return SparseFrames(places[:found].copy(), counts[:found].copy(), steps, late)


def _late(events: Events, binning: Binning, begin: int, steps: int) -> int:
    """Count the events after the last of so many steps."""
    if binning.most is None:
        return 0
    if binning.count is not None:
        return max(0, len(events) - steps * binning.count)
    end = begin + steps * (binning.window or 1)
    return len(events) - int(np.searchsorted(events["t"], end))


def _division(events: Events, binning: Binning, begin: int) -> tuple[int, int, int]:
    """``(parts, length, steps)``: event number ``k``, or ``k`` µs after ``begin``, has step ``k · parts // length``."""
    if len(events) == 0:
        return 1, 1, binning.bins or 1
    last = max(len(events) - 1 if binning.count is not None else int(events["t"][-1]) - begin, 0)
    if binning.bins is not None:
        return binning.bins, last + 1, binning.bins
    each = binning.count or binning.window or 1
    steps = last // each + 1
    return 1, min(each, last + 1), steps if binning.most is None else min(steps, binning.most)


# Compiled loops


def new_step(size: int) -> StepArrays:
    """Make an empty step of ``size`` elements. Its pages are the system's zeros until they are written."""
    words = -(-size // 64)
    return np.zeros(size, np.uint16), np.zeros(words, np.uint64), np.zeros(-(-words // 64), np.uint64)


@intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Position of the lowest bit of a uint64 that is not zero: one instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero_may_be_anything = context.get_constant(types.boolean, True)
        return builder.cttz(arguments[0], zero_may_be_anything)

    return types.uint64(types.uint64), code


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add(step, element, count, levels):
    """Add ``count`` events to ``element`` (uint64) of a ``step``, which counts to ``levels`` at most."""
    held, bits, groups = step
    held[element] = min(np.int64(held[element]) + count, levels)
    bits[element >> _SIX] |= _ONE << (element & _LOW)
    groups[element >> _TWELVE] |= _ONE << ((element >> _SIX) & _LOW)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def collect(step, first, places, counts, end):
    """Move a ``step`` to ``places`` and ``counts`` from entry ``end`` on, in order of its elements, and empty it.

    An element is written as ``first + element``. Returns the entry after the last one.
    """
    held, bits, groups = step
    first = np.uint64(first)
    for g in range(len(groups)):
        group = groups[g]
        while group != _ZERO:
            word = (np.uint64(g) << _SIX) + _trailing_zeros(group)
            group &= group - _ONE
            left = bits[word]
            while left != _ZERO:
                element = (word << _SIX) + _trailing_zeros(left)
                left &= left - _ONE
                places[end] = first + element
                counts[end] = held[element]
                held[element] = 0
                end += 1
            bits[word] = _ZERO
        groups[g] = _ZERO
    return end


@numba.njit(nogil=True, cache=True, error_model="numpy")
def bin_sorted(events, width, height, polarities, by_number, begin, parts, length, steps, limited, levels,
               step, places, counts):  # fmt: skip
    """Write the sequence of ``events``, sorted by time, into ``places`` and ``counts`` ``[M]``.

    Event ``i`` with ``k = t[i] − begin``, or ``k = i`` if ``by_number``, is in step ``k · parts // length``. Events of
    step ``steps`` or later are left out if ``limited``; otherwise there must be none. Divisions are made only where a
    step begins; ``k · parts + length · (steps + 1)`` must fit int64.

    Returns:
        The entries written; −1 for an event outside the sensor or earlier than the one before it.
    """
    columns, rows, signs = np.uint64(width), np.uint64(height), np.uint64(polarities)
    size = polarities * height * width
    now, until, end = np.int64(0), np.int64(0), 0  # events with k < until are of step ``now``
    before = events[0].t
    for i in range(len(events)):
        event = events[i]
        t, x, y, p = event.t, np.uint64(event.x), np.uint64(event.y), np.uint64(event.p)
        if t < before or x >= columns or y >= rows or p >= signs:
            return -1
        before = t
        k = i if by_number else t - begin
        if k >= until:
            if i > 0:
                end = collect(step, now * size, places, counts, end)
            now = k * parts // length
            if now >= steps:
                return end if limited else -1
            until = ((now + 1) * length + parts - 1) // parts
        add(step, (p * rows + y) * columns + x, 1, levels)
    return collect(step, now * size, places, counts, end)
