"""Nodes of weights and of shape as layers."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch

from hw_export.nir.shapes import flattened_axes, pair
from spikelfp import nn
from spikelfp.errors import DataError

SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

Weights = nn.Linear | nn.Conv2d


def weights(name: str, node: nir.NIRNode, gain: int = 1, matrix_gain: int = 1) -> Weights:
    """A dense layer or convolution with the weights of an Affine, Linear or Conv2d node, float32.

    gain, matrix_gain: the bias and the weights are divided by them.
    """
    weight = np.asarray(node.weight, np.float64) / matrix_gain
    bias = None if isinstance(node, nir.Linear) else np.asarray(node.bias, np.float64) / gain
    layer: Weights
    if isinstance(node, nir.Conv2d):
        outputs, inputs, *kernel = weight.shape
        groups = int(node.groups)
        padding = node.padding if isinstance(node.padding, str) else pair(node.padding)
        try:
            layer = nn.Conv2d(
                inputs * groups, outputs, tuple(kernel), pair(node.stride), padding, pair(node.dilation), groups
            )
        except (ValueError, RuntimeError) as error:
            raise DataError(f"the convolution {name!r} cannot be built: {str(error).splitlines()[0]}") from None
    else:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    if bias is not None and bias.shape != (weight.shape[0],):
        raise DataError(f"the bias of {name!r} has shape {list(bias.shape)}, expected [{weight.shape[0]}]")
    layer.weight.data = float32(name, "weight", weight)
    if bias is not None:
        assert layer.bias is not None
        layer.bias.data = float32(name, "bias", bias)
    return layer


def pooling(node: nir.SumPool2d | nir.AvgPool2d, average: bool) -> nn.AvgPool2d:
    """Average pooling, or with the divisor 1 a sum over each window."""
    sizes = (pair(node.kernel_size), pair(node.stride), pair(node.padding))
    return nn.AvgPool2d(*sizes, divisor_override=None if average else 1)


def flatten(name: str, node: nir.Flatten, shape: tuple[int, ...]) -> torch.nn.Module | None:
    """The layer of a Flatten of ``shape``; ``None`` where it changes nothing."""
    try:
        start, end = flattened_axes({"start_dim": node.start_dim, "end_dim": node.end_dim}, shape)
    except ValueError:
        raise DataError(
            f"the Flatten {name!r} joins axes {int(node.start_dim)} to {int(node.end_dim)} of an input of "
            f"{list(shape)} (time and batch are not counted)"
        ) from None
    if start == end:
        return None
    return nn.Flatten() if end - start + 1 == len(shape) else nn.FlattenAxes(start, end)


def elementwise(name: str, scale: Any, shift: Any, like: tuple[int, ...]) -> nn.Scale | None:
    """``scale ⊙ x + shift`` in front of the neurons ``name`` as a layer; ``None`` where it changes nothing (but for
    rounding of a ``scale`` of 1)."""
    scale, shift = (_one_if_uniform(value, like) for value in (scale, shift))
    if np.allclose(scale, 1.0, rtol=1e-12, atol=0) and not np.any(shift):
        return None
    return nn.Scale(float32(name, "current", scale), float32(name, "current", shift))


def folded(name: str, layer: torch.nn.Module, scale: Any, shift: Any, shape: tuple[int, ...]) -> bool:
    """Let ``layer``, whose output has ``shape``, give ``scale ⊙ y + shift`` for ``y`` by its weights and bias; whether
    it can: only a layer of weights, and a convolution only if both are the same all over a channel.
    """
    if not isinstance(layer, (nn.Linear, nn.Conv2d)) or (isinstance(layer, nn.Linear) and len(shape) != 1):
        return False
    outputs = layer.weight.shape[0]
    rows = []
    for value in (scale, shift):
        row = np.broadcast_to(np.asarray(value, np.float64), shape).reshape(outputs, -1)
        if np.any(row != row[:, :1]):
            return False
        rows.append(row[:, 0])
    factors, offsets = rows
    weight, bias = layer.weight.detach().double().numpy(), layer.bias
    offsets = offsets + (0.0 if bias is None else bias.detach().double().numpy() * factors)
    layer.weight.data = float32(name, "current", weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))
    if bias is not None or offsets.any():
        layer.bias = torch.nn.Parameter(float32(name, "current", offsets))
    return True


def _one_if_uniform(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value, np.float64)
    return array.flat[0].reshape(()) if np.ptp(array) == 0 else np.array(np.broadcast_to(array, shape))


def float32(name: str, what: str, array: Any) -> torch.Tensor:
    """Round ``array`` to float32.

    Raises:
        DataError: where values become infinite, or all that are not 0 become 0: the network would be another.
    """
    values = np.array(array, np.float64)
    if np.abs(values).max(initial=0.0) > LARGEST:
        raise DataError(f"{what} of {name!r} reaches {np.abs(values).max():g}, which float32 does not hold")
    if values.any() and np.abs(values).max() < SMALLEST:
        raise DataError(
            f"{what} of {name!r} is at most {np.abs(values).max():g}, which float32 does not hold: choose other units"
        )
    return torch.from_numpy(values.astype(np.float32))
