"""Task of one class for each sample."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from spikelfp.errors import ShapeError, UserError
from spikelfp.options import NOT_AN_OPTION
from spikelfp.registry import Registry, check_name
from spikelfp.rewards import Reward, Softmax, SpikeSequence
from spikelfp.rewards.base import (
    Smoothing,
    check_classes,
    check_outputs,
    check_smoothing,
    class_numbers,
    masked,
    one_hot,
    smoothed,
    takes,
)
from spikelfp.tasks.base import (
    Judge,
    Task,
    binary_slope,
    check_pair,
    check_samples,
    read,
    smallest,
    step_shares,
    step_weights,
    tasks,
)

if TYPE_CHECKING:
    from spikelfp.data.samples import TargetScale


def rate_cross_entropy(
    outputs: Tensor, labels: Tensor, weights: Tensor | None = None, *, label_smoothing: Smoothing = 0.0
) -> Tensor:
    """Compute the softmax cross-entropy at every step, averaged over steps and batch.

    This is the loss of LFP v3, A.6.4, and snnTorch's ``ce_rate_loss``.

    Args:
        outputs: ``[T, B, C]``.
        labels: classes ``[B]``.
        weights: of each step ``[T, B]``, for a weighted sum in place of the mean.
        label_smoothing: α; targets are then ``(1 − α) y_c + α / C``.

    Raises:
        ShapeError: for labels that are no classes.
        UserError: for an α outside [0, 1).
    """
    _check_loss("rate", outputs, labels, weights)
    labels = class_numbers(labels, outputs.shape[-1])
    steps, repeated, alpha = outputs.flatten(0, 1), labels.repeat(len(outputs)), check_smoothing(label_smoothing)
    if weights is None:
        return cross_entropy(steps, repeated, label_smoothing=alpha)
    return (cross_entropy(steps, repeated, reduction="none", label_smoothing=alpha) * weights.flatten()).sum()


def count_cross_entropy(
    outputs: Tensor, labels: Tensor, weights: Tensor | None = None, *, label_smoothing: Smoothing = 0.0
) -> Tensor:
    """Compute the softmax cross-entropy of the numbers of spikes ``n_c = Σ_t o_c[t]``, averaged over the batch.

    This is snnTorch's ``ce_count_loss``.

    Args:
        outputs: ``[T, B, C]``.
        labels: classes ``[B]``.
        weights: of each step ``[T, B]``, above 0 at those that count; the weight of a sample is the sum over its steps.
        label_smoothing: α; targets are then ``(1 − α) y_c + α / C``.

    Raises:
        ShapeError: for labels that are no classes.
        UserError: for an α outside [0, 1).
    """
    _check_loss("count", outputs, labels, weights)
    labels, alpha = class_numbers(labels, outputs.shape[-1]), check_smoothing(label_smoothing)
    if weights is None:
        return cross_entropy(outputs.sum(0), labels, label_smoothing=alpha)
    counts = masked(outputs, weights > 0).sum(0)
    return (cross_entropy(counts, labels, reduction="none", label_smoothing=alpha) * weights.sum(0)).sum()


def binary_cross_entropy(
    outputs: Tensor, labels: Tensor, weights: Tensor | None = None, *, label_smoothing: Smoothing = 0.0
) -> Tensor:
    """Compute the binary cross-entropy of each output's sigmoid at every step, averaged over classes, steps and batch.

    This is the loss of the F³ paper (004, section 4.1), with one-hot classes ``y``, for outputs before the sigmoid::

        L = −(1/C) Σ_c [ y_c log σ(o_c) + (1 − y_c) log(1 − σ(o_c)) ]

    Args:
        outputs: ``[T, B, C]``.
        labels: classes ``[B]``.
        weights: of each step ``[T, B]``, for a weighted sum in place of the mean over steps and batch.
        label_smoothing: α; targets are then ``(1 − α) y_c + α / C``.

    Raises:
        ShapeError: for labels that are no classes.
        UserError: for an α outside [0, 1).
    """
    _check_loss("bce", outputs, labels, weights)
    right, alpha = one_hot(labels, outputs.shape[-1]), check_smoothing(label_smoothing)
    target = smoothed(right, alpha, outputs.dtype).expand_as(outputs)
    if weights is None:
        return binary_cross_entropy_with_logits(outputs, target)
    steps = binary_cross_entropy_with_logits(masked(outputs, weights > 0), target, reduction="none").mean(-1)
    return (steps * weights).sum()


def _check_loss(name: str, outputs: Tensor, labels: Tensor, weights: Tensor | None) -> None:
    """Refuse outputs, labels and weights of other shapes, some of which torch would broadcast.

    Raises:
        ShapeError: with the shapes.
    """
    check_outputs(f"the loss {name}", outputs)
    check_classes(f"the loss {name}", outputs, labels)
    if outputs.dim() != 3:
        raise ShapeError(
            f"the loss {name} takes outputs [T, B, C], got {list(outputs.shape)}: outputs.unsqueeze(0) are those of "
            "one step"
        )
    if weights is not None and (not isinstance(weights, Tensor) or weights.shape != outputs.shape[:2]):
        got = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise ShapeError(
            f"the weights of the loss {name} are those of steps and samples, a tensor {list(outputs.shape[:2])} here, "
            f"got {got}; classes have no weights"
        )


def _cross_slope(predicted: Tensor, expected: Tensor) -> Tensor:
    """Slope ``y*/ŷ`` of ``L = −Σ_c y*_c log ŷ_c``."""
    return expected / predicted.clamp(min=smallest(predicted))


losses: Registry[Callable[..., Tensor]] = Registry("loss of classes", takes=("outputs", "labels", "weights"))
"""Losses of classes, by name: functions ``(outputs [T, B, C], labels [B])``, as those above.

Facts that a loss may be registered with, ``losses.register("mine", link="sigmoid")``:

* ``link``, ``"softmax"`` or ``"sigmoid"``: what makes predictions of its outputs (:meth:`Classification.predicted`).
* ``reads``, ``"steps"`` or ``"sum"``: whether it is a mean over the steps, or a function of the outputs summed over
  them. With ``reads`` and an argument ``weights`` it is evaluated a chunk of steps at a time.
* ``slope``: function ``(predicted [B, C], expected [B, C])``, the negative derivative of the loss of each sample by its
  prediction, ``[B, C]`` (:meth:`Classification.slope`). Options of the loss that it has an argument for are handed in.
* ``meaning``: the loss in words.
"""
losses.register(
    "rate", reads="steps", link="softmax", slope=_cross_slope, meaning="softmax cross-entropy, averaged over steps"
)(rate_cross_entropy)
losses.register(
    "count", reads="sum", link="softmax", slope=_cross_slope, meaning="softmax cross-entropy of the spike counts"
)(count_cross_entropy)
losses.register(
    "bce",
    reads="steps",
    link="sigmoid",
    slope=binary_slope,
    meaning="binary cross-entropy of the sigmoid of each output, averaged over classes and steps",
)(binary_cross_entropy)

DEFAULT_LOSS = "rate"
"""Name of the loss of classes where none is given."""


def without_smoothing(loss: Any) -> Any:
    """Return the loss of a ``functools.partial`` that adds label smoothing alone; anything else as it is.

    Evaluations measure this loss: how well a network tells classes apart does not depend on what it was taught by.
    """
    alone = isinstance(loss, functools.partial) and not loss.args and set(loss.keywords) == {"label_smoothing"}
    return loss.func if alone else loss


LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda outputs: outputs.softmax(-1),
    "sigmoid": torch.sigmoid,
}
"""Functions that make predictions of outputs ``[…, C]``, by name."""

READS = ("steps", "sum")
"""Readings that a loss of classes may be a function of: the outputs of every step, or their sum."""


def adds_up(name: str) -> str | None:
    """Return what the loss ``name`` reads, of :data:`READS`, if it can be added up over chunks; else ``None``."""
    reads = losses.fact(name, "reads")
    if reads is None or not takes(losses[name], "weights"):
        return None
    return check_name(f"reading of the loss {name}", reads, READS)


@tasks.register("classification")
class Classification(Task):
    """Task of telling classes apart: the largest output, summed over the steps that count, names the class (v3, A.6.4).

    Targets are class numbers ``[B]``. A reward that decides otherwise, such as :class:`~spikelfp.rewards.Binary` by the
    sign of a single output, is asked.

    Args:
        loss: a name of :data:`losses`: ``rate``, the softmax cross-entropy of every step, ``count``, that of the
            outputs summed over the steps, ``bce``, the binary cross-entropy of each output of every step, or one that
            was registered.

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

    def __init__(self, loss: Annotated[str, NOT_AN_OPTION] = DEFAULT_LOSS) -> None:
        self.loss_name = check_name("loss", loss, losses)
        self._reward: Reward | None = None
        self._options: dict[str, Any] = {}
        self._stranger: Callable[..., Tensor] | None = None

    def arguments(self) -> dict[str, Any]:
        return {"loss": self.loss_name}

    def by(self, reward: Reward | None) -> Classification:
        own = copy.copy(self)
        own._reward = reward
        return own

    def of_loss(self, loss: Callable[..., Tensor] | None) -> Classification:
        """Return the task with the loss that a method descends, which makes its predictions and their slopes.

        Args:
            loss: one of :data:`losses`, also with options in a ``functools.partial``; of another function nothing is
                known, and predictions are refused. ``None``: that of the task.
        """
        bound = getattr(loss, "__self__", None)
        if loss is None or isinstance(bound, Task):
            return self
        plain = getattr(loss, "func", loss)
        name = next((name for name in losses if losses[name] is plain), None)
        own = copy.copy(self)
        own.loss_name = self.loss_name if name is None else name
        own._options = dict(getattr(loss, "keywords", {}))
        own._stranger = loss if name is None else None
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
        return losses[self.loss_name](outputs, targets, weights, **self._options)

    def reward(self, spikes: bool) -> Reward:
        """Make ``SpikeSequence`` for spikes (LFP v3, A.4), ``Softmax`` for real values (Table 2, row 3)."""
        return SpikeSequence() if spikes else Softmax()

    def judge(self, targets: Tensor | None, mask: Tensor | None, steps: int, samples: int, loss: bool = False) -> Judge:
        return _ClassJudge(self, targets, mask, steps, samples, loss)

    def metrics(self, sums: dict[str, Tensor], scale: TargetScale | None = None) -> dict[str, float]:
        return {"accuracy": float(sums["correct"]) / float(sums["samples"])} if "correct" in sums else {}

    @property
    def loss_meaning(self) -> str:
        return losses.fact(self.loss_name, "meaning") or self.loss_name

    def expected(self, targets: Tensor, outputs: Tensor) -> Tensor:
        """Make one-hot classes ``[B, C]`` (:meth:`Task.expected`)."""
        check_samples(self.name, targets, outputs)
        return one_hot(targets.to(outputs.device), outputs.shape[-1]).to(outputs.dtype)

    def predicted(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict a value for each class (:meth:`Task.predicted`): by the link of the loss, ``softmax`` or ``σ``.

        The prediction of a loss of every step (``rate``, ``bce``) is the mean of ``link(o[t])`` over the steps that
        count; that of ``count`` is ``softmax(Σ_t o[t])``.
        """
        link = self._told("link", 'register it with its link, losses.register("…", link="softmax") or "sigmoid"')
        function = LINKS[check_name(f"link of the loss {self.loss_name}", link, LINKS)]
        if losses.fact(self.loss_name, "reads") == "sum":
            return function((outputs if mask is None else masked(outputs, mask)).sum(0))
        return read(function(outputs), step_shares("mean", mask, outputs))

    def slope(self, predicted: Tensor, expected: Tensor) -> Tensor:
        """Compute the slope of the loss (:meth:`Task.slope`), for one-hot classes or a distribution ``y*``::

            −∂L/∂ŷ_c = y*_c / ŷ_c                                     L = −Σ_c y*_c log ŷ_c        (rate, count)
            −∂L/∂ŷ_c = (y*_c − ŷ_c) / (C ŷ_c (1 − ŷ_c))               L = BCE, mean over classes   (bce)

        Denominators are at least 1e-12, as in torch's ``binary_cross_entropy``.
        """
        check_pair(predicted, expected)
        function = self._told("slope", 'register it with that, losses.register("…", link=…, slope=function)')
        options = {name: value for name, value in self._options.items() if takes(function, name)}
        if len(options) < len(self._options):
            left = ", ".join(self._options.keys() - options)
            raise UserError(f"the slope of the loss {self.loss_name} has no argument for its {left}: give it one")
        return function(predicted, expected, **options)

    def _told(self, fact: str, cure: str) -> Any:
        """Return a fact of the loss, which a loss of the user's need not have."""
        if self._stranger is not None:
            name = getattr(self._stranger, "__name__", type(self._stranger).__name__)
            raise UserError(
                f"the loss {name} is a function that does not tell its {fact}, which this method needs: {cure}, and "
                "name it"
            )
        if type(self).loss is not Classification.loss:
            self._no_errors()
        found = losses.fact(self.loss_name, fact)
        if found is None:
            raise UserError(f"the loss {self.loss_name} does not tell its {fact}, which this method needs: {cure}")
        return found

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
        if not self.loss or adds_up(self.task.loss_name) != "steps" or self._unjudged():
            return
        whole = self.mask
        if whole is None:
            whole = torch.ones(self.steps, self.samples, dtype=torch.bool, device=outputs.device)
        weights = step_weights(whole, outputs.dtype)[start : start + len(outputs)] * self.samples
        loss = losses[self.task.loss_name](outputs, self.targets, weights=weights)
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
            loss, summed = self._loss, self.reading()
            if loss is None and adds_up(self.task.loss_name) == "sum":
                each = summed.new_ones(1, self.samples)
                loss = losses[self.task.loss_name](summed.unsqueeze(0), self.targets, weights=each)
            if loss is not None:
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
