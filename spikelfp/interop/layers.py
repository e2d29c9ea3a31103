"""Layers without memory: torch's own and those of this package, which are twins of the same name.

A twin has the same arguments, and the same ``Parameter`` objects unless copies are asked for, so that an
optimiser that changes one changes the other.
"""

from __future__ import annotations

from typing import Any

import torch

from spikelfp import nn
from spikelfp.interop.refusal import check_no_hooks, refusal
from spikelfp.quantized.layer import Quantizable

_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    "Conv2d": (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
    ),
    "BatchNorm1d": _NORM,
    "BatchNorm2d": _NORM,
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine", "bias"),
    "MaxPool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "AdaptiveAvgPool2d": ("output_size",),
    "AvgPool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "Flatten": (),
    "Dropout": ("p",),
    "Identity": (),
    "ReLU": (),
    "LeakyReLU": ("negative_slope",),
    "ELU": ("alpha",),
    "SiLU": (),
    "GELU": (),
    "Tanh": (),
    "Sigmoid": (),
}  # fmt: skip
"""Layers that exist on both sides, and the attributes they are built from."""


class Tensors:
    """Parameters and buffers on their way from a layer to its twin: shared, or cloned once each with ``copy``."""

    def __init__(self, copy: bool) -> None:
        self.copy = copy
        self._clones: dict[int, Any] = {}
        self._kept: list[Any] = []  # ids stay unique while their tensors live

    def hand_over(self, source: torch.nn.Module, target: torch.nn.Module) -> None:
        """Give ``target`` the parameters and buffers of ``source``."""
        for name, parameter in source._parameters.items():
            target._parameters[name] = self.own(parameter)
        for name, buffer in source._buffers.items():
            target._buffers[name] = self.own(buffer)

    def own(self, tensor: Any) -> Any:
        """The tensor itself, or its one clone."""
        if not self.copy or tensor is None:
            return tensor
        if id(tensor) not in self._clones:
            clone = tensor.detach().clone()
            if isinstance(tensor, torch.nn.Parameter):
                clone = torch.nn.Parameter(clone, tensor.requires_grad)
            self._clones[id(tensor)] = clone
            self._kept.append(tensor)
        return self._clones[id(tensor)]


def from_torch(name: str, layer: torch.nn.Module, tensors: Tensors, batch_axis: int = 0) -> nn.Layer:
    """The twin here of a layer of torch's; ``batch_axis``: where its input has the batch (1 behind time)."""
    kind = type(layer).__name__
    if type(layer) is not getattr(torch.nn, kind, None) or kind not in ARGUMENTS:
        raise refusal(
            name, layer, "there is no such layer in spikelfp",
            f"layers that convert: neurons, {', '.join(ARGUMENTS)}",
        )  # fmt: skip
    check_no_hooks(name, layer)
    _check_flatten(name, layer, batch_axis)
    if getattr(layer, "return_indices", False):
        raise refusal(name, layer, "it returns indices besides its output", "use return_indices=False")
    if getattr(layer, "approximate", "none") != "none":
        raise refusal(name, layer, "spikelfp has the exact GELU only", 'use approximate="none"')
    return _twin(layer, getattr(nn, kind), tensors)


def to_torch(name: str, layer: torch.nn.Module, tensors: Tensors, package: str) -> torch.nn.Module:
    """torch's twin of a layer of ours, for a model of ``package``."""
    kind = type(layer).__name__
    if kind not in ARGUMENTS or type(layer) not in (getattr(nn, kind, None), getattr(torch.nn, kind)):
        raise refusal(
            name, layer, f"{package} and torch have no layer that does the same",
            f"layers that convert: neurons, {', '.join(ARGUMENTS)}",
        )  # fmt: skip
    if isinstance(layer, Quantizable) and layer.grid is not None:
        raise refusal(
            name, layer, "it computes with quantised weights, its parameters are those they are rounded from",
            "convert hw_export.quantize(net, 32), a copy that has the quantised weights for parameters",
        )  # fmt: skip
    return _twin(layer, getattr(torch.nn, kind), tensors)


def _twin(layer: torch.nn.Module, kind: type[torch.nn.Module], tensors: Tensors) -> Any:
    options: dict[str, Any] = {name: getattr(layer, name) for name in ARGUMENTS[type(layer).__name__]}
    if "bias" in options:
        options["bias"] = layer.bias is not None
    if layer._parameters or layer._buffers:
        options["device"] = "meta"  # its own tensors are replaced: none are made, no random numbers drawn
    twin = kind(**options)
    tensors.hand_over(layer, twin)
    return twin


def _check_flatten(name: str, layer: torch.nn.Module, batch_axis: int) -> None:
    if isinstance(layer, torch.nn.Flatten) and (layer.start_dim, layer.end_dim) != (batch_axis + 1, -1):
        raise refusal(
            name, layer, f"it flattens axes {layer.start_dim} to {layer.end_dim}",
            f"flatten all axes behind the batch, torch.nn.Flatten({batch_axis + 1})",
        )  # fmt: skip
