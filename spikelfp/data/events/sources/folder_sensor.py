"""The one sensor that the recordings of a folder come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers import read
from spikelfp.data.events.sources.remember import facts_of_files
from spikelfp.errors import DataError

_KIND = "extent 1"  # the number is raised when readers find another sensor in the same file
_LARGEST = Sensor(2**16, 2**16, 2)


class Extent(NamedTuple):
    """What one file tells about its sensor.

    said: whether its header or its format says it; otherwise it is the smallest that holds the events.
    """

    sensor: Sensor
    said: bool


def extents_of(paths: Sequence[str]) -> dict[str, Extent | DataError]:
    """The extent of each file, or why it cannot be read. Each is read whole for it, but only once until it changes:
    see :func:`~spikelfp.data.events.sources.remember.facts_of_files`."""
    found: dict[str, Extent | DataError] = {}

    def find_out(path: str) -> str:
        try:
            sensor, said = _extent(path)
        except DataError as error:
            found[path] = error
            return ""
        return json.dumps([sensor.width, sensor.height, sensor.polarities, said])

    for path, fact in zip(paths, facts_of_files(paths, _KIND, find_out), strict=True):
        if fact:
            width, height, polarities, said = json.loads(fact)
            found[path] = Extent(Sensor(width, height, polarities), said)
    return found


def _extent(path: str) -> Extent:
    events, sensor, _ = read(path)
    smallest = (int(events["x"].max()) + 1, int(events["y"].max()) + 1)
    # a reader takes the sensor that it is handed where the file does not say one
    said = smallest != (sensor.width, sensor.height) or read(path, sensor=_LARGEST).sensor != _LARGEST
    return Extent(sensor, said)


def common_sensor(extents: Mapping[str, Extent], given: Sensor | None = None) -> Sensor:
    """The sensor of all files: the ``given`` one, else the one that files say, else the smallest that holds the events
    of all.

    Raises:
        DataError: for a file of another sensor, or with events outside it; it names two files.
    """
    said = {extent.sensor: path for path, extent in extents.items() if extent.said}
    if given is not None:
        sensor, origin = given, "the one asked for"
    elif said:
        sensor, origin = next(iter(said.items()))
    else:
        sizes = [extent.sensor for extent in extents.values()]
        sensor = Sensor(*(max(getattr(size, name) for size in sizes) for name in ("width", "height", "polarities")))
        origin = next(path for path, extent in extents.items() if extent.sensor.is_line == sensor.is_line)
    for path, extent in extents.items():
        if not (extent.sensor == sensor if extent.said else _fits(extent.sensor, sensor)):
            raise DataError(
                f"recordings of different sensors: {origin} is of {sensor}, {path} of {extent.sensor}; a network has "
                "one input, so keep one of them"
            )
    return sensor


def _fits(small: Sensor, large: Sensor) -> bool:
    fits = all(getattr(small, name) <= getattr(large, name) for name in ("width", "height", "polarities"))
    return fits and small.is_line == large.is_line
