"""Single numbers that users hand to functions, of Python or numpy, as numbers of Python's own.

Every check of an argument asks here whether it is given a number at all, so that all give one answer: integers and
floats of numpy, and its arrays without axes, are numbers; true and false, texts, NaN and tensors are none. (A tensor
may be on a device or have a gradient, and where one is meant, the function says so itself.)
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any


def as_number(value: Any) -> float | None:
    """Return a number as a float, or ``None`` for what is none, or beyond floats.

    Args:
        value: the number; it may be infinite.
    """
    value = _of_python(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 300 digits
        return None
    return None if math.isnan(number) else number


def as_python(value: Any) -> int | float | None:
    """Return a number as an int where it is whole by its type, else as a float, or ``None`` for what is none.

    Args:
        value: the number.
    """
    whole = as_whole(value)
    return as_number(value) if whole is None else whole


def as_whole(value: Any) -> int | None:
    """Return a whole number as an int, or ``None`` for what is none, such as ``2.0``.

    Args:
        value: the number.
    """
    value = _of_python(value)
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None


def keep_plain(settings: Any) -> None:
    """Replace numbers of numpy among the fields of a dataclass, which its text would show as such.

    Args:
        settings: the object, in its ``__post_init__``; it may be frozen.
    """
    for each in dataclasses.fields(settings):
        number = as_python(getattr(settings, each.name))
        if number is not None:
            object.__setattr__(settings, each.name, number)


def _of_python(value: Any) -> Any:
    """Return a scalar or an array without axes of numpy as Python has it, and everything else as it is."""
    # numpy need not be loaded for this; its durations and dates become those of Python, which are no numbers.
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    return value
