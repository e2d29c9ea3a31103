"""A factor in front of neurons, moved into the weights before them.

norse multiplies the input of its neurons by ``g = Δt/τ``; ours take it as it is. For ``g > 0``, ``g · (W x + b)`` is
``(g W) x + g b``, and ``g`` passes through every layer with ``φ(g z) = g φ(z)``: pooling, ReLU, dropout, flattening.
"""

from __future__ import annotations

import torch

from spikelfp.interop.chain import Chain
from spikelfp.interop.refusal import refusal

WEIGHTED = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.LayerNorm)
PASSING = (
    "Flatten", "Dropout", "Identity", "ReLU", "LeakyReLU", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d",
)  # fmt: skip
"""Names, the same on both sides, of the layers that a positive factor passes through."""


@torch.no_grad()
def scale_input(chain: Chain, gain: float, name: str, neurons: torch.nn.Module) -> None:
    """Multiply what ``chain`` returns, the input of the layer ``name``, by ``gain``, in its last layer with weights.

    Refused where there is none, or where something between it and the neurons would not pass the factor on.
    """
    for _, layer in reversed(chain):
        if isinstance(layer, WEIGHTED) and layer.weight is not None:
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    parameter.mul_(gain)
            return
        if type(layer).__name__ not in PASSING:
            break
    raise refusal(
        name, neurons, f"norse multiplies the input of its neurons by dt/tau, here a factor of {gain:.6g} that has to "
        "go into weights in front, and there are none that it reaches",
        "put a Linear or Conv2d in front of the neurons, with nothing but pooling, ReLU, dropout or flattening between",
    )  # fmt: skip


def check_unshared(chain: Chain) -> None:
    """Refuse weights that two layers share: each place would have to scale them by a factor of its own."""
    owners: dict[int, str] = {}
    for name, layer in chain:
        for parameter in layer.parameters():
            if id(parameter) in owners:
                raise refusal(
                    name, layer, f"it shares weights with layer {owners[id(parameter)]!r}, and norse's factors dt/tau "
                    "would differ between them",
                    "give each of them weights of its own",
                )  # fmt: skip
            owners[id(parameter)] = name
