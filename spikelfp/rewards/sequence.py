"""Rewards of spike sequences: the same for every step, from the number of spikes over all steps."""

from __future__ import annotations

from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import Reward


class SpikeSequence(Reward):
    r"""Sequence reward of LFP v3, eq. A.4, for spikes ``o`` ``[T, B, C]``, with ``n_c = Σ_t o_c[t]``::

    r_c[t] = 1 − σ(n_c − T/2)           for the right class (spike or not: it should spike in half the steps)
    r_c[t] = σ(Σ_t |o_c[t] − 1| − T/2) − 1     for the others (they should be silent in half the steps)
    """

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        steps = _steps(outputs)
        spikes = outputs.sum(0)
        silent = (outputs - 1).abs().sum(0)
        half = steps / 2
        right, wrong = 1 - (spikes - half).sigmoid(), (silent - half).sigmoid() - 1
        return right.where(target, wrong).expand_as(outputs)


class SpikeSequenceV1(Reward):
    r"""Sequence reward of LFP v1, eq. A.16, for spikes ``o`` ``[T, B, C]``::

        r_c[t] = 1 − σ(Σ_t o_c[t] − T/2)                     for the right class
        r_c[t] = −o_c[t] (1 − σ(Σ_t |o_c[t] − 1| − T/2))     for the others: only spikes are punished

    The printed equation has lost the bars around ``o − 1``; with them it is the published code's and A.4's.

    whole_steps: take ``⌊T/2⌋`` for ``T/2``, as the published code does (the same for even ``T``).
    """

    def __init__(self, whole_steps: bool = False) -> None:
        self.whole_steps = whole_steps

    def reward(self, outputs: Tensor, target: Tensor) -> Tensor:
        steps = _steps(outputs)
        half = steps // 2 if self.whole_steps else steps / 2
        spikes = outputs.sum(0)
        silent = (outputs - 1).abs().sum(0)
        right, wrong = 1 - (spikes - half).sigmoid(), -outputs * (1 - (silent - half).sigmoid())
        return right.expand_as(outputs).where(target, wrong)


def _steps(outputs: Tensor) -> int:
    if outputs.dim() != 3:
        raise ShapeError(f"a sequence reward takes spikes [T, B, C], got {tuple(outputs.shape)}")
    return len(outputs)
