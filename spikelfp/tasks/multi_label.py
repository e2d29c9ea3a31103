"""Task of a set of labels for each sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from spikelfp.errors import ShapeError
from spikelfp.rewards import Reward
from spikelfp.tasks.base import (
    READ,
    ReadOut,
    Readout,
    TaskReward,
    binary_slope,
    check_outputs,
    check_pair,
    read,
    step_shares,
    tasks,
)

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale


@tasks.register("multi-label")
class MultiLabel(ReadOut):
    """Task of naming the labels of a sample, out of ``K``: those whose reading ``ŷ`` of a linear output lies above 0.

    Targets are 0 or 1, ``[B, K]``. The loss is the binary cross-entropy of ``σ(ŷ)``, a mean over labels and samples.
    Scores are the share of samples whose whole set is right (subset accuracy), and F1 over all labels of all samples
    (micro): ``2 TP / (2 TP + FP + FN)``, left out where there are no labels and none were found.

    Args:
        readout: ``mean`` over the steps that count, the ``last`` of them, or ``decay``, a mean that forgets.

    Raises:
        UnknownNameError: for another readout.
    """

    name = "multi-label"
    score = "subset_accuracy"
    title = "subset accuracy"
    meaning = "share of samples whose labels were all found, and no others"
    kind = "labels"

    def __init__(self, readout: Readout = "mean") -> None:
        super().__init__(readout)

    def check(
        self,
        targets: Tensor,
        outputs: Tensor,
        whole: Tensor | None = None,
        *,
        of: str = "",
        spikes: bool = False,
        first: int = 0,
    ) -> None:
        check_outputs(self.name, outputs)
        _check(targets, outputs.shape[-1])
        known = targets if whole is None else whole
        wrong = ((known != 0) & (known != 1)).nonzero()
        if len(wrong):
            hint = "" if not targets.is_floating_point() else ', or task="regression" if they are values'
            raise ShapeError(
                f"{self.name} takes 0 or 1 for each label, got {known[tuple(wrong[0])].item()} in sample "
                f"{first + int(wrong[0, 0])}: (y > 0).long(){hint}"
            )

    def fitted(self, targets: Tensor, outputs: Tensor) -> Tensor:
        _check(targets, outputs.shape[-1])
        return targets.to(outputs.dtype)

    def loss_of(self, reading: Tensor, targets: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(reading, targets, reduction="none").mean(-1)

    def predicted(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict ``σ(ŷ)``, a value in [0, 1] for each label (:meth:`Task.predicted`)."""
        self._check_loss()
        return torch.sigmoid(read(outputs, step_shares(self.reads, mask, outputs)))

    def slope(self, predicted: Tensor, expected: Tensor) -> Tensor:
        """Compute the slope of the binary cross-entropy (:meth:`Task.slope`), ``(y* − ŷ) / (K ŷ (1 − ŷ))``."""
        self._check_loss()
        check_pair(predicted, expected)
        return binary_slope(predicted, expected)

    def _check_loss(self) -> None:
        """Refuse a derived task with another loss, whose slope is not known."""
        if type(self).loss_of is not MultiLabel.loss_of or type(self).loss is not MultiLabel.loss:
            self._no_errors()

    def decided(self, reading: Tensor) -> Tensor:
        """Predict the labels, boolean ``[B, K]``."""
        return reading > 0

    def sums_of(self, reading: Tensor, targets: Tensor) -> dict[str, Tensor]:
        found, wanted = self.decided(reading), targets > 0.5
        return {
            "whole": (found == wanted).all(-1).sum(),
            "hits": (found & wanted).sum(),
            "false": (found & ~wanted).sum(),
            "missed": (~found & wanted).sum(),
        }

    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        if not sums:
            return {}
        found = {"subset_accuracy": float(sums["whole"]) / float(sums["samples"])}
        hits, wrong = float(sums["hits"]), float(sums["false"]) + float(sums["missed"])
        return found | ({"f1": 2 * hits / (2 * hits + wrong)} if hits + wrong else {})

    @property
    def loss_meaning(self) -> str:
        return f"binary cross-entropy of the {READ[self.reads]}"

    def reward(self, spikes: bool) -> Reward:
        self.outputs_suit(spikes)
        return TaskReward(self)


def _check(targets: Tensor, count: int) -> None:
    if targets.dim() != 2 or targets.shape[1] != count or targets.is_complex():
        hint = "" if targets.dim() == 2 else ': one row for each sample, or task="classification" for one class each'
        raise ShapeError(
            f"multi-label takes targets [B, {count}] of 0 or 1 for a network with {count} outputs, got {targets.dtype} "
            f"of shape {list(targets.shape)}{hint}"
        )
