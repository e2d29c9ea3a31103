"""From the events of a recording to its sequence: transforms of events, then their binning."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from spikelfp.data.events.binning import Binning, SparseFrames, bin_events
from spikelfp.data.events.event import Events, Sensor
from spikelfp.data.events.transforms.base import Transform

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
