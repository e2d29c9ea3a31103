"""The base class of transforms, their registry, and transforms as text."""

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
    """A map of events without chance. Its dataclass fields are its parameters, and it depends on nothing else."""

    @abstractmethod
    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Transform a recording.

        Args:
            events: ``[M]``, sorted by time; they are not changed.
            sensor: that they lie on.

        Returns:
            The new events, sorted by time.
        """

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the sensor of the new events: here, that of the old ones."""
        return sensor

    def parameters(self) -> dict[str, Any]:
        """Return all that it depends on besides the events, as plain data."""
        return dict(vars(self))


def select(events: Events, kept: NDArray[np.bool_]) -> Events:
    """Copy some events, several times as fast as indexing in numpy, which copies field by field.

    Args:
        events: ``[M]``.
        kept: whether each is copied ``[M]``.
    """
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
    """Make transforms from text.

    Args:
        text: such as ``"denoise=10000,downsample=2,crop=3:3:28:28"``; parameters follow ``=`` in the order of the
            fields of the class, separated by colons.

    Returns:
        The transforms, in the order of the text.

    Raises:
        UnknownNameError: for a name that is not registered; it suggests the nearest.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    return parse(text, transforms)


def transforms_text(chosen: Iterable[Transform]) -> str:
    """Write transforms as text, from which :func:`parse_transforms` makes them again.

    Args:
        chosen: the transforms.

    Returns:
        The text; empty for none.

    Raises:
        UserError: for a transform of a class that is not registered.
    """
    return text_of(chosen, transforms)
