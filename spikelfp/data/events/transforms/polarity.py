"""Transforms of polarities."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.transforms.base import Transform
from spikelfp.errors import UserError


@dataclass(frozen=True)
class FlipPolarity(Transform):
    """ON for OFF and OFF for ON; tonic's ``RandomFlipPolarity(p=1)``.

    Raises:
        UserError: on a sensor of one polarity.
    """

    def sensor(self, sensor: Sensor) -> Sensor:
        """The same, if it has two polarities."""
        if sensor.polarities != 2:
            raise UserError(f"flip-polarity needs a sensor of two polarities, this one has {sensor}")
        return sensor

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """``p' = 1 − p``."""
        self.sensor(sensor)
        flipped = events.copy()
        flipped["p"] = 1 - flipped["p"]
        return flipped


@dataclass(frozen=True)
class MergePolarities(Transform):
    """One polarity for both; tonic's ``MergePolarities``."""

    def sensor(self, sensor: Sensor) -> Sensor:
        """The same with one polarity."""
        return replace(sensor, polarities=1)

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """``p' = 0``."""
        merged = events.copy()
        merged["p"] = 0
        return merged
