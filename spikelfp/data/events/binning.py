"""From events to the steps of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.errors import UserError


@dataclass(frozen=True)
class Binning:
    """How events become the steps of a sequence. Exactly one of ``bins``, ``window`` and ``count`` is given.

    bins: steps of equal length, from the first to the last event of a recording: all sequences are as long.
    window: µs of a step, from the first event on; the last step may hold less.
    count: events of a step; the last step may hold fewer.
    most: longest sequence with ``window`` or ``count``; events behind it are left out. ``None`` for no limit.
    levels: value of an element with ``n`` events is ``min(n, levels) / levels``: in [0, 1], and with 1 a spike or none.

    Raises:
        UserError: for none or several of the three, or a number below 1.
    """

    bins: int | None = None
    window: int | None = None
    count: int | None = None
    most: int | None = None
    levels: int = 1

    def __post_init__(self) -> None:
        ways = {name: getattr(self, name) for name in ("bins", "window", "count")}
        if sum(value is not None for value in ways.values()) != 1:
            raise UserError(f"events are binned by one of bins, window and count, got {ways}")
        for name in (*ways, "most", "levels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")


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
    """The ``events`` of a recording of the ``sensor`` as the steps of a sequence."""
    raise NotImplementedError
