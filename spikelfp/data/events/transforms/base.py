"""What a transform of events is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.settings import parse, text_of
from spikelfp.registry import Registry


class Transform(ABC):
    """A map of events without chance; its dataclass fields are its parameters, and all that it depends on."""

    @abstractmethod
    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """The new events, sorted by time; ``events`` stay as they are."""

    def sensor(self, sensor: Sensor) -> Sensor:
        """The sensor that the new events lie on: here the same."""
        return sensor

    def parameters(self) -> dict[str, Any]:
        """What it depends on besides the events, as plain data."""
        return dict(vars(self))


def select(events: Events, kept: NDArray[np.bool_]) -> Events:
    """A copy of the events that are ``kept`` ``[M]``."""
    found = np.empty(int(np.count_nonzero(kept)), events.dtype)
    _select(events, kept, found)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _select(events, kept, found):
    to = 0
    for i in range(len(events)):
        if kept[i]:
            found[to] = events[i]
            to += 1


transforms: Registry[type[Transform]] = Registry("transform of events")
"""Transforms by the name they are asked for; register one to make it known to :func:`parse_transforms`."""


def parse_transforms(text: str) -> tuple[Transform, ...]:
    """The transforms of ``text``, such as ``"denoise=10000,downsample=2,crop=3:3:28:28"``, in its order.

    Parameters stand behind ``=`` in the order of the class's fields, between colons.

    Raises:
        UnknownNameError: for a name that is not registered; it suggests the nearest.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    return parse(text, transforms)


def transforms_text(chosen: Iterable[Transform]) -> str:
    """The text that :func:`parse_transforms` makes them of.

    Raises:
        UserError: for a transform of a class that is not registered.
    """
    return text_of(chosen, transforms)
