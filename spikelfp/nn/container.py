"""Networks as a chain of layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.nn.layer import Layer, run_layer


class Sequential(torch.nn.Sequential, Layer):
    """Layers one after the other; its state is the tuple of theirs."""

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Output and the states to go on from, one entry a layer."""
        states = []
        for layer, before in zip(self, state or (None,) * len(self), strict=True):
            x, after = run_layer(layer, x, before)
            states.append(after)
        return x, tuple(states)
