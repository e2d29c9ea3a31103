"""Checks and parts that the models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name

Weighted = TypeVar("Weighted", nn.Conv2d, nn.Linear)


def noisy(layer: nn.Layer, noise: float) -> list[nn.Layer]:
    """``layer`` with :class:`spikelfp.nn.Noise` of that standard deviation in front of it; alone for 0."""
    return [nn.Noise(noise), layer] if noise else [layer]


def last_layer(readout: str | None, neuron: dict[str, Any]) -> nn.Layer:
    """The layer behind the last weights: neurons that fire (``lif``, ``None``), or leaky integrators of the same β
    (``li``), whose membranes are real values.

    Raises:
        UnknownNameError: for another readout.
    """
    if readout is not None:
        check_name("readout", readout, ("lif", "li"))
    if readout != "li":
        return nn.LIF(**neuron)
    return nn.LI(neuron["beta"]) if "beta" in neuron else nn.LI()


def he_convolutions_(net: nn.Sequential) -> nn.Sequential:
    """``net`` with convolution weights drawn from ``N(0, 2 / fan_out)`` (He et al. 2015), as torchvision does.

    Torch's own initialisation lets signals shrink from layer to layer; sixteen layers without BatchNorm do not
    learn from it. Biases keep torch's: one of exactly 0 is never updated by LFP.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def he(layer: Weighted) -> Weighted:
    """``layer`` with weights drawn from ``N(0, 2 / fan_in)`` (He et al. 2015).

    In front of LIF neurons it keeps the currents of each layer near the threshold, so that spikes reach the output of
    a deep network; with torch's own initialisation they die out on the way.
    """
    torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def check_sizes(sizes: Sequence[int]) -> None:
    """At least an input and an output size, all of them above 0."""
    if len(sizes) < 2 or any(size < 1 for size in sizes):
        raise UserError(f"sizes need an input and an output, all at least 1, got {list(sizes)}")


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``(channels, height, width)``."""
    if len(shape) != 3 or any(size < 1 for size in shape):
        raise ShapeError(
            f"an image shape is (channels, height, width), got {tuple(shape)}: networks of dense layers (mlp, lif-mlp, "
            "lif-rnn) take any"
        )
    channels, height, width = shape
    return channels, height, width


def check_image(shape: Sequence[int], least: int, model: str) -> tuple[int, int, int]:
    """``(channels, height, width)`` of an image whose sides are at least ``least`` pixels."""
    channels, height, width = check_shape(shape)
    if min(height, width) < least:
        raise ShapeError(f"{model} needs images of at least {least}×{least}, got {height}×{width}")
    return channels, height, width


def check_width(width: int) -> int:
    """``width``, which is at least 1."""
    if width < 1:
        raise UserError(f"the width of a network must be at least 1, got {width}")
    return width


def spatial(side: int, model: str) -> int:
    """Side of the feature map behind two rounds of 5×5 convolution and 2×2 pooling."""
    left = ((side - 4) // 2 - 4) // 2
    if left < 1:
        raise ShapeError(f"{model} needs images of at least 16×16, got a side of {side}; use an MLP for smaller ones")
    return left


def pooling(kind: str) -> nn.Layer:
    """2×2 pooling, ``max`` or ``avg``."""
    return {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[check_name("pool", kind, ("max", "avg"))](2)
