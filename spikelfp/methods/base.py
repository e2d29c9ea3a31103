"""What a method of training is: where the credit of a batch comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from spikelfp.described import call_of
from spikelfp.rules import Composite, Rule

REDUCTIONS = ("mean", "sum")
"""How updates of the samples of a batch become one."""


class Method(ABC):
    """Fills ``p.grad`` of every parameter from one batch, for an optimiser that descends it.

    rule: how the layers without a rule of their own send credit back while this method trains them.
    reduction: updates of the samples of a batch are averaged, ``"mean"``, or added up, ``"sum"``.
    """

    name: str
    rule: Rule | Composite
    reduction: str = "mean"

    def __repr__(self) -> str:
        """Write the call that makes it, such as ``LFP(reward=Softmax(), rule=Epsilon())``."""
        return call_of(self)

    @abstractmethod
    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Backward pass from the outputs ``[T, B, C]``: adds ``share`` times the mean over the batch to ``p.grad``.

        share: part of a larger batch that these samples are, whose updates then add up to that of the whole. Trainers
        multiply it by the size of the batch for ``reduction="sum"``.
        mask: boolean ``[T, B]``, the steps that count; by default all. The others change nothing, as if they were not
        there: means are over a sample's own steps, then over the batch.
        steps: of sequences that come in parts (chunks), the steps of the whole that count, ``[B]`` or one number for
        all. Updates of the parts add up, and so do the means that are returned.
        Both are handed in only where they are needed.

        Returns what to watch, as scalar tensors: means over these samples, whatever their share.
        """

    def at(self, step: int) -> Method:
        """The method of step ``step`` of a run, counted from 0; the same one unless a method says otherwise."""
        return self
