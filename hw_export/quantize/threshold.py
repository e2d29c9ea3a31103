"""Thresholds in steps of a weight: the scale is moved so that they are whole, or they are rounded.

A scale meets one threshold exactly. Where the neurons of a layer have several, each is rounded by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikelfp.quantized import TIE_MARGIN

__all__ = ["TIE_MARGIN", "Real", "Step", "exact_step", "kept_step", "nearest_step", "one_if_uniform"]

_ROUNDED = 2**-22
"""By what part a quotient of two numbers that are rounded to float32 may be off."""


Real = float | Tensor
"""A real threshold: one number, or a tensor that broadcasts to the shape of the layer."""


@dataclass(frozen=True)
class Step:
    """One step of a weight, and the thresholds in steps of the sums.

    Attributes:
        scale: real value of the step.
        whole: the integer threshold, or int64 of the shape that the thresholds have; 0 where one would round to that.
        compared: what the neurons compare with, float32 between ``whole`` and ``whole + 1``.
        error: relative, of the real threshold; of several the largest.
    """

    scale: float
    whole: int | Tensor
    compared: float | Tensor
    error: float = 0.0

    @property
    def vanishes(self) -> bool:
        """Whether a threshold rounds to 0."""
        return bool((torch.as_tensor(self.whole) == 0).any())


def one_if_uniform(threshold: Real) -> Real:
    """The one number of a tensor that holds no other."""
    if isinstance(threshold, Tensor) and bool((threshold == threshold.flatten()[0]).all()):
        return threshold.flatten()[0].item()
    return threshold


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


def nearest_step(scale: float, threshold: Real, factor: int, margin: float) -> Step:
    """``scale`` as it is, and the whole thresholds next to it: the real ones change by the relative ``error``."""
    wanted = _wanted(scale, threshold, factor)
    whole = (wanted - margin).round().clamp(min=1)
    whole = torch.where(wanted < 0.5, 0, whole)
    return _step(scale, whole, whole + margin, wanted, threshold)


def kept_step(scale: float, threshold: Real, factor: int, margin: float) -> Step:
    """``scale`` and thresholds as they are: the neurons compare with ``threshold / scale`` and whatever part of a step
    that has, which for sums of integers is the same as with the whole number below. A threshold that is whole by
    itself, as far as the float32 of a scale can tell, gets the margin."""
    wanted = _wanted(scale, threshold, factor)
    nearest = wanted.round()
    is_whole = (wanted - nearest).abs() <= wanted * _ROUNDED
    whole = torch.where(is_whole, nearest, wanted.floor())
    return _step(scale, whole, torch.where(is_whole, nearest + margin, wanted), wanted, threshold)


def _wanted(scale: float, threshold: Real, factor: int) -> Tensor:
    return torch.as_tensor(threshold, dtype=torch.float64).cpu() * factor / scale


def _step(scale: float, whole: Tensor, compared: Tensor, wanted: Tensor, threshold: Real) -> Step:
    compared = compared.float()
    error = (compared.double() / wanted - 1).flatten()
    worst = error[error.abs().argmax()].item()
    if isinstance(threshold, Tensor):
        return Step(scale, whole.long(), compared, worst)
    return Step(scale, int(whole), compared.item(), worst)
