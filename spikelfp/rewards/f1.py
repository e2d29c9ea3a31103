"""The F1 score as a reward: every class counts the same, however rare it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.rewards.base import check_classes, class_numbers, whole_numbers
from spikelfp.rewards.convergence import Convergence
from spikelfp.rewards.difference import Reference
from spikelfp.rewards.metric import FromMetric


class F1Score:
    """``F1_k = 2 TP_k / (P_k + L_k)`` of predictions and labels ``[B]``, averaged over all classes (macro).

    ``P_k`` and ``L_k`` count how often class ``k`` is predicted and is the label; a class that is neither counts 0
    (scikit-learn's ``f1_score(labels=range(C), average="macro", zero_division=0)``).

    positive: the F1 score of this class alone, instead.
    """

    def __init__(self, positive: int | None = None) -> None:
        self.positive = positive

    def __call__(self, predictions: Tensor, labels: Tensor, classes: int | None = None) -> Tensor:
        """The score, float64, over ``classes`` classes (default: up to the largest that occurs)."""
        labels = whole_numbers(labels)
        count = classes or 1 + max(int(predictions.max()), int(labels.max()), self.positive or 0)
        hits, sizes = _counts(predictions, labels, count)
        return self._average(2 * hits / sizes.clamp(min=1))

    def counterfactuals(self, predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
        """``B ·`` the score with one prediction changed, ``[B, classes]``, from one count of the batch."""
        batch, labels = len(labels), whole_numbers(labels)
        hits, sizes = _counts(predictions, labels, classes)
        predicted = _one_hot(predictions, classes)
        right = _one_hot(labels, classes)
        hits_without = hits - predicted * right  # [B, classes]: without the prediction of this sample
        sizes_without = sizes - predicted
        without = 2 * hits_without / sizes_without.clamp(min=1)
        chosen = 2 * (hits_without + right) / (sizes_without + 1)
        if self.positive is None:
            return batch * (without.sum(-1, keepdim=True) - without + chosen) / classes
        values = without[:, self.positive, None].repeat(1, classes)
        values[:, self.positive] = chosen[:, self.positive]
        return batch * values

    def _average(self, scores: Tensor) -> Tensor:
        return scores.mean() if self.positive is None else scores[self.positive]


class F1(FromMetric):
    """The macro F1 score of the batch as a reward (:class:`FromMetric`), for classes ``[B]``.

    A sample is worth about ``B / (C L_k)`` where ``L_k`` samples of the batch have its class: the rarer a class, the
    more each of its samples counts. Larger batches estimate the score of the data set better.

    positive: train for the F1 score of this class alone. The options are those of :class:`FromMetric`.
    """

    def __init__(
        self,
        positive: int | None = None,
        *,
        reference: Reference = "best",
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        if positive is not None and positive < 0:
            raise UserError(f"the positive class is a class number, got {positive}")
        super().__init__(F1Score(positive), reference=reference, convergence=convergence, magnitude=magnitude)
        self.positive = positive

    def target(self, outputs: Tensor, labels: Any) -> Tensor:
        check_classes("F1", outputs, labels)
        labels = class_numbers(labels, outputs.shape[-1])
        if self.positive is not None and self.positive >= outputs.shape[-1]:
            raise ShapeError(f"the positive class {self.positive} is outside the classes 0..{outputs.shape[-1] - 1}")
        return super().target(outputs, labels)


def _counts(predictions: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """True positives, and predictions plus labels, of each class; float64."""
    hits = torch.bincount(labels[predictions == labels], minlength=classes).double()
    sizes = torch.bincount(predictions, minlength=classes) + torch.bincount(labels, minlength=classes)
    return hits, sizes.double()


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).double()
