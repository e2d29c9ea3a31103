"""Task of one class for each sample."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from spikelfp.errors import ShapeError, UserError
from spikelfp.options import NOT_AN_OPTION
from spikelfp.registry import Registry, check_name
from spikelfp.rewards import Reward, Softmax, SpikeSequence
from spikelfp.rewards.base import class_numbers, masked
from spikelfp.tasks.base import Judge, Task, step_weights, tasks

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale


def rate_cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the softmax cross-entropy at every step, averaged over steps and batch.

    This is the loss of LFP v3, A.6.4, and snnTorch's ``ce_rate_loss``.

    Args:
        outputs: ``[T, B, C]``.
        labels: classes ``[B]``.
        weights: of each step ``[T, B]``, for a weighted sum in place of the mean.

    Raises:
        ShapeError: for labels that are no classes.
    """
    labels = class_numbers(labels, outputs.shape[-1])
    steps, repeated = outputs.flatten(0, 1), labels.repeat(len(outputs))
    if weights is None:
        return cross_entropy(steps, repeated)
    return (cross_entropy(steps, repeated, reduction="none") * weights.flatten()).sum()


def count_cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the softmax cross-entropy of the numbers of spikes ``n_c = Σ_t o_c[t]``, averaged over the batch.

    This is snnTorch's ``ce_count_loss``.

    Args:
        outputs: ``[T, B, C]``.
        labels: classes ``[B]``.
        weights: of each step ``[T, B]``, above 0 at those that count; the weight of a sample is the sum over its steps.

    Raises:
        ShapeError: for labels that are no classes.
    """
    labels = class_numbers(labels, outputs.shape[-1])
    if weights is None:
        return cross_entropy(outputs.sum(0), labels)
    counts = masked(outputs, weights > 0).sum(0)
    return (cross_entropy(counts, labels, reduction="none") * weights.sum(0)).sum()


losses: Registry[Callable[..., Tensor]] = Registry("loss of classes", takes=("outputs", "labels", "weights"))
"""Losses of classes, by name: functions ``(outputs [T, B, C], labels [B])``, as those above."""
losses.register("rate")(rate_cross_entropy)
losses.register("count")(count_cross_entropy)


@tasks.register("classification")
class Classification(Task):
    """Task of telling classes apart: the largest output, summed over the steps that count, names the class (v3, A.6.4).

    Targets are class numbers ``[B]``. A reward that decides otherwise, such as :class:`~spikelfp.rewards.Binary` by the
    sign of a single output, is asked.

    Args:
        loss: a name of :data:`losses`: ``rate``, the softmax cross-entropy of every step, ``count``, that of the
            outputs summed over the steps, or one that was registered.

    Raises:
        UnknownNameError: for a loss that is not known.
    """

    name = "classification"
    score = "accuracy"
    title = "accuracy"
    meaning = "share of samples whose right class has the largest output"
    kind = "classes"
    has_classes = True
    reads_spikes = True

    def __init__(self, loss: Annotated[str, NOT_AN_OPTION] = "rate") -> None:
        self.loss_name = check_name("loss", loss, losses)
        self._reward: Reward | None = None

    def arguments(self) -> dict[str, Any]:
        return {"loss": self.loss_name}

    def by(self, reward: Reward | None) -> Classification:
        own = copy.copy(self)
        own._reward = reward
        return own

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
        if not are_classes(targets):
            hint = "y.long() if they are classes"
            if targets.dim() == 2 and not targets.is_floating_point():
                hint = "y[:, 0] if they are classes"
            if targets.dim() == 2 and targets.shape[1] > 1:
                hint = 'y.argmax(1) for one-hot rows, task="multi-label" for sets of labels'
            if targets.is_floating_point():
                hint += ', task="regression" for real values'
            raise ShapeError(
                f"{of or self.name} takes class numbers (integers, [B]) as labels, got {targets.dtype} of shape "
                f"{list(targets.shape)}: {hint}"
            )
        own = self._reward is not None and type(self._reward).target is not Reward.target
        count = max(outputs.shape[-1], 2) if own else outputs.shape[-1]  # of a single output the sign may decide
        known = (targets if whole is None else whole).long()  # in few bits every label is below 256
        outside = (known < 0) | (known >= count)
        if outside.any():
            index = int(outside.nonzero()[0])
            raise ShapeError(
                f"label {int(known[index])} of sample {first + index} is outside 0 to {count - 1}: the network has "
                f"{outputs.shape[-1]} outputs"
            )

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        return losses[self.loss_name](outputs, targets, weights)

    def reward(self, spikes: bool) -> Reward:
        """Make ``SpikeSequence`` for spikes (LFP v3, A.4), ``Softmax`` for real values (Table 2, row 3)."""
        return SpikeSequence() if spikes else Softmax()

    def judge(self, targets: Tensor | None, mask: Tensor | None, steps: int, samples: int, loss: bool = False) -> Judge:
        return _ClassJudge(self, targets, mask, steps, samples, loss)

    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        return {"accuracy": float(sums["correct"]) / float(sums["samples"])} if "correct" in sums else {}

    @property
    def loss_meaning(self) -> str:
        text = {"rate": ", averaged over steps", "count": " of the spike counts"}
        return f"softmax cross-entropy{text[self.loss_name]}" if self.loss_name in text else self.loss_name

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class of samples, as the reward does it.

        Args:
            scores: outputs summed over the steps, ``[B, C]``.

        Returns:
            Class numbers ``[B]``.

        Raises:
            UserError: where outputs are no classes.
        """
        if self._reward is not None:
            return self._reward.classes(scores)
        if scores.shape[-1] < 2:
            raise UserError(
                "a network with a single output has no largest one to name a class: rewards.Binary decides by its "
                'sign, and task="regression" is for real values; predict(X, scores=True) gives the output'
            )
        return scores.argmax(-1)


class _ClassJudge(Judge):
    """Outputs summed over the steps that count, and the loss, of every step or of the sum."""

    task: Classification
    _summed: Tensor | None = None
    _loss: Tensor | None = None

    def add(self, outputs: Tensor, start: int) -> None:
        mask = self._mask(start, len(outputs))
        own = (outputs if mask is None else masked(outputs, mask)).sum(0)
        self._summed = own if self._summed is None else self._summed + own
        if not self.loss or self.task.loss_name != "rate" or self._unjudged():
            return
        whole = self.mask
        if whole is None:
            whole = torch.ones(self.steps, self.samples, dtype=torch.bool, device=outputs.device)
        weights = step_weights(whole, outputs.dtype)[start : start + len(outputs)] * self.samples
        loss = rate_cross_entropy(outputs, self.targets, weights)  # type: ignore[arg-type]
        self._loss = loss if self._loss is None else self._loss + loss

    def reading(self) -> Tensor:
        assert self._summed is not None
        return self._summed

    def predictions(self) -> Tensor:
        return self.task.classes(self.reading())

    def sums(self) -> dict[str, Tensor]:
        assert self.targets is not None
        if not are_classes(self.targets):
            return {}
        right = (self.predictions() == self.targets).sum()
        found = {"samples": torch.full_like(right, self.samples), "correct": right}
        if self.loss and not self._unjudged():
            loss = self._loss
            if loss is None and self.task.loss_name != "count":
                return found
            if loss is None:
                labels = class_numbers(self.targets, self.reading().shape[-1])
                loss = cross_entropy(self.reading(), labels, reduction="sum")
            found["loss"] = loss.double()
        return found

    def _unjudged(self) -> bool:
        """Whether a cross-entropy has no meaning: for targets that are no classes, and for a single output."""
        assert self.targets is not None
        assert self._summed is not None
        return not are_classes(self.targets) or self._summed.shape[-1] < 2


def are_classes(labels: Tensor) -> bool:
    """Whether labels are class numbers, integers ``[B]``, so that samples can be right or wrong."""
    return labels.dim() == 1 and not labels.is_floating_point() and not labels.is_complex()
