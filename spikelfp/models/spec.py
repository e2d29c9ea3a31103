"""What a network is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """All that :func:`build` needs to make a network again: plain data, as a run's ``config.yaml`` holds it.

    name: in :data:`spikelfp.models.models`; shape: of one input, without batch; classes: number of outputs.
    hidden: neurons of the hidden layers (``mlp``, ``lif-mlp``, ``lif-rnn``). pool: ``max`` or ``avg`` (``lenet``,
    ``lif-lenet``, ``lif-conv``, ``lif-vgg-like``). neuron: arguments of :class:`spikelfp.nn.LIF` (names that begin
    with ``lif-``). activation: a name of :data:`spikelfp.models.activations`; noise: standard deviation of the
    :class:`spikelfp.nn.Noise` in front of every layer with weights (networks without spikes, but the Vision
    Transformer). width: channels of the first convolutions (VGG, ResNet, ``lif-conv``) or features of a token; depth,
    heads, patch: of a Vision Transformer. ``None`` leaves them to the model. bias: of layers with weights
    (``lif-mlp``, ``lif-rnn``, ``lif-lenet``, ``lif-conv``). A model ignores what it has no use for.
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


def is_spiking(name: str) -> bool:
    """Whether the network of that name ends in LIF neurons."""
    return name.startswith("lif-")
