"""Parameters of transforms and augmentations: their checks, and lists of them as one line of text and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any, TypeVar, get_type_hints

from spikelfp.errors import UserError
from spikelfp.registry import Registry
from spikelfp.scalars import as_number, as_whole

T = TypeVar("T")


def check_whole(name: str, value: object, least: int, unit: str = "") -> None:
    """Raise ``UserError`` unless ``value`` of parameter ``name`` is a whole number of at least ``least``, below 2⁶²."""
    number = as_whole(value)
    if number is None or not least <= number < 2**62:
        raise UserError(f"{name} must be a whole number of at least {least}{unit}, got {value!r}")


def check_positive(name: str, value: object, unit: str = "") -> None:
    """Raise ``UserError`` unless ``value`` of parameter ``name`` is a finite number above 0."""
    number = as_number(value)
    if number is None or not 0 < number < math.inf:
        raise UserError(f"{name} must be a number above 0{unit}, got {value!r}")


def check_probability(name: str, value: object) -> None:
    """Raise ``UserError`` unless ``value`` of parameter ``name`` is a probability, neither 0 nor 1."""
    number = as_number(value)
    if number is None or not 0 < number < 1:
        raise UserError(f"{name} must be a probability above 0 and below 1, got {value!r}")


def parse(text: str, registry: Registry[type[T]]) -> tuple[T, ...]:
    """Make the objects that ``text`` lists, such as ``"denoise=10000,downsample=2,crop=3:3:28:28"``.

    Parameters follow ``=`` in the order of the fields of the dataclass, with colons between them; those with defaults
    may be left out from the end. Fields are ``int`` or ``float``. A class with other fields has a class method
    ``from_text(parameters: list[str])`` and a method ``to_text() -> list[str]``.

    Args:
        text: names with their parameters; an empty text lists nothing.
        registry: dataclasses by name.

    Returns:
        The objects in the order of the text.

    Raises:
        UnknownNameError: for a name that is not registered; it suggests the nearest.
        UserError: for parameters that are missing, too many, not of their type or out of range.
    """
    pieces, depth = [""], 0
    for letter in text:  # cut at commas, but not within brackets
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth <= 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    found = []
    for piece in filter(None, map(str.strip, pieces)):
        name, equals, rest = piece.partition("=")
        name = name.strip()
        kind: Any = registry[name]
        parameters = [value.strip() for value in rest.split(":")] if equals else []
        found.append(kind.from_text(parameters) if hasattr(kind, "from_text") else _build(name, kind, parameters))
    return tuple(found)


def text_of(chosen: Iterable[T], registry: Registry[type[T]]) -> str:
    """Write objects as the text that :func:`parse` makes them of.

    Args:
        chosen: objects of registered dataclasses.
        registry: the dataclasses by name.

    Raises:
        UserError: for an object of a class that is not registered.
    """
    names = {registry[name]: name for name in registry}
    pieces = []
    for each in chosen:
        kind: Any = type(each)
        if kind not in names:
            raise UserError(f"{each!r} has no name: register {kind.__name__} as a {registry.kind}")
        if hasattr(each, "to_text"):
            values = each.to_text()
        else:
            values = [json.dumps(getattr(each, field.name)) for field in dataclasses.fields(kind)]
        pieces.append(names[kind] + ("=" + ":".join(values) if values else ""))
    return ",".join(pieces)


def _build(name: str, kind: Any, parameters: list[str]) -> Any:
    """Make the object called ``name`` with these parameters."""
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
