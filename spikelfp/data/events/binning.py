"""Steps of sequences made of events: transforms, then bins (:class:`Pipeline`), and their compiled loops."""

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

Step = tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]

_ZERO, _ONE, _SIX, _TWELVE, _LOW = (np.uint64(number) for number in (0, 1, 6, 12, 63))


def new_step(size: int) -> Step:
    """An empty step of ``size`` elements. Its pages are the system's zeros until they are written."""
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
    """Add ``count`` events to ``element`` (uint64), which holds no more than ``levels``."""
    held, bits, groups = step
    held[element] = min(np.int64(held[element]) + count, levels)
    bits[element >> _SIX] |= _ONE << (element & _LOW)
    groups[element >> _TWELVE] |= _ONE << ((element >> _SIX) & _LOW)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def collect(step, first, places, counts, end):
    """Write what the step holds from entry ``end`` on, elements as ``first + element``, and empty it; the new end."""
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
    """Write the sequence of ``events``, sorted by time, into ``places`` and ``counts`` ``[M]``; the entries it has.

    Event ``i`` at ``k = t[i] − begin``, or ``k = i`` if ``by_number``, is of step ``k · parts // length``; there are
    none of ``steps`` or more or, if ``limited``, they are left out. ``k · parts + length · (steps + 1)`` must fit
    int64. Divisions are made only where a step begins. −1 for an event before its forerunner or outside the sensor.
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


_SMALL = 1 << 24  # elements of a step up to which one is held as an array; larger ones are sorted


@dataclass(frozen=True)
class Binning:
    """How events become the steps of a sequence. Exactly one of ``bins``, ``window`` and ``count`` is given.

    With the first event or the origin at ``t0`` and the last event at ``t1``, in whole numbers and rounded down, event
    ``i`` at ``t`` is of step

    * ``(t − t0) · bins // (t1 − t0 + 1)``: the last event is of the last step,
    * ``(t − t0) // window``,
    * ``i // count``.

    bins: steps of equal length, from the first to the last event of a recording: all sequences are as long.
    window: µs of a step, from the first event on; the last step may hold less.
    count: events of a step; the last step may hold fewer.
    most: longest sequence with ``window`` or ``count``; events behind it are left out. ``None`` for no limit.
    levels: value of an element with ``n`` events is ``min(n, levels) / levels``: in [0, 1], and with 1 a spike or none.
    At most 65535.
    origin: time (µs) that steps are counted from, for recordings whose times tell something, such as those from the
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
        ways = {name: getattr(self, name) for name in ("bins", "window", "count")}
        if sum(value is not None for value in ways.values()) != 1:
            raise UserError(f"events are binned by one of bins, window and count, got {ways}")
        for name in (*ways, "most", "levels"):
            value = getattr(self, name)
            if value is None and name != "levels":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.levels > 2**16 - 1:
            raise UserError(f"levels must be at most 65535, got {self.levels}")
        if self.bins is not None and self.most is not None:
            raise UserError(f"most limits sequences by window or count; with {self.bins} bins all are as long")
        if self.origin is not None and (isinstance(self.origin, bool) or not isinstance(self.origin, int)):
            raise UserError(f"origin must be a whole number of µs, got {self.origin!r}")
        if self.origin is not None and self.count is not None:
            raise UserError(f"steps of {self.count} events have no origin in time")


class SparseFrames(NamedTuple):
    """The sequence of one recording: what is not zero.

    places: uint32 ``[M]``, rising: ``step · size + element``, the element within the flattened shape of the sensor
    (:attr:`~spikelfp.data.events.event.Sensor.shape`). counts: uint16 ``[M]``, events of that element in that step, at
    most the ``levels`` of the binning. steps: length of the sequence, at least 1.
    """

    places: NDArray[np.uint32]
    counts: NDArray[np.uint16]
    steps: int


def bin_events(events: Events, sensor: Sensor, binning: Binning) -> SparseFrames:
    """The ``events`` of a recording of the ``sensor`` as the steps of a sequence, see :class:`Binning`.

    Without events it has zeros, in one step or in all of ``bins``. Time and memory grow with the events, and with the
    elements of one step, not with those of all.

    Raises:
        UserError: for ``bins`` that make a sequence of 2³² elements or more.
        DataError: for events that do, as they are too many or their times too far apart, and for what
            :func:`~spikelfp.data.events.event.check_events` refuses, except no events.
    """
    if events.dtype != EVENT or events.ndim != 1:
        check_events(events, sensor, "events to bin")
    parts, length, steps = _steps(events, binning)
    size = sensor.size
    if steps * size >= 2**32:
        kind = UserError if binning.bins is not None else DataError  # of all recordings, or of this one
        raise kind(
            f"a sequence of {steps} steps of {size} elements ({sensor}) is too large, it must have less than 2^32 "
            f"elements in all: {_fewer(binning)}, or downsample or crop the sensor"
        )
    if len(events) == 0:
        return SparseFrames(np.empty(0, np.uint32), np.empty(0, np.uint16), steps)
    begin = _begin(events, binning)
    if int(events["t"][0]) < begin:
        raise DataError(f"events to bin: the first is of {int(events['t'][0])} µs, before the origin of {begin} µs")
    if max(int(events["t"][-1]) - begin, (length + 2) * (steps + parts + 2)) >= 2**63:
        raise DataError("events to bin: the time from the first to the last is too long to be told, check their times")
    if size > _SMALL:
        return _sorted(events, sensor, binning, parts, length, steps)
    places, counts = np.empty(len(events), np.uint32), np.empty(len(events), np.uint16)
    found = bin_sorted(
        events, sensor.width, sensor.height, sensor.polarities, binning.count is not None, begin, parts, length,
        steps, binning.most is not None, binning.levels, new_step(size), places, counts,
    )  # fmt: skip
    if found < 0:
        check_events(events, sensor, "events to bin")
        raise DataError("events to bin: changed while they were read")
    return SparseFrames(places[:found].copy(), counts[:found].copy(), steps)


def _steps(events: Events, binning: Binning) -> tuple[int, int, int]:
    """``(parts, length, steps)``: event at ``k`` (µs from the origin, or its number): ``k · parts // length``."""
    if len(events) == 0:
        return 1, 1, binning.bins or 1
    last = len(events) - 1 if binning.count is not None else int(events["t"][-1]) - _begin(events, binning)
    last = max(last, 0)
    if binning.bins is not None:
        parts, length, steps = binning.bins, last + 1, binning.bins
    else:
        each = binning.count or binning.window or 1
        parts, length, steps = 1, min(each, last + 1), last // each + 1
        steps = steps if binning.most is None else min(steps, binning.most)
    return parts, max(length, 1), steps


def _begin(events: Events, binning: Binning) -> int:
    """The time that steps are counted from."""
    return int(events["t"][0]) if binning.origin is None else binning.origin


def _fewer(binning: Binning) -> str:
    """What makes the sequence shorter."""
    if binning.bins is not None:
        return "take fewer bins"
    return f"take a larger {'window' if binning.window is not None else 'count'}, a limit of steps (most, --steps)"


def _sorted(events: Events, sensor: Sensor, binning: Binning, parts: int, length: int, steps: int) -> SparseFrames:
    """The same by sorting, for sensors of which not even one step is to be held."""
    check_events(events, sensor, "events to bin")
    order = np.arange(len(events)) if binning.count is not None else events["t"] - _begin(events, binning)
    step = order * parts // length
    x, y, p = (events[name].astype(np.int64) for name in "xyp")
    places = step * sensor.size + (p * sensor.height + y) * sensor.width + x
    places, counts = np.unique(places[step < steps], return_counts=True)
    return SparseFrames(places.astype(np.uint32), np.minimum(counts, binning.levels).astype(np.uint16), steps)


FORMAT = 1
"""Raised whenever the same settings begin to give other sequences, so that no cache of before is used."""


@dataclass(frozen=True)
class Pipeline:
    """``transforms`` one after the other, then ``binning``; the same for every recording, without chance."""

    binning: Binning
    transforms: tuple[Transform, ...] = ()

    def sensor(self, sensor: Sensor) -> Sensor:
        """The sensor as it is behind the transforms."""
        for transform in self.transforms:
            sensor = transform.sensor(sensor)
        return sensor

    def __call__(self, events: Events, sensor: Sensor) -> SparseFrames:
        """The sequence of one recording, only what is not zero. A recording without events left has zeros."""
        for transform in self.transforms:
            events, sensor = transform(events, sensor), transform.sensor(sensor)
        return bin_events(events, sensor, self.binning)

    def describe(self) -> str:
        """All that the result depends on besides the events, as text: equal texts, equal sequences."""
        steps: list[dict[str, Any]] = [{"kind": type(each).__name__, **each.parameters()} for each in self.transforms]
        return json.dumps({"format": FORMAT, "transforms": steps, "binning": asdict(self.binning)}, sort_keys=True)


USUAL = Pipeline(Binning(bins=20))
"""How recordings become sequences where neither a data set nor the user says otherwise."""
