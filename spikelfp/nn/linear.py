"""Dense layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.nn.layer import Layer, default_rule
from spikelfp.rules import Rule


class Linear(torch.nn.Linear, Layer):
    """``I[t] = W X[t] + b``: ``[T, B, …, in]`` to ``[T, B, …, out]``; parameters as in ``torch.nn.Linear``."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rule: Rule | None = None, **options: Any
    ) -> None:
        super().__init__(in_features, out_features, bias, **options)
        self.rule = default_rule(rule)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, features]")
        if x.shape[-1] != self.in_features:
            raise ShapeError(
                f"Linear was built for {self.in_features} input features, got {x.shape[-1]} (shape {tuple(x.shape)})"
            )
        if is_constant(x):
            return repeat(self.rule.linear(F.linear, x[0], self.weight, self.bias), len(x))
        return self.rule.linear(F.linear, x, self.weight, self.bias)
