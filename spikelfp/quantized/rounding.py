"""Rounding onto a grid: to the nearest integer in a forward pass, and by chance in an update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.memory import empty
from spikelfp.quantized.grid import Grid


class Rounded(Function):
    """``s · q`` of :meth:`Grid.to_integers <spikelfp.quantized.Grid.to_integers>`, halves to even; its backward pass
    hands on what arrives.

    Under an LFP rule what arrives is a sum of messages times inputs, and no derivative of the rounding is missing from
    it. Under a gradient this same operation *is* the straight-through estimator (Bengio et al. 2013).
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
    """Identity on values of a grid, but for 0, which stands for all of ``(−s/2, s/2)`` and gets its mean magnitude.

    A step of LFP is ``|w|`` times a sum, so that a weight of 0 would stay 0 for ever; at ``s / 4`` it can leave.
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
    """``s ⌊values / s + u⌋`` with ``u`` uniform in [0, 1), limited to the range of ``grid``: values of the grid whose
    mean, within the range, is ``values`` (Gupta et al. 2015, arXiv:1502.02551, section 4).

    A value that lies on the grid stays as it is. random: a CPU generator, so that all devices draw the same.
    """
    nearest = (values / grid.scale).round_()
    drawn = torch.rand(values.shape, generator=random, dtype=values.dtype).to(values.device)
    below = (values / grid.scale).add_(drawn).floor_()
    on_grid = nearest * grid.scale == values
    return torch.where(on_grid, nearest, below).clamp_(grid.low, grid.high).mul_(grid.scale)
