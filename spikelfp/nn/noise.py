"""Noise in training."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.nn.layer import Layer, check_dense


class Noise(Layer):
    """Adds ``N(0, σ²)`` to every element in training, the same at every step of a constant sequence.

    In front of the layers of a Heaviside network it lets silent neurons fire now and then, and so be rewarded, as in
    the published experiments. Rewards pass as if it were not there.
    """

    passes_scale = True
    arguments = ("sigma",)

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        if not 0 <= sigma < float("inf"):
            raise UserError(f"sigma must be a finite number, 0 or more, got {sigma}")
        self.sigma = float(sigma)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.sigma == 0:
            return x
        check_dense(self, x)
        if is_constant(x):
            return repeat(x[0] + self.sigma * torch.randn_like(x[0]), len(x))
        return x + self.sigma * torch.randn_like(x)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"
