"""Networks by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from spikelfp import nn
from spikelfp.models.lif import lif_lenet, lif_mlp
from spikelfp.models.relu import lenet, mlp
from spikelfp.registry import Registry


@dataclass(frozen=True)
class ModelSpec:
    """All that :func:`build` needs to make a network again: plain data, as a run's ``config.yaml`` holds it."""

    name: str
    shape: tuple[int, ...]
    classes: int
    hidden: tuple[int, ...] = (1000,)
    pool: str = "max"
    neuron: dict[str, float | str] = field(default_factory=dict)


models: Registry[Callable[[ModelSpec], nn.Sequential]] = Registry("model")


@models.register("lif-mlp")
def _lif_mlp(spec: ModelSpec) -> nn.Sequential:
    return lif_mlp([math.prod(spec.shape), *spec.hidden, spec.classes], **spec.neuron)


@models.register("lif-lenet")
def _lif_lenet(spec: ModelSpec) -> nn.Sequential:
    return lif_lenet(spec.shape, spec.classes, pool=spec.pool, **spec.neuron)


@models.register("mlp")
def _mlp(spec: ModelSpec) -> nn.Sequential:
    return mlp([math.prod(spec.shape), *spec.hidden, spec.classes])


@models.register("lenet")
def _lenet(spec: ModelSpec) -> nn.Sequential:
    return lenet(spec.shape, spec.classes, pool=spec.pool)


def build(spec: ModelSpec) -> nn.Sequential:
    """The network ``spec`` describes, with fresh weights from torch's random state."""
    return models[spec.name](spec)


def is_spiking(name: str) -> bool:
    """Whether the network of that name ends in LIF neurons."""
    return name.startswith("lif-")


__all__ = ["ModelSpec", "build", "is_spiking", "lenet", "lif_lenet", "lif_mlp", "mlp", "models"]
