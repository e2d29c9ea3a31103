"""Inputs of the simulator: sequences of whole numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant

_EXACT = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.float64: 2**53}


class Inputs(NamedTuple):
    """``steps`` steps of whole numbers of magnitude up to ``peak``.

    values: ``[T, B, *shape]``, or ``[1, B, *shape]`` where all steps are the same; int8, or int32 or int64 where that
    is too narrow. lowest: the smallest.
    """

    values: Tensor
    steps: int
    peak: int
    lowest: int


def whole(inputs: Tensor, shape: tuple[int, ...], device: torch.device) -> Inputs:
    """``inputs`` ``[T, B, …]`` of any dtype, for a network that takes ``shape`` at each step, on ``device``.

    Raises :class:`~spikelfp.errors.ShapeError` for another shape, and :class:`~spikelfp.errors.UserError` for numbers
    that are not whole, are NaN or infinite, or so large that their dtype does not hold every whole number any more.
    """
    if inputs.dim() < 2 or not len(inputs) or not inputs.shape[1]:
        raise ShapeError(f"inputs are [T, B, …] with at least one step and one sample, got {tuple(inputs.shape)}")
    if math.prod(inputs.shape[2:]) != math.prod(shape):
        raise ShapeError(
            f"the network takes {tuple(shape)} for each sample and step, got inputs {tuple(inputs.shape)}: "
            f"{math.prod(inputs.shape[2:])} numbers instead of {math.prod(shape)}"
        )
    if inputs.is_complex():
        raise UserError("inputs are whole numbers, got complex ones")
    steps = len(inputs)
    values = (inputs[:1] if is_constant(inputs) else inputs).detach().to(device)
    if not values.is_floating_point():
        values = values.to(torch.int8 if values.dtype in (torch.bool, torch.int8) else torch.int64)
    low, high = (end.item() for end in values.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("the inputs hold NaN or infinite numbers: a chip takes whole numbers, spikes or pixels")
    peak = int(max(abs(low), abs(high)))
    if peak >= _EXACT.get(values.dtype, 2**62):
        raise UserError(f"inputs of up to {peak} are too large: {values.dtype} does not hold all whole numbers there")
    if values.is_floating_point() and not torch.equal(values.trunc(), values):
        odd = values[values.trunc() != values][0].item()
        raise UserError(
            f"the inputs hold fractions, like {odd:g}: a chip takes whole numbers. Give spikes of 0 and 1, or the "
            "pixels times the input_scale that the network was quantised with"
        )
    kept = values.to(torch.int8 if low >= -128 and high <= 127 else torch.int32 if peak < 2**31 else torch.int64)
    return Inputs(kept.reshape(*values.shape[:2], *shape).contiguous(), steps, peak, int(low))
