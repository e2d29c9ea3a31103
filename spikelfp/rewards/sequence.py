"""Rewards of spike sequences: one value for all steps, from the number of spikes over the steps.

With a mask ``T`` is the number of steps of each sample that count, and sums are over those.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from spikelfp.errors import ShapeError
from spikelfp.rewards.base import Reward, Smoothing, check_smoothing, counted, masked, smoothed


class CountReward(Reward):
    """Base of the rewards that need the outputs of other steps only as numbers of spikes.

    From the numbers so far they tell the reward of a step before the sequence has ended (``credit="online"``).

    With label smoothing the target is ``y′_c = (1 − α) y_c + α / C`` for ``C`` classes, and an output has the rewards
    of a right class and of a wrong one, weighed by it: ``y′_c r_right + (1 − y′_c) r_wrong``.

    Args:
        label_smoothing: α.

    Raises:
        UserError: for an α outside [0, 1).
    """

    suits = "spikes"
    label_smoothing: float = 0.0

    def __init__(self, label_smoothing: Smoothing = 0.0) -> None:
        self.label_smoothing = check_smoothing(label_smoothing)

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

    def weighed(self, target: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        """Take the reward of a right class where the target is true and of a wrong one elsewhere, smoothed by α.

        Args:
            target: boolean ``[B, C]``.
            right: reward of an output of the right class, ``[…, B, C]``.
            wrong: reward of an output of another class, likewise.
        """
        if self.label_smoothing == 0:
            return right.where(target, wrong)
        share = smoothed(target, self.label_smoothing, right.dtype)
        return share * right + (1 - share) * wrong


class SpikeSequence(CountReward):
    r"""Sequence reward of LFP v3, eq. A.4, for spikes ``o`` ``[T, B, C]``, with ``n_c = Σ_t o_c[t]``::

    r_c[t] = 1 − σ(n_c − T/2)           for the right class (spike or not: it should spike in half the steps)
    r_c[t] = σ(Σ_t |o_c[t] − 1| − T/2) − 1     for the others (they should be silent in half the steps)

    Args:
        label_smoothing: α of :class:`CountReward`; for spikes ``r_c = y′_c − σ(n_c − T/2)``.

    Raises:
        UserError: for an α outside [0, 1).
    """

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        half = steps / 2
        right, wrong = 1 - (spikes - half).sigmoid(), (silent - half).sigmoid() - 1
        return self.weighed(target, right, wrong)


class SpikeSequenceV1(CountReward):
    """Sequence reward of LFP v1, eq. A.16, for spikes ``o`` ``[T, B, C]``::

        r_c[t] = 1 − σ(Σ_t o_c[t] − T/2)                     for the right class
        r_c[t] = −o_c[t] (1 − σ(Σ_t |o_c[t] − 1| − T/2))     for the others: only spikes are punished

    The printed equation has lost the bars around ``o − 1``; with them it agrees with the published code and with A.4.

    Args:
        whole_steps: take ``⌊T/2⌋`` for ``T/2``, as the published code does (equal for even ``T``).
        label_smoothing: α of :class:`CountReward`.

    Raises:
        UserError: for an α outside [0, 1).
    """

    def __init__(self, whole_steps: bool = False, label_smoothing: Smoothing = 0.0) -> None:
        super().__init__(label_smoothing)
        self.whole_steps = whole_steps

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        half = steps // 2 if self.whole_steps else steps / 2
        right, wrong = 1 - (spikes - half).sigmoid(), -outputs * (1 - (silent - half).sigmoid())
        return self.weighed(target, right.expand_as(outputs), wrong)


class CountSoftmax(CountReward):
    """Reward of spike counts that takes the step of softmax cross-entropy in them, for spikes ``o`` ``[T, B, C]``::

        r_c[t] = y_c − softmax(n)_c          n_c = Σ_t o_c[t];  y_c is 1 for the right class, else 0

    This is Table 2, row 3 of LFP v3 with counts for outputs and, as in A.4, one value for every step, spike or not. It
    asks for a lead of a few spikes; A.4 asks for spikes in half of all steps.

    Args:
        label_smoothing: α of :class:`CountReward`; the reward is then ``y′_c − softmax(n)_c``.

    Raises:
        UserError: for an α outside [0, 1).
    """

    def of_counts(self, outputs: Tensor, target: Tensor, steps: int | Tensor, spikes: Tensor, silent: Tensor) -> Tensor:
        return smoothed(target, self.label_smoothing, outputs.dtype) - spikes.softmax(-1)


def _counts(outputs: Tensor, mask: Tensor | None) -> tuple[int | Tensor, Tensor, Tensor]:
    """``T`` (one, or ``[B, 1]``), and the steps with and without a spike of each output, ``[B, C]``."""
    if outputs.dim() != 3:
        raise ShapeError(f"a sequence reward takes spikes [T, B, C], got {tuple(outputs.shape)}")
    silent = (outputs - 1).abs()
    if mask is None:
        return len(outputs), outputs.sum(0), silent.sum(0)
    return counted(mask, outputs), outputs.sum(0), masked(silent, mask).sum(0)
