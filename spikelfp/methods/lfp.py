"""Layer-wise feedback propagation: a reward at the outputs, split over neurons and connections."""

from __future__ import annotations

from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.methods.base import Method
from spikelfp.methods.weights import mean_over_steps
from spikelfp.propagation import propagate
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Epsilon, Feedback, Rule


class LFP(Method):
    """Train by ``reward`` (:mod:`spikelfp.rewards`), split by ``rule`` (:mod:`spikelfp.rules`); LFP v3, section 3.

    The rewards of all steps add up, to a mean over the batch. A part of a sequence is rewarded for its own steps.

    rule: by default LFP-ε with messages passing through the statistics of normalisation layers
    (``constant_statistics=False``), which networks with BatchNorm need to learn from scratch (docs/rules.md).
    """

    name = "lfp"

    def __init__(self, reward: Reward, rule: Rule | Composite | None = None) -> None:
        self.reward = reward
        self.rule: Rule | Composite = Epsilon(constant_statistics=False) if rule is None else rule
        last = self.rule.default if isinstance(self.rule, Composite) else self.rule
        self.eps = last.eps if isinstance(last, Feedback) else Epsilon.eps

    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        if steps is not None and not self.reward.of_parts:
            raise UserError(
                f"{type(self.reward).__name__} rewards whole sequences, and a chunk is a part of one: train without "
                "chunks"
            )
        reward = self.reward(outputs, labels) if mask is None else self.reward(outputs, labels, mask)
        propagate(outputs, reward * share / len(labels), eps=self.eps)
        return {
            "reward": mean_over_steps(reward, mask, steps),
            "reward_magnitude": mean_over_steps(reward.abs(), mask, steps),
        }
