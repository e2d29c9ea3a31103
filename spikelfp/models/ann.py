"""Dense and convolutional networks with activations without memory and linear outputs, and activations by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.models.base import (
    Hidden,
    Noise,
    Pool,
    check_classes,
    check_shape,
    check_sizes,
    models,
    noisy,
    pooling,
    spatial,
)
from spikelfp.options import option
from spikelfp.registry import Registry, checked_keywords
from spikelfp.terminal import brief

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
    """Find the function that makes a layer of an ``activation``, which says so where it makes none.

    Raises:
        UnknownNameError: for an activation that is not known.
        UserError: for what is neither a name nor a function without arguments.
    """
    if isinstance(activation, str):
        return activations[activation]
    wanted = "an activation is a name, such as 'gelu', or a function without arguments that makes the layer, as nn.GELU"
    takes_none = callable(activation) and not isinstance(activation, torch.nn.Module)
    if takes_none:
        try:
            inspect.signature(activation).bind()
        except TypeError:
            takes_none = False
        except ValueError:  # some functions written in C do not tell
            pass
    if not takes_none:
        raise UserError(f"{wanted}, got {brief(activation)}")

    def made() -> nn.Layer:
        layer = activation()
        if not isinstance(layer, torch.nn.Module):
            raise UserError(f"{wanted}, got {brief(activation)}, which makes {brief(layer)}")
        return layer

    return made


@checked_keywords()
def mlp(sizes: Sequence[int], *, activation: Activation = "relu", noise: Noise = 0.0) -> nn.Sequential:
    """Make dense layers with an activation between them, for ``[T, B, sizes[0]]`` or images of as many pixels.

    Args:
        sizes: neurons from input to output, such as ``[784, 1000, 10]``.
        activation: name of :data:`activations`, or a function without arguments that makes the layer.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.

    Raises:
        UserError: for fewer than two sizes, or one below 1.
        UnknownNameError: for an activation that is not known.
    """
    sizes = check_sizes(sizes)
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
    """Make the LeNet of :func:`spikelfp.models.lif_lenet` with activations in place of neurons, for ``[T, B, *shape]``.

    Args:
        shape: ``(channels, height, width)`` of the images, at least 16×16.
        classes: number of outputs.
        pool: ``max`` or ``avg``.
        activation: name of :data:`activations`, or a function without arguments that makes the layer.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UnknownNameError: for a pooling or an activation that is not known.
    """
    channels, height, width = check_shape(shape)
    check_classes(classes)
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
