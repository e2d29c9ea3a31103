"""From events to the steps of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.binning_kernels import bin_sorted
from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.step_kernels import new_step
from spikelfp.errors import DataError, UserError

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
