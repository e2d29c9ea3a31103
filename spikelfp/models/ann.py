"""Dense and convolutional networks without spikes, and activation functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

from spikelfp import nn
from spikelfp.models.base import (
    Hidden,
    Noise,
    Pool,
    check_shape,
    check_sizes,
    models,
    noisy,
    pooling,
    spatial,
)
from spikelfp.options import option
from spikelfp.registry import Registry, checked_keywords

activations: Registry[Callable[[], nn.Layer]] = Registry("activation")
activations.register("relu")(nn.ReLU)
activations.register("leaky-relu")(nn.LeakyReLU)
activations.register("silu")(nn.SiLU)
activations.register("gelu")(nn.GELU)
activations.register("elu")(nn.ELU)
activations.register("tanh")(nn.Tanh)
activations.register("sigmoid")(nn.Sigmoid)
activations.register("sigmoid-opposite")(lambda: nn.Sigmoid(opposite_sign=True))
activations.register("heaviside")(nn.Heaviside)

Activation = Annotated[
    str | Callable[[], nn.Layer],
    option("activation function of networks without spikes", names=activations, kind="str"),
]
"""A name of :data:`activations`, or a function without arguments that makes the layer."""


def maker(activation: Activation) -> Callable[[], nn.Layer]:
    """The function that makes a layer of that ``activation``."""
    return activations[activation] if isinstance(activation, str) else activation


@checked_keywords()
def mlp(sizes: Sequence[int], *, activation: Activation = "relu", noise: Noise = 0.0) -> nn.Sequential:
    """Dense layers with an activation between them. Takes ``[T, B, sizes[0]]`` or images of as many pixels.

    activation: a name or a function (:mod:`spikelfp.models.ann`). noise: standard deviation of the
    :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.
    """
    check_sizes(sizes)
    phi, layers = maker(activation), list[nn.Layer]()
    for inputs, outputs in pairwise(sizes):
        layers += [*noisy(nn.Linear(inputs, outputs), noise), phi()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


@models.register("mlp", spiking=False, normalizes=False)
def _mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Hidden = (1000,),
    activation: Activation = "relu",
    noise: Noise = 0.0,
) -> nn.Sequential:
    return mlp([math.prod(shape), *hidden, classes], activation=activation, noise=noise)


@models.register("lenet", spiking=False, normalizes=False)
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
