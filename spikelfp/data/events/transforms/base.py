"""What a transform of events is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from spikelfp.data.events.event import Events, Sensor


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
