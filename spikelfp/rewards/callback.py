"""Rewards from outside: a person, a simulator, an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import prediction
from spikelfp.rewards.global_reward import Convergence, GlobalReward


class FromCallback(GlobalReward):
    """Global rewards from a function, made initial rewards by eq. 12-13 of LFP v3.

    callback: ``(outputs, context)`` to global rewards, asked once for every batch. ``outputs`` are ``[…, B, C]``
    without a graph, ``context`` is whatever was handed in as labels (classes, states of an environment, nothing at
    all). It returns, as a tensor, array or list of numbers, either

    * ``[B]``: the reward of the outcome that was chosen (the largest output summed over the steps; the sign of a single
      output); the outcomes that were not chosen get nothing, as in reinforcement learning; or
    * ``[B, C]`` or ``[…, B, C]``: the reward of every outcome.

    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward`; by default chosen by the outputs, so that
    a reward fades as the outcome becomes as likely (or unlikely) as it should be.

    Raises :class:`~spikelfp.errors.ShapeError` for any other shape, and
    :class:`~spikelfp.errors.NonFiniteError` for NaN or infinity.
    """

    def __init__(
        self,
        callback: Callable[[Tensor, Any], Any],
        *,
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        self.callback = callback

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """The context as it is."""
        if outputs.dim() < 2:
            raise ShapeError(f"FromCallback takes outputs [..., B, C], got {tuple(outputs.shape)}")
        return labels

    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        given = torch.as_tensor(self.callback(outputs, target), dtype=outputs.dtype, device=outputs.device)
        batch, classes = outputs.shape[-2:]
        if given.shape == (batch,):
            chosen = torch.nn.functional.one_hot(prediction(outputs), classes)
            return given.unsqueeze(-1) * chosen
        if given.shape in (outputs.shape, outputs.shape[-2:]):
            return given
        raise ShapeError(
            f"the callback should return rewards [{batch}] or [{batch}, {classes}], got shape {tuple(given.shape)}"
        )
