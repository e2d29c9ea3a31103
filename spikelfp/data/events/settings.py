"""Parameters of transforms and augmentations: their checks, and lists of them as one line of text and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any, TypeVar, get_type_hints

from spikelfp.errors import UserError
from spikelfp.registry import Registry


def check_whole(name: str, value: object, least: int, unit: str = "") -> None:
    """Raise unless the parameter ``value`` of ``name`` is a whole number of at least ``least`` and below 2⁶²."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**62:
        raise UserError(f"{name} must be a whole number of at least {least}{unit}, got {value!r}")


def check_positive(name: str, value: object, unit: str = "") -> None:
    """Raise unless the parameter ``value`` of ``name`` is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{name} must be a number above 0{unit}, got {value!r}")


def check_probability(name: str, value: object) -> None:
    """Raise unless the parameter ``value`` of ``name`` is a probability, neither 0 nor 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise UserError(f"{name} must be a probability above 0 and below 1, got {value!r}")


T = TypeVar("T")


def parse(text: str, registry: Registry[type[T]]) -> tuple[T, ...]:
    """What ``text`` lists, such as ``"denoise=10000,downsample=2,crop=3:3:28:28"``, in its order; empty for none.

    Parameters stand behind ``=`` in the order of the dataclass's fields, between colons; those with defaults may be
    left out from the end. Fields are ``int`` or ``float``; a class with others reads and writes its own by a class
    method ``from_text(parameters: list[str])`` and a method ``to_text() -> list[str]``.

    Raises:
        UnknownNameError: for a name that is not registered; it suggests the nearest.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    found = []
    for part in filter(None, (each.strip() for each in _split(text))):
        name, equals, rest = part.partition("=")
        name = name.strip()
        kind: Any = registry[name]
        parameters = [value.strip() for value in rest.split(":")] if equals else []
        found.append(kind.from_text(parameters) if hasattr(kind, "from_text") else _build(name, kind, parameters))
    return tuple(found)


def text_of(chosen: Iterable[T], registry: Registry[type[T]]) -> str:
    """The text that :func:`parse` makes them of.

    Raises:
        UserError: for one of a class that is not registered.
    """
    names = {registry[name]: name for name in registry}
    parts = []
    for one in chosen:
        kind: Any = type(one)
        if kind not in names:
            raise UserError(f"{one!r} has no name: register {kind.__name__} as a {registry.kind}")
        values = one.to_text() if hasattr(one, "to_text") else _values(one)
        parts.append(names[kind] + ("=" + ":".join(values) if values else ""))
    return ",".join(parts)


def _split(text: str) -> list[str]:
    """``text`` cut at its commas, but not within brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _values(one: Any) -> list[str]:
    return [json.dumps(getattr(one, field.name)) for field in dataclasses.fields(one)]


def _build(name: str, kind: Any, parameters: list[str]) -> Any:
    """The one of this ``name`` with these parameters."""
    fields = dataclasses.fields(kind)
    least = sum(field.default is dataclasses.MISSING for field in fields)
    usage = name + ("=" + ":".join(field.name for field in fields) if fields else "")
    if not least <= len(parameters) <= len(fields):
        wanted = str(least) if least == len(fields) else f"{least} to {len(fields)}"
        plural = "parameter" if wanted == "1" else "parameters"
        raise UserError(f"{name} takes {wanted} {plural}, got {len(parameters)}: write {usage}")
    types = get_type_hints(kind)
    values = {}
    for field, text in zip(fields, parameters, strict=False):
        try:
            values[field.name] = types[field.name](text)
        except ValueError:
            number = "whole number" if types[field.name] is int else "number"
            raise UserError(f"{field.name} of {usage} is a {number}, got {text!r}") from None
    return kind(**values)
