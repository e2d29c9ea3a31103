"""Thresholds in steps of a weight: the scale is moved so that they are whole, or they are rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spikelfp.quantized.scale import TIE_MARGIN

__all__ = ["TIE_MARGIN", "Step", "exact_step", "kept_step", "nearest_step"]

_ROUNDED = 2**-22
"""By what part a quotient of two numbers that are rounded to float32 may be off."""


@dataclass(frozen=True)
class Step:
    """One step of a weight, and a threshold in steps of the sums.

    scale: real value of the step. whole: the integer threshold; 0 where it would round to that. compared: what the
    neurons compare with, a float32 between ``whole`` and ``whole + 1``. error: relative, of the real threshold.
    """

    scale: float
    whole: int
    compared: float
    error: float = 0.0


def exact_step(
    scale: float, threshold: float, factor: int, margin: float, error: Callable[[float], float] | None
) -> Step:
    """The step near ``scale`` of which the threshold is a whole number, times ``factor``, and the margin.

    Of the two whole numbers next to ``threshold / scale`` the one of less ``error(scale)``, or, without such a
    function, the one of the larger step, which clips nothing. threshold: real, in the unit in which a weight is.
    factor: how many units of the sums a step of a weight times the unit of its input is.
    """
    wanted = threshold / scale
    if wanted < 0.5:
        return Step(scale, 0, 0.0)
    steps = max(1, int(wanted))
    if error is not None and steps <= wanted:
        steps = min((steps, steps + 1), key=lambda n: error(threshold / n))
    whole = steps * factor
    compared = float(np.float32(whole + margin))
    return Step(threshold * factor / compared, whole, compared)


def nearest_step(scale: float, threshold: float, factor: int, margin: float) -> Step:
    """``scale`` as it is, and the whole threshold next to it: the real one changes by the relative ``error``."""
    wanted = threshold * factor / scale
    if wanted < 0.5:
        return Step(scale, 0, 0.0)
    whole = max(1, round(wanted - margin))
    compared = float(np.float32(whole + margin))
    return Step(scale, whole, compared, compared / wanted - 1)


def kept_step(scale: float, threshold: float, factor: int, margin: float) -> Step:
    """``scale`` and threshold as they are: the neurons compare with ``threshold / scale`` and whatever part of a step
    that has, which for sums of integers is the same as with the whole number below. A threshold that is whole by
    itself, as far as the float32 of a scale can tell, gets the margin."""
    wanted = threshold * factor / scale
    nearest = round(wanted)
    is_whole = abs(wanted - nearest) <= wanted * _ROUNDED
    compared = float(np.float32(nearest + margin if is_whole else wanted))
    return Step(scale, nearest if is_whole else int(wanted), compared, compared / wanted - 1)
