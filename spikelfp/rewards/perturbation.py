"""Any metric of the outputs themselves as a reward, by random perturbation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.rewards.base import masked
from spikelfp.rewards.global_reward import Convergence, GlobalReward, initial_reward
from spikelfp.rewards.metric import Metric, evaluate, total


class Perturbation(GlobalReward):
    r"""A metric of raw outputs, larger is better, that needs no discrete outcomes and no derivative.

    The outputs, not the weights, are shaken by pairs of opposite Gaussian noise (evolution strategies with antithetic
    sampling: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", 2017)::

        ĝ = 1 / (2 n σ) · Σ_i ( M(o + σ ε_i) − M(o − σ ε_i) ) ε_i          ε_i ~ N(0, 1), as many as outputs
        r = o · ĝ                                                          (Theorem 1, with ĝ for −dL/do)

    ``ĝ`` estimates the gradient of the metric smoothed over ``σ``, without bias. The network itself runs once.

    metric: ``(outputs [T, B, C], labels)`` to a number for the batch, whose change is multiplied by ``B``, or to a
    score for each sample ``[B]``, whose mean is the metric. Use scores wherever a metric is a mean: the noise of the
    other samples is then no noise of this one.
    sigma: ``σ`` in units of the outputs: large enough to change the metric, small beside the outputs.
    pairs: ``n``; the metric is called ``2 n`` times. The variance of ``ĝ`` falls as ``1/n``.
    generator: of the noise; ``None`` is torch's own, which a trainer's checkpoints keep, so that a resumed run goes on
    bit for bit.
    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward` for the global reward ``R = ĝ``. The
    default magnitude gives the ``r`` above for real-valued outputs and ``r = ĝ`` for spikes, silent ones too.

    Raises :class:`~spikelfp.errors.UserError` for ``sigma`` or ``pairs`` out of range, and for a metric that returns
    anything but finite numbers.
    """

    def __init__(
        self,
        metric: Metric,
        sigma: float = 1.0,
        pairs: int = 16,
        *,
        generator: torch.Generator | None = None,
        convergence: str | Convergence | None = "none",
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        if not (math.isfinite(sigma) and sigma > 0):
            raise UserError(f"sigma must be a finite number above 0, got {sigma}")
        if pairs < 1:
            raise UserError(f"at least one pair of perturbations is needed, got {pairs}")
        self.metric, self.sigma, self.pairs, self.generator = metric, sigma, pairs, generator

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """The labels as they are, one for each sample."""
        if outputs.dim() < 2 or len(labels) != outputs.shape[-2]:
            raise ShapeError(
                f"Perturbation takes outputs [..., B, C] and labels for B samples, got {tuple(outputs.shape)} and "
                f"{len(labels)}"
            )
        return labels

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        estimate = self.global_reward(outputs, target, mask)
        return initial_reward(outputs, estimate, self.convergence, self.magnitude, mask)

    def global_reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        """``ĝ``, of the outputs' shape; the noise is 0 at the steps that do not count."""
        batch = outputs.shape[-2]
        device = outputs.device if self.generator is None else self.generator.device
        estimate = torch.zeros_like(outputs)
        for _ in range(self.pairs):
            noise = torch.randn(outputs.shape, dtype=outputs.dtype, device=device, generator=self.generator)
            noise = noise.to(outputs.device) if mask is None else masked(noise.to(outputs.device), mask)
            up = evaluate(self.metric, outputs + self.sigma * noise, target, batch)
            down = evaluate(self.metric, outputs - self.sigma * noise, target, batch)
            change = total(up - down, batch).to(outputs.dtype)
            estimate += (change.unsqueeze(-1) if change.dim() else change) * noise
        return estimate / (2 * self.pairs * self.sigma)
