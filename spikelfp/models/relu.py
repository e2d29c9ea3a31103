"""ReLU networks of the same shapes, with linear outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from spikelfp import nn
from spikelfp.models.checks import check_shape, check_sizes, pooling, spatial


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Dense layers with ReLU between them. Takes ``[T, B, sizes[0]]`` or images of as many pixels."""
    check_sizes(sizes)
    layers: list[nn.Layer] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet(shape: Sequence[int] = (1, 28, 28), classes: int = 10, *, pool: str = "max") -> nn.Sequential:
    """The LeNet of :func:`spikelfp.models.lif_lenet` with ReLU for LIF. Takes ``[T, B, *shape]``."""
    channels, height, width = check_shape(shape)
    features = 64 * spatial(height, "lenet") * spatial(width, "lenet")
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5),
        pooling(pool),
        nn.ReLU(),
        nn.Conv2d(12, 64, 5),
        pooling(pool),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, 1024),
        nn.ReLU(),
        nn.Linear(1024, classes),
    )
