"""Rewards of spike sequences: one value for all steps, from the number of spikes over the steps.

With a mask ``T`` is the number of steps of each sample that count, and sums are over those.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import Reward, counted, masked


class CountReward(Reward):
    """Base of the rewards that need the outputs of other steps only as numbers of spikes.

    From the numbers so far they tell the reward of a step before the sequence has ended (``credit="online"``).
    """

    suits = "spikes"

    @abstractmethod
    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        """Compute the reward from numbers of steps.

        Args:
            outputs: ``[T, B, C]``.
            target: boolean ``[B, C]``, true for the right class.
            steps: number of steps that count, one or ``[…, B, 1]``.
            spikes: sum of each output over these steps, ``[…, B, C]``.
            silent: sum of ``|o − 1|`` over these steps, ``[…, B, C]``.

        Returns:
            The reward, of a shape that broadcasts to ``[T, B, C]``.
        """

    def reward(self, outputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.of_counts(outputs, target, *_counts(outputs, mask)).expand_as(outputs)


class SpikeSequence(CountReward):
    r"""Sequence reward of LFP v3, eq. A.4, for spikes ``o`` ``[T, B, C]``, with ``n_c = Σ_t o_c[t]``::

    r_c[t] = 1 − σ(n_c − T/2)           for the right class (spike or not: it should spike in half the steps)
    r_c[t] = σ(Σ_t |o_c[t] − 1| − T/2) − 1     for the others (they should be silent in half the steps)
    """

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        half = steps / 2
        right, wrong = 1 - (spikes - half).sigmoid(), (silent - half).sigmoid() - 1
        return right.where(target, wrong)


class SpikeSequenceV1(CountReward):
    """Sequence reward of LFP v1, eq. A.16, for spikes ``o`` ``[T, B, C]``::

        r_c[t] = 1 − σ(Σ_t o_c[t] − T/2)                     for the right class
        r_c[t] = −o_c[t] (1 − σ(Σ_t |o_c[t] − 1| − T/2))     for the others: only spikes are punished

    The printed equation has lost the bars around ``o − 1``; with them it agrees with the published code and with A.4.

    Args:
        whole_steps: take ``⌊T/2⌋`` for ``T/2``, as the published code does (equal for even ``T``).
    """

    def __init__(self, whole_steps: bool = False) -> None:
        self.whole_steps = whole_steps

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        half = steps // 2 if self.whole_steps else steps / 2
        right, wrong = 1 - (spikes - half).sigmoid(), -outputs * (1 - (silent - half).sigmoid())
        return right.expand_as(outputs).where(target, wrong)


class CountSoftmax(CountReward):
    """Reward of spike counts that takes the step of softmax cross-entropy in them, for spikes ``o`` ``[T, B, C]``::

        r_c[t] = y_c − softmax(n)_c          n_c = Σ_t o_c[t];  y_c is 1 for the right class, else 0

    This is Table 2, row 3 of LFP v3 with counts for outputs and, as in A.4, one value for every step, spike or not. It
    asks for a lead of a few spikes; A.4 asks for spikes in half of all steps.
    """

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        return target.to(outputs.dtype) - spikes.softmax(-1)


def _counts(outputs: Tensor, mask: Tensor | None) -> tuple[int | Tensor, Tensor, Tensor]:
    """``T`` (one, or ``[B, 1]``), and the steps with and without a spike of each output, ``[B, C]``."""
    if outputs.dim() != 3:
        raise ShapeError(f"a sequence reward takes spikes [T, B, C], got {tuple(outputs.shape)}")
    silent = (outputs - 1).abs()
    if mask is None:
        return len(outputs), outputs.sum(0), silent.sum(0)
    return counted(mask, outputs), outputs.sum(0), masked(silent, mask).sum(0)
