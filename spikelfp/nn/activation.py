"""Activation functions without memory."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.nn.layer import Layer, default_rule
from spikelfp.rules import Rule


class ReLU(Layer):
    """``max(z, 0)``, element-wise."""

    def __init__(self, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.rule = default_rule(rule)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule.relu(x)


class Heaviside(Layer):
    """1 where ``z > 0``, else 0 (A.2): a neuron that fires without memory."""

    def __init__(self, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.rule = default_rule(rule)

    def forward(self, x: Tensor) -> Tensor:
        return self.rule.spike(x)
