"""Checks of the parameters of transforms and augmentations."""

from __future__ import annotations

import math

from spikelfp.errors import UserError


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
