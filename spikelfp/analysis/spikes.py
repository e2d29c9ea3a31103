"""What the neurons of a network do: their spikes, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.nn import Heaviside, Neurons


def record(net: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run ``net`` on ``x`` ``[T, B, …]`` and return the spikes of every layer of neurons by its name.

    Spikes are ``[T, B, …]`` of 0 and 1, in the order the layers ran. The network is left as it was: mode,
    gradients and graph.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: torch.nn.Module, inputs: object, spikes: Tensor) -> None:
            seen[name] = spikes.detach()

        return hook

    handles = [
        layer.register_forward_hook(keep(name))
        for name, layer in net.named_modules()
        if isinstance(layer, (Neurons, Heaviside))
    ]
    training = net.training
    try:
        net.eval()
        with torch.no_grad():
            net(x)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    return seen


def spike_rates(net: torch.nn.Module, x: Tensor) -> dict[str, float]:
    """Mean spikes per neuron and step of each layer, between 0 and 1."""
    return {name: spikes.mean().item() for name, spikes in record(net, x).items()}
