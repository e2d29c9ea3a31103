"""Preparation of a network for quantisation: BatchNorm and scales folded into weights, trained integers taken over."""

from __future__ import annotations

import copy
import math
from typing import Any, TypeGuard

import torch
from torch import Tensor

from hw_export.layers import leaves
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.fold import fold_into
from spikelfp.nn import graph
from spikelfp.quantized import Grid


@torch.no_grad()
def fold_scales(net: torch.nn.Sequential) -> torch.nn.Sequential:
    """Fold each ``Scale`` between a layer of weights and neurons into the weights::

        s (W x + b) + c = (s W) x + (s b + c)

    This is computed in float64 and rounded to the dtype of the weights at the end; ``Dropout`` may lie between. A
    ``Scale`` stays where it is if it differs within a channel of a convolution, stands elsewhere, or follows weights
    that were trained quantised.

    Args:
        net: a chain of layers.

    Returns:
        A copy with such scales folded.
    """
    twin = copy.deepcopy(net)
    kept: list[tuple[str, torch.nn.Module]] = []
    layers = leaves(twin)
    for place, (name, layer) in enumerate(layers):
        ahead = next((own for _, own in layers[place + 1 :] if not isinstance(own, (nn.Dropout, nn.Flatten))), None)
        target = next((own for _, own in reversed(kept) if not isinstance(own, (nn.Dropout, torch.nn.Identity))), None)
        neurons = ahead is not None and graph.is_neuron(ahead)
        foldable = type(layer) is nn.Scale and neurons and isinstance(target, (nn.Linear, nn.Conv2d))
        if not foldable or not _fold_scale(layer, target):
            kept.append((name, layer))
            continue
        path, _, own = name.rpartition(".")
        delattr(twin.get_submodule(path), own)
    return twin


def _fold_scale(layer: Any, target: Any) -> bool:
    """Fold a ``Scale`` into the weights before it; return whether that was possible."""
    gain, shift = (_by_channel(values, target) for values in (layer.scale, layer.shift))
    if gain is None or shift is None or target.grid is not None:
        return False
    fold_into(target, gain, shift)
    return True


def _by_channel(values: Tensor, target: nn.Linear | nn.Conv2d) -> Tensor | None:
    """Reduce constants to one for each output of ``target``, float64; ``None`` where they differ within one."""
    channels = target.weight.shape[0]
    if not values.dim():
        return values.double().expand(channels)
    if values.dim() != target.weight.dim() - 1 and isinstance(target, nn.Conv2d):
        return None
    if len(values) != channels or (isinstance(target, nn.Linear) and values.dim() != 1):
        return None
    rows = values.double().reshape(channels, -1)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def trained_grid(name: str, layer: nn.Linear | nn.Conv2d, bits: int | None) -> Grid | None:
    """Find the grid that ``layer`` was trained on, ``None`` for a layer that was trained in floats.

    Args:
        name: of the layer, for errors.
        layer: of weights.
        bits: that were asked for; ``None`` for those of training.

    Raises:
        UserError: where ``bits`` differ from those of training, or are ``None`` for a layer trained in floats.
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
    """Count the signed bits of the integers of a grid with a symmetric range."""
    return grid.high.bit_length() + 1


def bias_shift(layer: nn.Linear | nn.Conv2d, factor: int) -> tuple[int, bool]:
    """Find how much finer than the weights the sums must be to hold the biases that ``layer`` was trained with.

    Args:
        layer: of weights.
        factor: how many steps of the sums a step of a weight times one of its input is, without the shift.

    Returns:
        The shift ``e``, for a step of the sums of ``2^−e / factor`` steps of a weight, and whether the biases are then
        exact; otherwise they are rounded about as finely as in training.
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
    """Whether ``net`` has layers of weights, and all of them were trained with quantised weights."""
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return bool(layers) and all(map(_on_grid, layers))


@torch.no_grad()
def snap(net: torch.nn.Module) -> None:
    """Replace the float weights and biases of every quantised layer by the real values that it computes with.

    This is done in place. Outputs stay the same, and so do the integers when the network is moved to another precision.
    A layer of 16-bit floats, which could not hold these values, becomes one of float32.
    """
    for layer in net.modules():
        if _on_grid(layer):
            if layer.weight.dtype in (torch.float16, torch.bfloat16):
                layer.float()
            for values, grid in ((layer.weight, layer.grid), (layer.bias, layer.bias_grid)):
                if values is not None and grid is not None:
                    values.copy_(grid.to_real(grid.to_integers(values)))


def as_floats(net: torch.nn.Module) -> None:
    """Make all layers of ``net`` whose weights were replaced (:func:`snap`) compute in floats, in place."""
    for layer in net.modules():
        if _on_grid(layer):
            take_off_grid(layer)


def take_off_grid(layer: nn.Linear | nn.Conv2d) -> None:
    """Make ``layer`` compute with its weights as they are."""
    layer.quantization, layer.bias_on_grid = None, False
    del layer.weight_scale


def _on_grid(layer: torch.nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.grid is not None
