"""Rewards of classes at single steps: rows 1-4 of Table 2 of LFP v3, the sign reward of v1, and one binary output."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import Reward, Smoothing, check_classes, check_smoothing, class_numbers, prediction, smoothed
from spikelfp.rewards.global_reward import Convergence, GlobalReward


class CorrectClass(GlobalReward):
    """Reward of the right class only: ``r_c = sign(o_c) · 1(y_c = 1)`` (LFP v3, Table 2, row 1).

    It does not converge by itself, and nothing holds back the wrong classes: decay the learning rate, or choose a
    ``convergence`` factor (eq. 13).

    Args:
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`.
        magnitude: multiply the reward by the magnitude of the output.
    """

    def __init__(self, convergence: str | Convergence | None = "none", magnitude: bool | None = False) -> None:
        super().__init__(convergence, magnitude)

    def global_reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return target.to(outputs.dtype)


class FalsePositive(GlobalReward):
    """Punishment of classes above the right one: ``r_c = −sign(o_c) · 1(∃ c′: y_c′ = 1 ∧ o_c > o_c′)``.

    This is row 2 of Table 2 and eq. 14 of LFP v3, at each step of outputs ``[…, B, C]``. No reward is left once all
    samples are right. No loss function has this reward as its gradient (v3, section 3.3); it needs a smaller learning
    rate than the others (v3, A.3).

    Args:
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`.
        magnitude: multiply the reward by the magnitude of the output.
    """

    def __init__(self, convergence: str | Convergence | None = "none", magnitude: bool | None = False) -> None:
        super().__init__(convergence, magnitude)

    def global_reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        right = (outputs * target).sum(-1, keepdim=True)
        return -(outputs > right).to(outputs.dtype)


class Sign(Reward):
    """Reward of LFP v1, A.1: ±1 for the neuron of the right class, 0 for all others.

    It is 1 where the prediction (the largest output summed over time) is right and −1 where it is wrong, equal at every
    step. As printed in the paper it is the reward itself, without the sign of the output: the output of a right class
    that is positive but not the largest is pushed down. It does not converge by itself; A.1 decays the learning rate.
    """

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        right = target.gather(-1, prediction(outputs).unsqueeze(-1))
        return (torch.where(right, 1.0, -1.0) * target).to(outputs.dtype).expand_as(outputs)


class Softmax(Reward):
    """Softmax reward ``r_c = o_c (y_c − softmax(o)_c)`` (LFP v3, Table 2, row 3), for linear outputs ``[…, B, C]``.

    LFP then takes the step of softmax cross-entropy (Theorem 1), with label smoothing too.

    Args:
        label_smoothing: α; the target is then ``y′_c = (1 − α) y_c + α / C`` for ``C`` classes.

    Raises:
        UserError: for an α outside [0, 1).
    """

    suits = "linear"
    label_smoothing: float = 0.0

    def __init__(self, label_smoothing: Smoothing = 0.0) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return outputs * (smoothed(target, self.label_smoothing, outputs.dtype) - outputs.softmax(-1))


class Sigmoid(Reward):
    """Sigmoid reward ``r_c = o_c (y_c − σ(o_c))`` (LFP v3, Table 2, row 4), for linear outputs ``[…, B, C]``.

    LFP then takes the step of sigmoid cross-entropy (Theorem 1). The reward is also the feedback of v1, eq. 7, and case
    by case eq. 6: ``o_c (1 − σ(o_c))`` for the right class and ``−o_c σ(o_c)`` for the others.

    Args:
        label_smoothing: α; the target is then ``y′_c = (1 − α) y_c + α / C`` for ``C`` classes.

    Raises:
        UserError: for an α outside [0, 1).
    """

    suits = "linear"
    label_smoothing: float = 0.0

    def __init__(self, label_smoothing: Smoothing = 0.0) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return outputs * (smoothed(target, self.label_smoothing, outputs.dtype) - outputs.sigmoid())


class Binary(GlobalReward):
    """Reward of one output whose sign decides between two classes: ``r = R``, without ``sign(o)`` (v3, section 3.2).

    Outputs are ``[…, B, 1]``, 0 and above means class 1, and labels are 0 or 1. ``R`` is 1 where the sign is right and
    −1 where it is wrong, at each step. The defaults make it ``r = o (y − σ(o))``, the step of logistic regression
    (Theorem 1); the paper's bare ``R`` is ``Binary("none", magnitude=False)``.

    Args:
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`.
        magnitude: multiply the reward by the magnitude of the output.

    Raises:
        ShapeError: when it is called with more than one output, or a label that is neither 0 nor 1.
    """

    suits = "linear"

    def __init__(self, convergence: str | Convergence | None = "sigmoid", magnitude: bool | None = True) -> None:
        super().__init__(convergence, magnitude)

    def target(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Check the labels and make them boolean ``[B, 1]``, true for class 1."""
        check_classes("Binary", outputs, labels)
        if outputs.shape[-1] != 1:
            raise ShapeError(f"Binary takes one output, [..., B, 1], got {tuple(outputs.shape)}")
        return class_numbers(labels, 2).unsqueeze(-1) == 1

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class ``[B]`` by the sign of the output summed over the steps ``[B, 1]``: 1 for 0 and above."""
        return (scores[..., 0] >= 0).long()

    def global_reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return torch.where((outputs >= 0) == target, 1.0, -1.0)
