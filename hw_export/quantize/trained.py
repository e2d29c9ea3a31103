"""Networks that were trained with quantised weights: the integers they computed with."""

from __future__ import annotations

import math
from typing import TypeGuard

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.quantized import Grid


def trained_grid(name: str, layer: nn.Linear | nn.Conv2d, bits: int | None) -> Grid | None:
    """The grid that ``layer`` was trained on, ``None`` for one that was trained in floats.

    Raises :class:`~spikelfp.errors.UserError` where ``bits`` are others than those it was trained with.
    """
    if layer.grid is None:
        if bits is None:
            raise UserError(
                f"layer {name!r} was trained in floats, unlike other layers: say with how many bits to quantise it"
            )
        return None
    own = bits_of(layer.grid)
    if bits is not None and bits != own:
        raise UserError(
            f"layer {name!r} was trained with weights of {own} bits, so they cannot have {bits}: ask for {own}, or none"
        )
    return layer.grid


def bits_of(grid: Grid) -> int:
    """Signed bits of the integers of a grid with a symmetric range."""
    return grid.high.bit_length() + 1


def bias_shift(layer: nn.Linear | nn.Conv2d, factor: int) -> tuple[int, bool]:
    """``(e, exact)``: sums whose step is ``2^−e / factor`` of one of a weight hold the biases ``layer`` was trained
    with, ``exact`` or rounded about as finely as they were.

    factor: how many steps of the sums a step of a weight times one of its input is, without the shift.
    """
    if layer.bias is None or layer.bias_grid is None:
        return 0, True
    missing = layer.bias_steps // math.gcd(layer.bias_steps, factor)
    if missing & (missing - 1) == 0:
        return missing.bit_length() - 1, True
    return max(0, math.ceil(math.log2(layer.bias_steps / factor))), False


def has_grids(net: torch.nn.Module) -> bool:
    """Whether any layer of ``net`` was trained with quantised weights."""
    return any(_on_grid(layer) for layer in net.modules())


def is_trained(net: torch.nn.Module) -> bool:
    """Whether all layers of weights of ``net`` were, and there are some."""
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return bool(layers) and all(map(_on_grid, layers))


@torch.no_grad()
def snap(net: torch.nn.Module) -> None:
    """Replace, in place, the float masters of every layer by the real weights and biases that it computes with: the
    outputs stay the same, and so do the integers when the network is moved to another precision. A layer of 16-bit
    floats, which could not hold them, becomes one of float32."""
    for layer in net.modules():
        if _on_grid(layer):
            if layer.weight.dtype in (torch.float16, torch.bfloat16):
                layer.float()
            for values, grid in ((layer.weight, layer.grid), (layer.bias, layer.bias_grid)):
                if values is not None and grid is not None:
                    values.copy_(grid.to_real(grid.to_integers(values)))


def as_floats(net: torch.nn.Module) -> None:
    """Make all layers of ``net`` whose masters were replaced (:func:`snap`) compute in floats, in place."""
    for layer in net.modules():
        if _on_grid(layer):
            take_off_grid(layer)


def take_off_grid(layer: nn.Linear | nn.Conv2d) -> None:
    """Make ``layer`` compute with its weights as they are."""
    layer.quantization, layer.bias_on_grid = None, False
    del layer.weight_scale


def _on_grid(layer: torch.nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.grid is not None
