"""Spiking convolutional networks in the manner of VGG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikelfp import nn
from spikelfp.models.base import Pool, Readout, Width, check_image, check_width, he, last_layer, pooling
from spikelfp.models.vgg import VGG_LIKE
from spikelfp.registry import checked_keywords


@checked_keywords(nn.LIF)
def lif_vgg_like(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    pool: Pool = "max",
    width: Width = 32,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    """The convolutions and dense layers of :func:`spikelfp.models.vgg_like` with LIF neurons.

    ``Conv2d, LIF`` six times, 2×2 pooling in front of every second LIF; then ``Linear, LIF`` three times. No
    dropout and no BatchNorm: hidden weights start as in He et al. 2015, which keeps every layer firing. (Digits
    of 16×16, width 8, 8 steps, 4 epochs, held-out accuracy at learning rates 5e-3 and 1e-2: 0.70 and 0.77; with
    BatchNorm in front of every hidden LIF 0.16 and 0.29 with its statistics constant, 0.75 at 5e-3 with
    messages passing through them; one seed.)

    Takes ``[T, B, *shape]``.

    Args:
        shape: ``(channels, height, width)`` of the images, sides of at least 8.
        classes: number of outputs.
        pool: ``max`` or ``avg``.
        width: channels of the first convolution; the other layers grow and shrink with it.
        readout: the last layer, as in :func:`spikelfp.models.lif_mlp`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer.
    """
    channels, height, side = check_image(shape, 8, "lif-vgg-like")
    check_width(width)
    layers: list[nn.Layer] = []
    for first, second in VGG_LIKE:
        layers += [he(nn.Conv2d(channels, first * width, 3, padding=1)), nn.LIF(**neuron)]
        layers += [he(nn.Conv2d(first * width, second * width, 3, padding=1)), pooling(pool), nn.LIF(**neuron)]
        channels = second * width
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        he(nn.Linear(channels * (height // 8) * (side // 8), 32 * width)),
        nn.LIF(**neuron),
        he(nn.Linear(32 * width, 16 * width)),
        nn.LIF(**neuron),
        nn.Linear(16 * width, classes),
        last_layer(readout, neuron),
    )
