"""Rewards from any metric: by difference (how much worse it is without an output), and by perturbation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.base import check_classes, class_numbers, from_front, masked, no_classes, to_front, whole_numbers
from spikelfp.rewards.global_reward import Convergence, GlobalReward, initial_reward

Metric = Callable[[Tensor, Any], Any]
"""``(predictions, labels)`` to one number for the batch, or to a score for each sample ``[B]``; larger is better."""

Reference = Literal["best", "mean"]


@runtime_checkable
class Counterfactual(Protocol):
    """A metric that knows a fast way to all its counterfactual values."""

    def counterfactuals(self, predictions: Tensor, labels: Any, classes: int) -> Tensor:
        """What :func:`counterfactuals` returns."""


def counterfactuals(metric: Metric | Counterfactual, predictions: Tensor, labels: Any, classes: int) -> Tensor:
    """``B · M`` with one prediction changed, for every prediction and class: ``[…, B, classes]``, float64.

    predictions: ``[B]`` or ``[S, B]``, integers; −1 behind the last symbol of a shorter sequence, which stays (the
    values there mean nothing). A metric with a method ``counterfactuals`` answers by itself. One that
    returns a score for each sample ``[B]`` (their mean is ``M``) is called once for every class and step, one that
    returns a single number once for every prediction and class: ``S · B · C`` calls.

    Where scores are given, those of other samples are left out: they do not depend on the class, and cancel in
    :func:`difference_reward`.
    """
    if isinstance(metric, Counterfactual):
        return metric.counterfactuals(predictions, labels, classes)
    batch, predictions = predictions.shape[-1], predictions.contiguous()
    now = evaluate(metric, predictions, labels, batch)
    values = torch.empty(*predictions.shape, classes, dtype=torch.float64, device=predictions.device)
    steps = values.reshape(-1, batch, classes)
    for s in range(len(steps)):
        for c in range(classes):
            if now.dim():
                changed = predictions.clone()
                symbols = changed.view(-1, batch)[s]
                symbols[symbols >= 0] = c
                steps[s, :, c] = evaluate(metric, changed, labels, batch)
                continue
            for b in range(batch):
                changed = predictions.clone()
                symbols = changed.view(-1, batch)[s]
                symbols[b] = c if symbols[b] >= 0 else -1
                same = torch.equal(changed, predictions)
                steps[s, b, c] = batch * (now if same else evaluate(metric, changed, labels, batch))
    return values


def difference_reward(values: Tensor, reference: Reference = "best") -> Tensor:
    """The ``R_c`` above, of the values ``M_c`` along the last dimension, ``[…, C]`` with ``C ≥ 2``.

    Values that differ by no more than rounding (1e-9 of the largest) are equally good.
    """
    classes = values.shape[-1]
    if reference == "mean":
        return (values - values.mean(-1, keepdim=True)) * (classes / (classes - 1))
    regret = values.amax(-1, keepdim=True) - values
    best = regret <= 1e-9 * values.abs().amax(-1, keepdim=True)
    regret = regret.masked_fill(best, 0.0)
    winners = best.sum(-1, keepdim=True)
    mean_regret = regret.sum(-1, keepdim=True) / (classes - winners).clamp(min=1)
    return (mean_regret / winners).where(best, -regret)


def evaluate(metric: Callable[[Tensor, Any], Any], predictions: Tensor, labels: Any, batch: int) -> Tensor:
    """What the metric says, in float64: a scalar or ``[B]``; an error for anything else, or NaN or infinity."""
    try:
        value = torch.as_tensor(metric(predictions, labels), dtype=torch.float64, device=predictions.device)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the metric {_name(metric)} failed on the batch: {error}") from error
    if value.shape not in ((), (batch,)):
        raise ShapeError(
            f"the metric {_name(metric)} should return a number or a score for each of {batch} samples, got shape "
            f"{tuple(value.shape)}"
        )
    if not torch.isfinite(value).all():
        bad = value[~torch.isfinite(value)].flatten()[0] if value.dim() else value
        raise UserError(f"the metric {_name(metric)} returned {float(bad)}: a reward needs a finite number")
    return value


def _name(metric: object) -> str:
    return getattr(metric, "__name__", type(metric).__name__)


def total(value: Tensor, batch: int) -> Tensor:
    """``B · M`` from what a metric returned: the scores as they are, or ``B`` times the number."""
    return value if value.dim() else batch * value


class FromMetric(GlobalReward):
    """A metric of the predictions, larger is better, as a reward for every output.

    metric: ``(predictions, labels)`` to a number for the whole batch, or to a score for each sample ``[B]``, whose mean
    is then the metric (this takes ``B`` times fewer calls). The labels are handed on as they come; a metric with a
    method ``counterfactuals`` (:class:`~spikelfp.rewards.metric.Counterfactual`) is asked once.
    window: how outcomes come from outputs ``[T, B, C]`` (or ``[B, C]``, as one step). ``None``: one prediction for each
    sample, ``[B]``, the largest output summed over all steps. A number ``W``: the sequence ``[T/W, B]`` of the largest
    outputs summed over windows of ``W`` steps, so that 1 makes every step emit a symbol.
    reference: what an outcome is compared with: the ``best`` outcome, or the ``mean`` of the alternatives.
    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward`; by default chosen by the outputs.

    The global reward ``R_c`` of each outcome is its difference reward (:mod:`spikelfp.rewards.metric`), and eq. 13
    makes it ``r_c = sign(o_c) ρ R_c``. All steps behind one outcome get the same ``R_c``. For real-valued outputs the
    default is ``r_c = o_c ρ R_c`` with the softmax ``ρ`` of each step. For spikes it is ``r_c[t] = ρ R_c`` at every
    step, spike or no spike, with the ``ρ`` of A.4 from the spikes of the window: where A.4 has 1 and −1 for right and
    wrong classes, there stands what the metric says each class is worth.

    With a mask windows are made of the steps that count alone, and the metric finds −1 behind the last symbol of a
    shorter sequence.

    Raises :class:`~spikelfp.errors.ShapeError` for outputs of another shape, fewer than two classes, ``T`` that is not
    a multiple of ``W``, or labels of another length.
    """

    def __init__(
        self,
        metric: Metric | Counterfactual,
        *,
        window: int | None = None,
        reference: Reference = "best",
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        if window is not None and window < 1:
            raise UserError(f"a window holds at least one step, got {window}")
        check_name("reference", reference, get_args(Reference))
        self.metric, self.window, self.reference = metric, window, reference

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """The labels as they are, one for each sample."""
        name = type(self).__name__
        if outputs.dim() not in (2, 3) or outputs.shape[-1] < 2:
            raise ShapeError(f"{name} takes outputs [T, B, C] or [B, C] of two or more classes, got {_shape(outputs)}")
        if len(labels) != outputs.shape[-2]:
            raise ShapeError(f"{name} takes labels for {outputs.shape[-2]} samples, got {len(labels)}")
        return labels

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class with the largest sum ``[B]``; refused with a window, where a sample has several symbols."""
        if self.window is not None:
            raise no_classes(self)
        return super().classes(scores)

    def scores(self, outputs: Tensor) -> Tensor:
        """Outputs summed over each window, ``[S, B, C]``; their largest is the outcome."""
        return self._windows(outputs).sum(1)

    def predictions(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the metric is asked about: ``[B]``, or ``[T/W, B]`` with a window; mask: of the steps that count."""
        if mask is None or self.window is None:
            symbols = self.scores(outputs if mask is None else masked(outputs, mask)).argmax(-1)
            return symbols if self.window else symbols[0]
        windows, _, exist = self._counting_windows(outputs, mask)
        return windows.sum(1).argmax(-1).masked_fill(~exist, -1)

    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        """The difference rewards, ``[B, C]`` or ``[T/W, B, C]``."""
        return self._judge(self.predictions(outputs), target, outputs.shape[-1])

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        if mask is not None and self.window is not None:
            return self._of_windows(outputs, target, mask)
        windows = self._windows(outputs)
        judged = self.global_reward(outputs, target).reshape(len(windows), 1, *outputs.shape[-2:])
        return initial_reward(windows, judged, self.convergence, self.magnitude, mask).reshape(outputs.shape)

    def _of_windows(self, outputs: Tensor, target: Any, mask: Tensor) -> Tensor:
        """The reward of sequences of unequal lengths, each in windows of its own steps."""
        windows, origin, _ = self._counting_windows(outputs, mask)
        judged = self._judge(self.predictions(outputs, mask), target, outputs.shape[-1])
        rewards = initial_reward(windows, judged.unsqueeze(1), self.convergence, self.magnitude)
        return from_front(rewards.flatten(0, 1), origin)

    def _judge(self, predictions: Tensor, target: Any, classes: int) -> Tensor:
        return difference_reward(counterfactuals(self.metric, predictions, target, classes), self.reference)

    def _windows(self, outputs: Tensor) -> Tensor:
        """``[S, W, B, C]``."""
        steps = outputs.unsqueeze(0) if outputs.dim() == 2 else outputs
        if self.window and len(steps) % self.window:
            raise ShapeError(f"the outputs {_shape(outputs)} do not divide into windows of {self.window} steps")
        return steps.unflatten(0, (-1, self.window or len(steps)))

    def _counting_windows(self, outputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows ``[S, W, B, C]`` of the steps that count, where these come from, and which exist, ``[S, B]``."""
        assert self.window is not None
        steps = mask.sum(0)
        for sample in (steps % self.window).nonzero()[:1, 0].tolist():
            raise ShapeError(
                f"the {int(steps[sample])} steps of sample {sample} do not divide into windows of {self.window} steps"
            )
        front, origin = to_front(masked(outputs, mask), mask)
        windows = self._windows(front[: max(int(steps.max()), self.window)])
        exist = torch.arange(len(windows), device=mask.device).unsqueeze(-1) * self.window < steps
        return windows, origin, exist


def _shape(outputs: Tensor) -> tuple[int, ...]:
    return tuple(outputs.shape)


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


class Perturbation(GlobalReward):
    r"""A metric of raw outputs, larger is better, that needs no discrete outcomes and no derivative.

    The outputs, not the weights, are shaken by pairs of opposite Gaussian noise (evolution strategies with antithetic
    sampling: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", 2017)::

        ĝ = 1 / (2 n σ) · Σ_i ( M(o + σ ε_i) − M(o − σ ε_i) ) ε_i          ε_i ~ N(0, 1), as many as outputs
        r = o · ĝ                                                          (Theorem 1, with ĝ for −dL/do)

    ``ĝ`` estimates the gradient of the metric smoothed over ``σ``, without bias. The network itself runs once.

    metric: ``(outputs [T, B, C], labels)`` to a number for the batch, whose change is multiplied by ``B``, or to a
    score for each sample ``[B]``, whose mean is the metric. Use scores wherever a metric is a mean: the noise of the
    other samples is then no noise of this one.
    sigma: ``σ`` in units of the outputs: large enough to change the metric, small beside the outputs.
    pairs: ``n``; the metric is called ``2 n`` times. The variance of ``ĝ`` falls as ``1/n``.
    generator: of the noise; ``None`` is torch's own, which a trainer's checkpoints keep, so that a resumed run goes on
    bit for bit.
    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward` for the global reward ``R = ĝ``. The
    default magnitude gives the ``r`` above for real-valued outputs and ``r = ĝ`` for spikes, silent ones too.

    Raises :class:`~spikelfp.errors.UserError` for ``sigma`` or ``pairs`` out of range, and for a metric that returns
    anything but finite numbers.
    """

    def __init__(
        self,
        metric: Metric,
        sigma: float = 1.0,
        pairs: int = 16,
        *,
        generator: torch.Generator | None = None,
        convergence: str | Convergence | None = "none",
        magnitude: bool | None = None,
    ) -> None:
        super().__init__(convergence, magnitude)
        if not (math.isfinite(sigma) and sigma > 0):
            raise UserError(f"sigma must be a finite number above 0, got {sigma}")
        if pairs < 1:
            raise UserError(f"at least one pair of perturbations is needed, got {pairs}")
        self.metric, self.sigma, self.pairs, self.generator = metric, sigma, pairs, generator

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """The labels as they are, one for each sample."""
        if outputs.dim() < 2 or len(labels) != outputs.shape[-2]:
            raise ShapeError(
                f"Perturbation takes outputs [..., B, C] and labels for B samples, got {tuple(outputs.shape)} and "
                f"{len(labels)}"
            )
        return labels

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        estimate = self.global_reward(outputs, target, mask)
        return initial_reward(outputs, estimate, self.convergence, self.magnitude, mask)

    def global_reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        """``ĝ``, of the outputs' shape; the noise is 0 at the steps that do not count."""
        batch = outputs.shape[-2]
        device = outputs.device if self.generator is None else self.generator.device
        estimate = torch.zeros_like(outputs)
        for _ in range(self.pairs):
            noise = torch.randn(outputs.shape, dtype=outputs.dtype, device=device, generator=self.generator)
            noise = noise.to(outputs.device) if mask is None else masked(noise.to(outputs.device), mask)
            up = evaluate(self.metric, outputs + self.sigma * noise, target, batch)
            down = evaluate(self.metric, outputs - self.sigma * noise, target, batch)
            change = total(up - down, batch).to(outputs.dtype)
            estimate += (change.unsqueeze(-1) if change.dim() else change) * noise
        return estimate / (2 * self.pairs * self.sigma)
