"""Layers without parameters whose backward pass under every rule is autograd's own (v3, eq. 11)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.functional.sequence import is_constant, over_time, repeat
from spikelfp.nn.layer import Layer


class MaxPool2d(torch.nn.MaxPool2d, Layer):
    """Max-pooling of every step, ``[T, B, C, H, W]``: the winner takes the reward.

    Right behind a convolution in a :class:`~spikelfp.nn.Sequential` both run as one operation, where nobody could tell.
    """

    def forward(self, x: Tensor) -> Tensor:
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)

    @property
    def side(self) -> int | None:
        """Side of the windows, where they are squares that touch, and nothing but their largest value is returned."""
        sizes, strides = (v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride))
        plain = self.padding in (0, (0, 0)) and self.dilation in (1, (1, 1))
        if not plain or self.ceil_mode or self.return_indices or {*sizes, *strides} != {sizes[0]}:
            return None
        return int(sizes[0])


class AvgPool2d(torch.nn.AvgPool2d, Layer):
    """Average-pooling of every step, ``[T, B, C, H, W]``: reward in proportion to contribution."""

    def forward(self, x: Tensor) -> Tensor:
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d, Layer):
    """Average-pooling of every step to a given size, ``[T, B, C, H, W]``: reward in proportion to contribution."""

    def forward(self, x: Tensor) -> Tensor:
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)


class Flatten(Layer):
    """``[T, B, …]`` to ``[T, B, features]``."""

    def forward(self, x: Tensor) -> Tensor:
        return over_time(lambda step: step.flatten(1), x)


class Dropout(Layer):
    """Silences each element with probability ``p`` in training, the same ones at every step of a sequence."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = torch.nn.Dropout(p).p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        mask = F.dropout(torch.ones_like(x[0]), self.p)
        return repeat(x[0] * mask, len(x)) if is_constant(x) else x * mask

    def extra_repr(self) -> str:
        return f"p={self.p}"
