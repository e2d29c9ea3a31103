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
from spikelfp.nn import graph
from spikelfp.quantized import Grid

_BatchNorm = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d


@torch.no_grad()
def fold_batchnorm(net: torch.nn.Sequential) -> torch.nn.Sequential:
    """Fold each BatchNorm into the weights in front of it, with the running mean ``μ`` and variance ``v``::

        γ (W x + b − μ) / √(v + ε) + β = (g W) x + g (b − μ) + β          g = γ / √(v + ε), one a channel

    This is computed in float64 and rounded to the dtype of the weights at the end. ``BatchNorm1d`` follows ``Linear``
    and ``BatchNorm2d`` follows ``Conv2d``, of :mod:`spikelfp.nn` or torch; ``Dropout``, and average pooling that leaves
    out the border, may lie between. Other layers keep their names.

    Args:
        net: a chain of layers.

    Returns:
        A copy in evaluation mode without BatchNorm.

    Raises:
        UserError: naming a BatchNorm with no such layer in front, with no running statistics, or after a layer that was
            trained with quantised weights, whose integers would change.
    """
    twin = copy.deepcopy(net).eval()
    kept: list[tuple[str, torch.nn.Module]] = []
    for name, layer in leaves(twin):
        if isinstance(layer, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            _fold(name, layer, _in_front(name, layer, kept))
            path, _, own = name.rpartition(".")
            delattr(twin.get_submodule(path), own)
        else:
            kept.append((name, layer))
    return twin


def _in_front(
    name: str, norm: _BatchNorm, before: list[tuple[str, torch.nn.Module]]
) -> torch.nn.Linear | torch.nn.Conv2d:
    """Find the layer whose outputs ``norm`` scales."""
    wanted = torch.nn.Linear if isinstance(norm, torch.nn.BatchNorm1d) else torch.nn.Conv2d
    for own, layer in reversed(before):
        if isinstance(layer, wanted):
            if getattr(layer, "grid", None) is not None:
                raise UserError(
                    f"layer {own!r} was trained with quantised weights, and {name!r} after it would scale them off "
                    "their grid: train without the BatchNorm, or export floats (bits=32)"
                )
            return layer
        if not _commutes(layer):
            raise UserError(
                f"the {type(norm).__name__} {name!r} stands after {own!r}, a {type(layer).__name__}, and cannot be "
                f"folded: put it right after a {wanted.__name__}"
            )
    raise UserError(
        f"the {type(norm).__name__} {name!r} has no layer of weights in front of it to be folded into: put it right "
        f"after a {wanted.__name__}"
    )


def _commutes(layer: torch.nn.Module) -> bool:
    """Whether scaling each channel after ``layer`` is the same as before it."""
    if isinstance(layer, torch.nn.AvgPool2d):
        return layer.padding in (0, (0, 0)) and not layer.ceil_mode and layer.divisor_override is None
    return isinstance(layer, (nn.Dropout, torch.nn.Dropout, torch.nn.Identity))


def _fold(name: str, norm: _BatchNorm, target: torch.nn.Linear | torch.nn.Conv2d) -> None:
    mean, var = norm.running_mean, norm.running_var
    channels = target.weight.shape[0]
    if mean is None or var is None:
        raise UserError(
            f"the {type(norm).__name__} {name!r} has no running statistics: what it does depends on the batch"
        )
    if len(mean) != channels:
        raise UserError(
            f"the {type(norm).__name__} {name!r} takes {len(mean)} channels, the layer in front has {channels}"
        )
    gain = (var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(gain)
    if norm.weight is not None:
        gain, shift = gain * norm.weight.double(), norm.bias.double()
    _fold_into(target, gain, shift - gain * mean.double())


def _fold_into(target: torch.nn.Linear | torch.nn.Conv2d, gain: Tensor, shift: Tensor) -> None:
    """Changes ``target`` so that it gives ``gain y + shift`` in place of ``y``; both are float64 ``[channels]``."""
    target.weight.copy_(target.weight.double() * gain.reshape(-1, *[1] * (target.weight.dim() - 1)))
    bias = torch.zeros_like(gain) if target.bias is None else target.bias.double()
    folded = (gain * bias + shift).to(target.weight.dtype)
    if target.bias is None and not shift.any():
        return
    if target.bias is None:
        target.bias = torch.nn.Parameter(folded, requires_grad=target.weight.requires_grad)
    else:
        target.bias.copy_(folded)


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
    _fold_into(target, gain, shift)
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
