"""Spiking residual networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from spikelfp import nn
from spikelfp.models.base import Width, check_shape, check_width, he
from spikelfp.models.resnet import RESNET18, Stem, is_large, stages
from spikelfp.registry import checked_keywords


@checked_keywords(nn.LIF)
def lif_resnet18(
    shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, stem: Stem = "auto", width: Width = 64, **neuron: Any
) -> nn.Sequential:
    """ResNet-18 of LIF neurons with membrane shortcuts (MS-ResNet, Hu et al. 2021, arXiv:2112.08954).

    A block adds currents, ``I + conv(LIF(conv(LIF(I))))``, with a 1×1 convolution in the shortcut where the shape
    changes: convolutions of a block see spikes, and the trunk from stem to output is linear, so a reward reaches
    every block without passing through neurons. Then ``LIF``, average over space, ``Linear, LIF``. Unlike the
    paper's it has no BatchNorm; convolutions start as in He et al. 2015.

    Measured (digits of 16×16, width 8, 8 steps, 4 epochs, held-out accuracy at learning rates 2e-3 and 5e-3, one
    seed): 0.85 and 0.90; with BatchNorm, its statistics constant, 0.39 and 0.78 (0.78 at 5e-3 with messages passing
    through them); adding spikes instead of currents (SEW, Fang et al. 2021), without BatchNorm, 0.69 and 0.80.

    shape, stem, width: as in :func:`spikelfp.models.resnet18`. neuron: arguments of :class:`spikelfp.nn.LIF`, the
    same for every layer. Takes ``[T, B, *shape]``.
    """
    channels, height, side = check_shape(shape)
    check_width(width)

    def block(inputs: int, outputs: int, stride: int) -> nn.Layer:
        inner = nn.Sequential(
            nn.LIF(**neuron),
            he(nn.Conv2d(inputs, outputs, 3, stride, 1)),
            nn.LIF(**neuron),
            he(nn.Conv2d(outputs, outputs, 3, 1, 1)),
        )
        same = inputs == outputs and stride == 1
        return nn.Sum(inner, nn.Identity() if same else he(nn.Conv2d(inputs, outputs, 1, stride)))

    layers = OrderedDict[str, torch.nn.Module]()
    if is_large(stem, height, side):
        layers["conv1"] = he(nn.Conv2d(channels, width, 7, 2, 3))
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    else:
        layers["conv1"] = he(nn.Conv2d(channels, width, 3, 1, 1))
    layers |= stages(block, RESNET18, width)
    layers["lif"] = nn.LIF(**neuron)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(8 * width, classes)
    layers["out"] = nn.LIF(**neuron)
    return nn.Sequential(layers)
