"""From images to tokens and back to one vector (Vision Transformer, Dosovitskiy et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.nn.layer import Layer, check_dense
from spikelfp.rules import Rule


class ToTokens(Layer):
    """Feature maps ``[T, B, D, H, W]`` as tokens ``[T, B, H·W, D]``."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return x.flatten(3).transpose(2, 3)


class ClassToken(Layer):
    """Puts a learned token in front of ``[T, B, N, D]``: its weights are contributions with ``a = 1`` (eq. 7)."""

    arguments = ("dim",)

    def __init__(self, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.token = torch.nn.Parameter(torch.empty(dim))
        torch.nn.init.trunc_normal_(self.token, std=0.02)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        token = self.rule.parameter(self.token).to(x.dtype)
        return torch.cat([token.expand(*x.shape[:2], 1, -1), x], 2)


class PositionEmbedding(Layer):
    """Adds a learned vector to each of ``tokens`` tokens ``[T, B, N, D]``: contributions with ``a = 1`` (eq. 7)."""

    arguments = ("tokens", "dim")

    def __init__(self, tokens: int, dim: int, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.tokens, self.dim = tokens, dim
        self.positions = torch.nn.Parameter(torch.empty(tokens, dim))
        torch.nn.init.trunc_normal_(self.positions, std=0.02)
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x + self.rule.parameter(self.positions)


class FirstToken(Layer):
    """The first token of ``[T, B, N, D]``, ``[T, B, D]``."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x[:, :, 0]


class MeanToken(Layer):
    """The mean of all tokens of ``[T, B, N, D]``, ``[T, B, D]``."""

    passes_scale = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        return x.mean(2)
