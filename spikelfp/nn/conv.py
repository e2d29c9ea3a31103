"""Convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.functional.sequence import over_time
from spikelfp.nn.layer import Layer, default_rule
from spikelfp.rules import Rule


class Conv2d(torch.nn.Conv2d, Layer):
    """Convolution of every step, ``[T, B, C, H, W]``; arguments and parameters of ``torch.nn.Conv2d``."""

    def __init__(self, *arguments: Any, rule: Rule | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rule = default_rule(rule)

    def forward(self, x: Tensor) -> Tensor:
        self._expect(x, 5, "[T, B, channels, height, width]")
        if x.shape[2] != self.in_channels:
            raise ShapeError(
                f"Conv2d was built for {self.in_channels} input channels, got {x.shape[2]} (shape {tuple(x.shape)})"
            )
        return over_time(lambda step: self.rule.linear(self._conv_forward, step, self.weight, self.bias), x)
