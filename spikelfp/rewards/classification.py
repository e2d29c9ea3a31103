"""Rewards of linear outputs, one per class (LFP v3, Table 2)."""

from __future__ import annotations

from torch import Tensor

from spikelfp.rewards.base import Reward


class Softmax(Reward):
    """Table 2 #3: ``r_c = o_c (y_c − softmax(o)_c)``; equals the step of softmax cross-entropy (Theorem 1)."""

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return outputs * (target.to(outputs.dtype) - outputs.softmax(-1))


class Sigmoid(Reward):
    """Table 2 #4: ``r_c = o_c (y_c − σ(o_c))``; equals the step of sigmoid cross-entropy (Theorem 1)."""

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return outputs * (target.to(outputs.dtype) - outputs.sigmoid())
