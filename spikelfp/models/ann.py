"""Networks of the same shapes as :mod:`spikelfp.models.lif`, with activations without memory and linear outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from spikelfp import nn
from spikelfp.models.activations import Activation, maker
from spikelfp.models.base import Noise, Pool, check_shape, check_sizes, noisy, pooling, spatial
from spikelfp.registry import checked_keywords


@checked_keywords()
def mlp(sizes: Sequence[int], *, activation: Activation = "relu", noise: Noise = 0.0) -> nn.Sequential:
    """Dense layers with an activation between them. Takes ``[T, B, sizes[0]]`` or images of as many pixels.

    activation: a name or a function (:mod:`spikelfp.models.activations`). noise: standard deviation of the
    :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.
    """
    check_sizes(sizes)
    phi, layers = maker(activation), list[nn.Layer]()
    for inputs, outputs in pairwise(sizes):
        layers += [*noisy(nn.Linear(inputs, outputs), noise), phi()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


@checked_keywords()
def lenet(
    shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    pool: Pool = "max",
    activation: Activation = "relu",
    noise: Noise = 0.0,
) -> nn.Sequential:
    """The LeNet of :func:`spikelfp.models.lif_lenet` with an activation for LIF. Takes ``[T, B, *shape]``.

    activation, noise: as in :func:`mlp`.
    """
    channels, height, width = check_shape(shape)
    features = 64 * spatial(height, "lenet") * spatial(width, "lenet")
    phi = maker(activation)
    return nn.Sequential(
        *noisy(nn.Conv2d(channels, 12, 5), noise),
        pooling(pool),
        phi(),
        *noisy(nn.Conv2d(12, 64, 5), noise),
        pooling(pool),
        phi(),
        nn.Flatten(),
        *noisy(nn.Linear(features, 1024), noise),
        phi(),
        *noisy(nn.Linear(1024, classes), noise),
    )
