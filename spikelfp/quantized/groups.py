"""Which layers of weights share a scale, because they drive the same neurons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from spikelfp.nn.activation import Heaviside
from spikelfp.nn.neurons.base import Neurons, check_one_number
from spikelfp.nn.neurons.integrator import LI
from spikelfp.nn.noise import Noise
from spikelfp.nn.shape import AdaptiveAvgPool2d, AvgPool2d, Dropout, Flatten, MaxPool2d
from spikelfp.quantized.layer import Quantizable

_KEEPS_UNIT = (Flatten, Dropout, Noise, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, torch.nn.Identity)


@dataclass(frozen=True, eq=False)
class Weights:
    """A layer of weights, its name, and whether spikes flow into it rather than real values."""

    name: str
    layer: Quantizable
    takes_spikes: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Layers whose sums flow into one layer of neurons: one unit for all of them.

    threshold: of the neurons; ``None`` for those without one, and where there are no neurons right behind.
    into_neurons: whether sums flow into neurons, so that a bias has to be a whole number of their unit.
    """

    members: tuple[Weights, ...]
    threshold: float | None
    into_neurons: bool


def groups(net: torch.nn.Module) -> list[Group]:
    """The layers of weights of ``net`` in the order of ``net.modules()``, each in one group.

    What stands next to a layer is looked for in its ``Sequential``, past pooling and the like; behind anything else,
    such as a normalisation or a sum of branches, it has a unit of its own. The connections of
    :class:`~spikelfp.nn.RecurrentLIF` are grouped with the layer in front of it.
    """
    before, behind = _neighbours(net)
    inner = {getattr(module, "recurrent", None): module for module in net.modules()}
    found: dict[torch.nn.Module, list[Weights]] = {}
    for name, layer in net.named_modules():
        check_one_number(name, layer, "quantized training takes")
        if isinstance(layer, Quantizable):
            spikes = layer in inner or isinstance(before.get(layer), (Neurons, Heaviside))
            drives = inner.get(layer, behind.get(layer))
            key = drives if isinstance(drives, (Neurons, LI)) else layer
            found.setdefault(key, []).append(Weights(name, layer, spikes))
    return [
        Group(tuple(members), key.threshold if isinstance(key, Neurons) else None, not isinstance(key, Quantizable))
        for key, members in found.items()
    ]


def _neighbours(net: torch.nn.Module) -> tuple[dict[torch.nn.Module, torch.nn.Module], ...]:
    """What stands before each layer of a ``Sequential``, and what behind it."""
    before: dict[torch.nn.Module, torch.nn.Module] = {}
    behind: dict[torch.nn.Module, torch.nn.Module] = {}
    for module in net.modules():
        chain = list(_flat(module)) if isinstance(module, torch.nn.Sequential) else []
        for layers, neighbour in ((chain, behind), (chain[::-1], before)):
            for place, layer in enumerate(layers):
                next_one = _first(layers[place + 1 :])
                if next_one is not None:
                    neighbour[layer] = next_one
    return before, behind


def _first(layers: Iterable[torch.nn.Module]) -> torch.nn.Module | None:
    return next((layer for layer in layers if not isinstance(layer, _KEEPS_UNIT)), None)


def _flat(chain: torch.nn.Sequential) -> Iterator[torch.nn.Module]:
    for layer in chain:
        yield from _flat(layer) if isinstance(layer, torch.nn.Sequential) else (layer,)
