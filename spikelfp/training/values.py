"""Values of options: of the type their field has, and within its bounds."""

from __future__ import annotations

import math
from dataclasses import Field
from typing import Any

from spikelfp.errors import UserError
from spikelfp.untrusted.content import brief

_KINDS = {
    "int": "a whole number",
    "float": "a finite number",
    "str": "text",
    "tuple[int, ...]": "whole numbers, such as 1000,1000",
}


def plain_value(f: Field[Any], value: Any) -> Any:
    """``value`` as the type of the field ``f``; also from text, which YAML makes of ``1e-3`` and a command line of all.

    Raises:
        UserError: for what is none of that type, and numbers that are not finite.
    """
    kind, _, rest = str(f.type).partition(" | ")
    name = f.name.replace("_", "-")
    if value is None and rest:
        return None
    if kind == "bool":
        if not isinstance(value, bool):
            raise UserError(f"{name} is true or false, got {brief(value)}")
        return value
    try:
        if kind == "tuple[int, ...]":
            if isinstance(value, list | tuple):
                return tuple(_number(int, part) for part in value)
            return tuple(_number(int, part) for part in (value.split(",") if isinstance(value, str) else [value]))
        if kind == "str":
            if not isinstance(value, str):
                raise TypeError
            return value
        return _number(int if kind == "int" else float, value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} takes {_KINDS[kind]}, got {brief(value)}") from None


def _number(kind: type[int] | type[float], value: Any) -> int | float:
    if isinstance(value, bool) or (kind is int and not isinstance(value, str) and int(value) != value):
        raise TypeError
    number = kind(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def check_within(name: str, value: float, interval: str) -> None:
    """Refuse a ``value`` outside of an ``interval`` such as ``[0, 1)`` or ``(0, ∞)``.

    Raises:
        UserError: naming the value's ``name`` and the interval.
    """
    low, high = (float(end.strip(" ()[]").replace("∞", "inf")) for end in interval.split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if above and below:
        return
    if high < math.inf:
        wanted = f"lie in {interval}"
    elif interval[0] == "(":
        wanted = f"be above {low:g}"
    else:
        wanted = "be 0 or more" if low == 0 else f"be at least {low:g}"
    raise UserError(f"{name} must {wanted}, got {value}")
