"""Activation functions by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from spikelfp import nn
from spikelfp.options import option
from spikelfp.registry import Registry

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
