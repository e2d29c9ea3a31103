"""Transforms of the package tonic, used as transforms of this one."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from spikelfp.data.events.event import EVENT, Events, Sensor, check_events
from spikelfp.data.events.transforms.base import Transform, transforms
from spikelfp.errors import UserError
from spikelfp.registry import check_name

_TONIC_EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
_WORD = re.compile(r"[\w.+-]+")
_DRAWN_FROM_RANGES = {"RefractoryPeriod": ("delta",), "TimeSkew": ("coefficient", "offset")}


def _same(sensor: Sensor, options: dict[str, Any]) -> Sensor:
    return sensor


def _one_polarity(sensor: Sensor, options: dict[str, Any]) -> Sensor:
    return replace(sensor, polarities=1)


def _center(sensor: Sensor, options: dict[str, Any]) -> Sensor:
    size = options["size"]
    width, height = size if isinstance(size, tuple) else (size, size)
    return replace(sensor, width=width, height=height)


def _target(sensor: Sensor, options: dict[str, Any]) -> Sensor:
    width, height = options["target_size"]
    return replace(sensor, width=width, height=height)


def _downsampled(sensor: Sensor, options: dict[str, Any]) -> Sensor:
    if "target_size" in options:
        return _target(sensor, options)
    factor = options.get("spatial_factor", 1)
    horizontal, vertical = factor if isinstance(factor, tuple) else (factor, factor)
    return replace(
        sensor, width=int((sensor.width - 1) * horizontal) + 1, height=int((sensor.height - 1) * vertical) + 1
    )


SENSORS: dict[str, Callable[[Sensor, dict[str, Any]], Sensor]] = {
    "CenterCrop": _center,
    "CropTime": _same,
    "Decimation": _same,
    "Denoise": _same,
    "Downsample": _downsampled,
    "DropPixel": _same,
    "EventDownsampling": _target,
    "MergePolarities": _one_polarity,
    "RefractoryPeriod": _same,
    "TimeAlignment": _same,
    "TimeSkew": _same,
}
"""Classes of tonic that map events to events without chance, and functions that return the sensor of the new events."""


@transforms.register("tonic")
@dataclass(frozen=True, init=False)
class Tonic(Transform):
    """A class of ``tonic.transforms`` with its options: ``Tonic("Downsample", spatial_factor=0.5)``.

    As text: ``tonic=Downsample:spatial_factor=0.5``, lists in brackets: ``tonic=CenterCrop:size=[20,20]``.

    Args:
        name: of the class, one of :data:`SENSORS`, which draw nothing at random.
        **options: of the class by name: numbers, words, or lists of them. ``sensor_size`` is filled in where the class
            asks for it.

    Raises:
        UnknownNameError: for another class.
        UserError: without tonic; for options that the class does not take, that are no plain data, or ranges it would
            draw from; and, when called, for events that tonic cannot transform.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    def __init__(self, name: str, **options: Any) -> None:
        object.__setattr__(self, "name", check_name("transform of tonic without chance", name, SENSORS))
        object.__setattr__(self, "options", tuple((key, _plain(name, key, options[key])) for key in sorted(options)))
        takes = inspect.signature(_class(name)).parameters
        for key, value in self.options:
            if key not in takes:
                raise UserError(f"tonic's {name} takes no {key}, but {', '.join(takes) or 'nothing'}")
            if isinstance(value, tuple) and key in _DRAWN_FROM_RANGES.get(name, ()):
                raise UserError(f"tonic's {name} would draw {key} from {value}: give one number")
        given = dict(self.options)
        missing = [
            key for key, one in takes.items() if one.default is one.empty and key not in given and key != "sensor_size"
        ]
        if missing:
            raise UserError(f"tonic's {name} needs {', '.join(missing)}")

    def parameters(self) -> dict[str, Any]:
        """Return name, options, and the version of tonic, as results may differ between versions."""
        return {"name": self.name, "options": dict(self.options), "tonic": version("tonic")}

    def sensor(self, sensor: Sensor) -> Sensor:
        """Return the sensor as the class changes it."""
        try:
            return SENSORS[self.name](sensor, dict(self.options))
        except (KeyError, TypeError, UserError) as error:
            raise UserError(f"{self} makes no sensor of one of {sensor}: {error}") from error

    def __call__(self, events: Events, sensor: Sensor) -> Events:
        """Return the events that tonic makes of a copy, sorted by time."""
        after = self.sensor(sensor)
        if len(events) == 0:
            return events.copy()
        kind = _class(self.name)
        given = dict(self.options)
        if "sensor_size" in inspect.signature(kind).parameters:
            given.setdefault("sensor_size", (sensor.width, sensor.height, sensor.polarities))
        copied = np.empty(len(events), _TONIC_EVENT)
        for field in "xytp":
            copied[field] = events[field]
        try:
            made = kind(**given)(copied)  # a new object each time: some keep values of the first recording
        except Exception as error:
            raise UserError(f"tonic's {self.name} fails: {type(error).__name__}: {error}") from error
        if len(made) == 0:
            return np.empty(0, EVENT)
        for field, end in (("x", after.width), ("y", after.height), ("p", after.polarities)):
            if not 0 <= made[field].min() <= made[field].max() < end:
                raise UserError(
                    f"tonic's {self.name} puts events off the sensor of {after}: {field} must be below {end}"
                )
        result = np.zeros(len(made), EVENT)
        for field in "xytp":
            result[field] = made[field]
        return check_events(result[np.argsort(result["t"], kind="stable")], after, f"tonic's {self.name}")

    @classmethod
    def from_text(cls, parameters: list[str]) -> Tonic:
        """Make one from ``[name, "option=value", …]``.

        Raises:
            UserError: for no name, and as the class.
        """
        if not parameters:
            raise UserError(f"tonic needs a class: write tonic=NAME:option=value, NAME one of {', '.join(SENSORS)}")
        options = {}
        for part in parameters[1:]:
            key, equals, value = part.partition("=")
            if not equals:
                raise UserError(f"options of tonic={parameters[0]} are written option=value, got {part!r}")
            options[key.strip()] = _read(value.strip())
        return cls(parameters[0], **options)

    def to_text(self) -> list[str]:
        """Return the parameters from which :meth:`from_text` makes it again."""
        return [self.name, *(f"{key}={_write(value)}" for key, value in self.options)]


def _class(name: str) -> Any:
    try:
        return getattr(importlib.import_module("tonic.transforms"), name)
    except ImportError as error:
        raise UserError(f"the transform {name} of tonic needs it ({error}): pip install 'spikelfp[events]'") from error


def _plain(name: str, key: str, value: Any) -> Any:
    """``value`` with lists as tuples, if it is plain data."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(name, key, one) for one in value)
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and _WORD.fullmatch(value)):
        return value
    raise UserError(f"{key} of tonic's {name} must be a number, a word or a list of those, got {value!r}")


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return value if isinstance(value, str) and _read(value) == value else text
