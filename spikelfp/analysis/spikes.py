"""Spikes of the neurons of a network, layer by layer."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from spikelfp.nn import graph


def record(net: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a network and record the spikes of every layer that fires. The network is left as it was.

    Args:
        net: the network; a user's own layer counts if it states ``fires = True``.
        x: its input ``[T, B, …]``.

    Returns:
        Spikes ``[T, B, …]`` of 0 and 1 by name of the layer, in the order the layers ran
        (:func:`spikelfp.nn.graph.record`).
    """
    return graph.record(net, x, partial(graph.has_trait, trait="fires"))


def spike_rates(net: torch.nn.Module, x: Tensor) -> dict[str, float]:
    """Measure the mean spikes per neuron and step of each layer that fires.

    Args:
        net: the network.
        x: its input ``[T, B, …]``.

    Returns:
        Rates between 0 and 1 by name of the layer.
    """
    return {name: spikes.mean().item() for name, spikes in record(net, x).items()}
