"""How the layers of a network follow each other: the one place that knows."""

from __future__ import annotations

import torch

from spikelfp.nn.neurons.base import Neurons


def leaves(net: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of ``net`` without layers inside; neurons count as one, with their recurrent connections."""
    found: list[torch.nn.Module] = []
    for layer in net.children():
        found += [layer] if isinstance(layer, Neurons) or not list(layer.children()) else leaves(layer)
    return found or [net]
