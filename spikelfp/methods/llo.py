"""Training of the last block alone, the baseline of methods that teach hidden blocks."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from spikelfp.methods.base import Batch, Reduction, methods
from spikelfp.methods.feedback import BlockMethod
from spikelfp.methods.gradient import Loss
from spikelfp.options import NOT_AN_OPTION
from spikelfp.rewards import Reward
from spikelfp.rules import Composite, Rule


@methods.register("llo")
class LLO(BlockMethod):
    """Last layer only (F³, section 4.1): hidden blocks stay as they were drawn, the last block learns.

    Args:
        credit: way in which credit runs inside the last block (:class:`~spikelfp.methods.feedback.BlockMethod`).
        reward: of the outputs, for ``scan`` and ``step``; ``None``: that of the task.
        loss: of the outputs, for ``gradient`` and ``surrogate``; ``None``: that of the task.
        rule: of the layers; ``None``: the one that fits ``credit``.
        reduction: whether the updates of a batch are averaged, ``"mean"``, or added up, ``"sum"``.
    """

    words = "training of the last layer only"
    teaches = False

    def __init__(
        self,
        *,
        credit: Annotated[str | None, NOT_AN_OPTION] = None,
        reward: Reward | None = None,
        loss: Loss | None = None,
        rule: Rule | Composite | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(credit=credit, reward=reward, loss=loss, rule=rule, reduction=reduction)

    def error_of(self, outputs: Tensor, batch: Batch) -> None:
        return None
