"""Rewards of outputs that should take given values: errors of real outputs (LFP v3, Theorem 1), and rates of spikes."""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.rewards.base import Reward, counted, no_classes


class ErrorReward(Reward):
    """Reward ``r_c = o_c · (−dL/do_c)`` for a loss of the error ``y_c − o_c``; LFP then takes ``|w|`` times its step.

    Outputs are ``[…, B, C]``, targets real numbers of that shape or ``[B, C]``, which then hold at every step. The
    outputs should be linear, since an output of exactly 0 gets no reward (for spikes see :class:`SpikeRate`).

    Raises:
        ShapeError: when it is called with targets that are not real numbers, of another shape, or not finite.
    """

    suits = "linear"
    task = "regression"

    def classes(self, scores: Tensor) -> Tensor:
        """Refuse: the outputs are real values."""
        raise no_classes(self)

    def target(self, outputs: Tensor, labels: Any) -> Tensor:
        return real_targets(type(self).__name__, outputs, labels)

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return outputs * self.step(target - outputs)

    @abstractmethod
    def step(self, error: Tensor) -> Tensor:
        """Compute ``−dL/do`` for the errors ``y − o``."""


class SquaredError(ErrorReward):
    """Reward ``r_c = o_c (y_c − o_c)``, the step of the squared error ``L = Σ (y_c − o_c)² / 2``."""

    def step(self, error: Tensor) -> Tensor:
        return error


class AbsoluteError(ErrorReward):
    """Reward ``r_c = o_c · sgn(y_c − o_c)``, the step of ``L = Σ |y_c − o_c|``; tends to the median. ``sgn(0) = 0``."""

    def step(self, error: Tensor) -> Tensor:
        return error.sign()


class Huber(ErrorReward):
    """Reward ``r_c = o_c · clip(y_c − o_c, −δ, δ)``, the step of the Huber loss: squared within δ, absolute beyond.

    Args:
        delta: δ > 0, in units of the targets.

    Raises:
        UserError: for a δ that is not a finite number above 0.
    """

    def __init__(self, delta: float = 1.0) -> None:
        if isinstance(delta, bool) or not isinstance(delta, numbers.Real) or not 0 < delta < math.inf:
            raise UserError(f"the delta of the Huber reward must be a finite number above 0, got {delta!r}")
        self.delta: float = delta

    def step(self, error: Tensor) -> Tensor:
        return error.clamp(-self.delta, self.delta)


class SpikeRate(Reward):
    """Reward ``r_c[t] = y_c − n_c / T`` of spikes that should come at given rates, with ``n_c = Σ_t o_c[t]``.

    Spikes are ``[T, B, C]``, rates ``y`` are ``[B, C]`` in [0, 1]. This is LFP v3, eq. 12 for the global reward
    ``R_c = y_c − n_c / T``: a neuron that fires too little is rewarded, spike or no spike, and one that fires too much
    is punished, until the rate is right. With a mask, ``T`` is the number of steps of each sample that count.

    Raises:
        ShapeError: when it is called with targets that are not real numbers ``[B, C]`` in [0, 1].
    """

    suits = "spikes"
    task = "regression"

    def classes(self, scores: Tensor) -> Tensor:
        """Refuse: the outputs are rates."""
        raise no_classes(self)

    def target(self, outputs: Tensor, labels: Any) -> Tensor:
        if outputs.dim() != 3:
            raise ShapeError(f"SpikeRate takes spikes [T, B, C], got {tuple(outputs.shape)}")
        rates = real_targets("SpikeRate", outputs[0], labels)
        if not ((rates >= 0) & (rates <= 1)).all():
            raise ShapeError(f"rates lie in [0, 1], got values from {float(rates.min())} to {float(rates.max())}")
        return rates

    def reward(self, outputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        rate = outputs.mean(0) if mask is None else outputs.sum(0) / counted(mask, outputs).clamp(min=1)
        return (target - rate).expand_as(outputs)


def real_targets(name: str, outputs: Tensor, targets: Any) -> Tensor:
    """Check targets to be finite real numbers, ``[B, C]`` or of the outputs' shape, in the dtype of the outputs.

    Raises:
        ShapeError: for other targets.
    """
    if not isinstance(targets, Tensor) or not targets.is_floating_point():
        got = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise ShapeError(f"{name} takes real targets (a floating-point tensor), got {got}")
    if outputs.dim() < 2 or targets.shape not in (outputs.shape, outputs.shape[-2:]):
        raise ShapeError(
            f"{name} takes outputs [..., B, C] and targets [B, C], got {tuple(outputs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    wrong = (~torch.isfinite(targets)).nonzero()
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ShapeError(f"target {float(targets[index])} at position {index} is not a finite number")
    return targets.to(outputs.dtype)
