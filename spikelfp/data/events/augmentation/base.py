"""What an augmentation is, and what can happen to a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.augmentation.random import Draws
from spikelfp.data.events.event import Sensor

CHANGE = np.dtype(
    [
        ("drop", "<f8"),
        ("jitter", "<i8"),
        ("mirror", "u1"),
        ("upside_down", "u1"),
        ("swap", "u1"),
        ("dx", "<i8"),
        ("dy", "<i8"),
        ("dt", "<i8"),
        ("wrap", "u1"),
        ("noise", "<f8"),
    ],
    align=True,
)
"""What happens to one sample, in this order; all zeros: nothing.

drop: each event is lost with this probability. jitter: each event moves by ``−jitter … jitter`` columns and rows, with
equal chance for every place. mirror: columns ``x`` become ``W − 1 − x``; upside_down: rows likewise; swap: polarities 0
and 1 change places. dx, dy: pixels to the right and down. dt: steps later; with ``wrap`` what leaves the sequence at
one end comes in at the other. noise: each element of each step gets one event more with this probability.

Where there is one row, such as on a line of channels, nothing moves up or down: dy is as 0, and jitter is of columns.
What leaves the sensor, or the sequence, is lost, and an element holds at most ``levels`` events.
"""

Changes = NDArray[Any]
"""What happens to ``B`` samples: ``[B]`` of dtype :data:`CHANGE`."""


class Augmentation(ABC):
    """Draws what happens to each sample; its dataclass fields are its parameters.

    what: the property of a sample that it draws. No two of a list draw the same, so their order does not matter.
    """

    what: ClassVar[str]

    @abstractmethod
    def draw(self, changes: Changes, draws: Draws) -> None:
        """Enter into ``changes`` ``[B]`` what happens to each sample, by random numbers from ``draws``."""

    def check(self, sensor: Sensor) -> None:  # noqa: B027  (most fit every sensor)
        """Raise :class:`~spikelfp.errors.UserError` where it makes no sense for the ``sensor``."""

    def parameters(self) -> dict[str, Any]:
        """What it depends on besides the draws, as plain data."""
        return dict(vars(self))
