"""Spiking networks of the paper (A.6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from spikelfp import nn
from spikelfp.models.base import Bias, Pool, Readout, check_shape, check_sizes, last_layer, pooling, spatial
from spikelfp.registry import checked_keywords


@checked_keywords(nn.LIF)
def lif_mlp(sizes: Sequence[int], *, bias: bool = True, readout: str | None = None, **neuron: Any) -> nn.Sequential:
    """Dense layers, each followed by LIF neurons: ``Linear, LIF, Linear, LIF, …`` (A.6.4).

    Takes ``[T, B, sizes[0]]``, or images ``[T, B, C, H, W]`` of as many pixels.

    Args:
        sizes: neurons from input to output, such as ``[784, 1000, 10]``.
        bias: of the dense layers.
        readout: the last layer: ``lif`` (``None``), neurons that fire, or ``li``, leaky integrators, whose membranes
            are real values.
        neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer.
    """
    check_sizes(sizes)
    layers: list[nn.Layer] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias), nn.LIF(**neuron)]
    return nn.Sequential(*layers[:-1], last_layer(readout, neuron))


@checked_keywords(nn.LIF)
def lif_lenet(
    shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    pool: Pool = "max",
    bias: Bias = True,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    """Spiking LeNet (A.6.4): twice 5×5 convolution (12 and 64 channels), 2×2 pooling, LIF; dense 1024 LIF; dense LIF.

    Takes ``[T, B, *shape]``.

    Args:
        shape: ``(channels, height, width)`` of the images, at least 16×16.
        classes: number of outputs.
        pool: ``max`` as in the paper, or ``avg``, which every simulator can run.
        bias: of layers with weights.
        readout: the last layer, as in :func:`lif_mlp`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer.
    """
    channels, height, width = check_shape(shape)
    features = 64 * spatial(height, "lif-lenet") * spatial(width, "lif-lenet")
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5, bias=bias),
        pooling(pool),
        nn.LIF(**neuron),
        nn.Conv2d(12, 64, 5, bias=bias),
        pooling(pool),
        nn.LIF(**neuron),
        nn.Flatten(),
        nn.Linear(features, 1024, bias),
        nn.LIF(**neuron),
        nn.Linear(1024, classes, bias),
        last_layer(readout, neuron),
    )
