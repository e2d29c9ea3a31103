"""Parts the models share."""

from __future__ import annotations

from typing import Any, TypeVar

import torch

from spikelfp import nn
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
