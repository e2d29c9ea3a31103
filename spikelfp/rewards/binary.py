"""Two classes and a single output neuron (LFP v3, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import check_classes, class_numbers
from spikelfp.rewards.convergence import Convergence
from spikelfp.rewards.initial import GlobalReward


class Binary(GlobalReward):
    """Outputs ``[…, B, 1]`` whose sign decides (0 and above: class 1), labels 0 or 1: ``r = R``, without ``sign(o)``.

    ``R`` is 1 where the sign is right and −1 where it is wrong, at each step. The defaults, ``convergence="sigmoid"``
    with magnitude, make it ``r = o (y − σ(o))``, the step of logistic regression (Theorem 1); the paper's bare ``R``
    is ``Binary("none", magnitude=False)``.

    Raises :class:`~spikelfp.errors.ShapeError` for more than one output or a label that is neither 0 nor 1.
    """

    suits = "linear"

    def __init__(self, convergence: str | Convergence | None = "sigmoid", magnitude: bool | None = True) -> None:
        super().__init__(convergence, magnitude)

    def target(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """True for class 1, ``[B, 1]``."""
        check_classes("Binary", outputs, labels)
        if outputs.shape[-1] != 1:
            raise ShapeError(f"Binary takes one output, [..., B, 1], got {tuple(outputs.shape)}")
        return class_numbers(labels, 2).unsqueeze(-1) == 1

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class ``[B]`` by the sign of the output summed over the steps ``[B, 1]``: 1 for 0 and above."""
        return (scores[..., 0] >= 0).long()

    def global_reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        return torch.where((outputs >= 0) == target, 1.0, -1.0)
