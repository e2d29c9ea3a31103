"""What a reward is: outputs and labels in, a reward for each output out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from spikelfp.errors import ShapeError


class Reward(ABC):
    """Called with ``(outputs, labels)``: ``[…, B, C]`` and the classes ``[B]``; returns ``r`` of the outputs' shape.

    Raises :class:`~spikelfp.errors.ShapeError` for labels of another length, type, or outside the classes.
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        outputs = outputs.detach()
        if outputs.dim() < 2 or labels.shape != outputs.shape[-2:-1]:
            raise ShapeError(
                f"{type(self).__name__} takes outputs [..., B, C] and labels [B], "
                f"got {tuple(outputs.shape)} and {tuple(labels.shape)}"
            )
        return self.reward(outputs, one_hot(labels, outputs.shape[-1]))

    @abstractmethod
    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The reward, given which output is the right one: ``target`` ``[B, C]``, boolean."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Boolean ``[B, classes]``, true at each label."""
    if labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels are class numbers (integers), got {labels.dtype}")
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        index = int(wrong[0])
        raise ShapeError(f"label {int(labels[index])} at position {index} is outside the classes 0..{classes - 1}")
    return labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)
