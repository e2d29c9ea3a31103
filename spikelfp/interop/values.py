"""Constants of neurons: the one number behind a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.interop.refusal import refusal


def constant_of(name: str, layer: torch.nn.Module, what: str, value: Any) -> float:
    """``value``, a number or a tensor of equal entries, as the shortest decimal that its dtype stores as this number.

    (snnTorch keeps a decay of 0.9 as the float32 0.89999998; in a float32 network both are the same number.)
    Refused: entries that differ, and a parameter that is to be trained, for which LFP has no rule.
    """
    tensor = torch.as_tensor(value)
    if tensor.requires_grad:
        raise refusal(
            name, layer, f"its {what} is trainable, and LFP has no rule for it",
            f"hold it at its value with layer.{what}.requires_grad_(False)",
        )  # fmt: skip
    flat = tensor.detach().flatten()
    if flat.numel() == 0 or not bool((flat == flat[0]).all()):
        raise refusal(
            name, layer, f"its {what} differs from neuron to neuron, and here a layer has one",
            "give all neurons of the layer the same value, or split the layer",
        )  # fmt: skip
    return shortest(flat[0])


def shortest(value: Tensor) -> float:
    """The shortest decimal that rounds to ``value`` in its dtype."""
    if value.dtype == torch.float32:
        return float(str(value.cpu().numpy()))
    return float(value)
