"""Integers that stand for real numbers: ``w ≈ s · q``, ``q`` a whole number of a few bits, and rounding to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.errors import UserError
from spikelfp.machine import empty
from spikelfp.terminal import brief


def largest(bits: int) -> int:
    """Return the largest integer of ``bits`` signed bits in a symmetric range; 2 bits are ternary."""
    return 2 ** (bits - 1) - 1


def check_bits(bits: int) -> int:
    """Return ``bits`` as an int.

    Raises:
        UserError: unless it is a whole number from 2 to 16.
    """
    try:
        fits = 2 <= bits <= 16 and bits == int(bits)
    except (TypeError, ValueError, RuntimeError):  # a text, a tuple, several numbers
        fits = False
    if not fits:
        raise UserError(f"bits must be a whole number from 2 to 16, got {brief(bits)}")
    return int(bits)


@dataclass(frozen=True, eq=False)
class Grid:
    """Whole numbers ``low … high``, each standing for ``scale · q``.

    Attributes:
        scale: one number, or a tensor ``[C, 1, …]`` with one for each output channel (the first axis of a weight).
        low: smallest integer.
        high: largest integer.
    """

    scale: float | Tensor
    low: int
    high: int

    @staticmethod
    def symmetric(scale: float | Tensor, bits: int) -> Grid:
        """Make a grid of ``bits`` signed bits without their lowest number, so that it holds ``−w`` for every ``w``."""
        return Grid(scale, -largest(bits), largest(bits))

    def to_integers(self, values: Tensor) -> Tensor:
        """Round ``values / scale``, halves to even, and limit it to ``low … high``.

        Returns:
            whole numbers in the dtype of ``values``, or in float32 for floats of 16 bits, which could not hold them.
        """
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        return (values / self._like(values)).round_().clamp_(self.low, self.high)

    def to_real(self, integers: Tensor) -> Tensor:
        """Return ``scale · q``."""
        return integers * self._like(integers)

    def _like(self, values: Tensor) -> float | Tensor:
        return self.scale.to(values) if isinstance(self.scale, Tensor) else self.scale


class Rounded(Function):
    """``s · q`` of :meth:`Grid.to_integers`, halves to even; its backward pass is the identity.

    Under an LFP rule a sum of messages times inputs arrives here, which needs no derivative of the rounding. Under a
    rule of gradients this is the straight-through estimator (Bengio et al. 2013).
    """

    of_parameters = True

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Grid) -> Tensor:
        scale = grid.scale
        out = torch.div(values, scale, out=empty(values.shape, values))
        return out.round_().clamp_(grid.low, grid.high).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Represented(Function):
    """Identity on the values of a grid, except for 0, which becomes ``s / 4``.

    0 stands for all of ``(−s/2, s/2)``, where the mean magnitude is ``s / 4``. A step of LFP is ``|w|`` times a sum,
    so a weight of exactly 0 would stay 0.
    """

    of_parameters = True

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Grid) -> Tensor:
        return torch.where(values == 0, grid.scale / 4, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


@torch.no_grad()
def round_by_chance(values: Tensor, grid: Grid, random: torch.Generator) -> Tensor:
    """Round to the grid at random, so that the mean is ``values``: ``s ⌊values / s + u⌋``, ``u`` uniform in [0, 1).

    The result is limited to the range of the grid (Gupta et al. 2015, arXiv:1502.02551, section 4). A value on the
    grid stays.

    Args:
        values: tensor of any shape.
        grid: grid to round to.
        random: a CPU generator, so that all devices draw the same numbers.

    Returns:
        Values of the grid, of the shape of ``values``.
    """
    nearest = (values / grid.scale).round_()
    drawn = torch.rand(values.shape, generator=random, dtype=values.dtype).to(values.device)
    below = (values / grid.scale).add_(drawn).floor_()
    on_grid = nearest * grid.scale == values
    return torch.where(on_grid, nearest, below).clamp_(grid.low, grid.high).mul_(grid.scale)
