"""What a network is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """All that :func:`build` needs to make a network again: plain data, as a run's ``config.yaml`` holds it.

    A model uses the fields that it was registered with (:func:`spikelfp.models.uses`), and ignores the others.

    Attributes:
        name: of the network, in :data:`spikelfp.models.models`.
        shape: of one input, without batch.
        classes: number of outputs.
        hidden: neurons of the hidden layers.
        pool: ``max`` or ``avg``.
        neuron: arguments of :class:`spikelfp.nn.LIF`.
        activation: a name of :data:`spikelfp.models.activations`.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every layer with weights.
        width: channels of the first convolution, or features of a token; ``None`` leaves it to the model.
        depth, heads, patch: of a Vision Transformer; ``None`` leaves them to the model.
        bias: whether layers with weights have biases.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    hidden: tuple[int, ...] = (1000,)
    pool: str = "max"
    neuron: dict[str, Any] = field(default_factory=dict)
    activation: str = "relu"
    noise: float = 0.0
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    patch: int | None = None
    bias: bool = True
