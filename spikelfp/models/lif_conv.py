"""A small spiking convolutional network for event cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikelfp import nn
from spikelfp.models.base import Bias, Pool, Readout, Width, check_shape, check_width, he, last_layer, pooling, spatial
from spikelfp.registry import checked_keywords


@checked_keywords(nn.LIF)
def lif_conv(
    shape: Sequence[int] = (2, 34, 34),
    classes: int = 10,
    *,
    width: Width = 12,
    pool: Pool = "max",
    bias: Bias = True,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    """Twice ``Conv2d 5×5, 2×2 pooling, LIF``, with ``width`` and ``⌈8/3 width⌉`` channels; then ``Linear, LIF``.

    The convolutions of :func:`spikelfp.models.lif_lenet` at half its second width and without its large dense layer,
    which a thousand recordings do not fill. Weights of the convolutions start as in He et al. 2015, so that layers fire
    although most pixels of a step are 0.

    Takes ``[T, B, *shape]``, returns spikes ``[T, B, classes]``.

    Args:
        shape: ``(polarities, height, width)`` of the camera, sides of at least 16.
        classes: number of outputs.
        width: channels of the first convolution.
        pool: ``max``, or ``avg``, which every simulator can run.
        bias: of layers with weights.
        readout: the last layer, as in :func:`spikelfp.models.lif_mlp`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, the same for every layer.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UserError: for a width below 1.
    """
    channels, height, side = check_shape(shape)
    first, second = check_width(width), -(-8 * width // 3)
    features = second * spatial(height, "lif-conv") * spatial(side, "lif-conv")
    return nn.Sequential(
        he(nn.Conv2d(channels, first, 5, bias=bias)),
        pooling(pool),
        nn.LIF(**neuron),
        he(nn.Conv2d(first, second, 5, bias=bias)),
        pooling(pool),
        nn.LIF(**neuron),
        nn.Flatten(),
        nn.Linear(features, classes, bias),
        last_layer(readout, neuron),
    )
