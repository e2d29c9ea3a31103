"""Rewards from any metric: difference rewards of discrete outcomes, the F1 score, and perturbation of the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from spikelfp.checks import whole
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.base import (
    check_classes,
    check_samples,
    class_numbers,
    from_front,
    masked,
    no_classes,
    numbers_of,
    to_front,
    whole_numbers,
)
from spikelfp.rewards.global_reward import Convergence, GlobalReward, initial_reward

Metric = Callable[[Tensor, Any], Any]
"""``(predictions, labels)`` to one number for the batch, or to a score for each sample ``[B]``; larger is better."""

Reference = Literal["best", "mean"]


@runtime_checkable
class Counterfactual(Protocol):
    """Metric that computes all its counterfactual values in a fast way of its own."""

    def counterfactuals(self, predictions: Tensor, labels: Any, classes: int) -> Tensor:
        """Compute ``B · M`` with one prediction changed, as the function :func:`counterfactuals` returns it."""


def counterfactuals(metric: Metric | Counterfactual, predictions: Tensor, labels: Any, classes: int) -> Tensor:
    """Compute ``B · M`` with one prediction changed, for every prediction and class.

    A metric with a method ``counterfactuals`` computes this itself. One that returns a score for each sample ``[B]``
    (their mean is ``M``) is called once for every class and step, one that returns a single number once for every
    prediction and class: ``S · B · C`` calls. Where there are scores, those of other samples are left out: they do not
    depend on the class, and cancel in :func:`difference_reward`.

    Args:
        metric: ``M``.
        predictions: integers ``[B]`` or ``[S, B]``; −1 after the last symbol of a shorter sequence is not changed (the
            values there mean nothing).
        labels: passed on to the metric.
        classes: number of classes, ``C``.

    Returns:
        float64 ``[…, B, C]``.

    Raises:
        UserError: for a metric that fails, or returns NaN or infinity.
        ShapeError: for a metric that returns neither a number nor a score for each sample.
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
    """Compute the difference reward ``R_c`` of every outcome: what a prediction is worth to the metric of the batch.

    For a metric ``M(predictions, labels)``, larger is better, the global reward of outcome ``c`` for sample ``b``
    compares the metric with that one prediction set to ``c``, and all else kept, with the value for a reference
    (difference rewards: Wolpert and Tumer, "Optimal payoff functions for members of collectives", 2002)::

        M_c = B · M(p with p_b := c)          g_c = max_k M_k − M_c          m outcomes are best (g_c = 0)

        reference "best" (default)      R_c = −g_c                                    what c loses to the best
                                        R_c = (mean of g over the others) / m         for the best themselves
        reference "mean"                R_c = M_c − mean of M over the alternatives

    One prediction of ``B`` moves a mean by about ``1/B``; the factor ``B`` makes the reward independent of the batch
    size. Nothing is differentiated or sampled: the values are exact, given the other predictions.

    For the accuracy "best" gives 1 for the right class and −1 for the others, so that eq. 13 of LFP v3 becomes rows 3
    and 4 of Table 2 and the sequence reward A.4 *exactly*. What is taken from worse outcomes is given to the best,
    shared where there are several: without that balance all outputs drift in one direction. "mean" gives the others
    ``−1/(C−1)``; it keeps its balance only without a convergence factor.

    Args:
        values: ``M_c`` along the last dimension, ``[…, C]`` with ``C ≥ 2``. Values that differ by no more than rounding
            (1e-9 of the largest) are equally good.
        reference: ``best`` or ``mean``.

    Returns:
        ``R_c``, ``[…, C]``.
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
    """Ask a metric, and check its answer.

    Args:
        metric: the metric.
        predictions: passed on to it.
        labels: passed on to it.
        batch: number of samples, ``B``.

    Returns:
        float64: a scalar, or a score for each sample ``[B]``.

    Raises:
        UserError: for a metric that fails, or returns NaN or infinity.
        ShapeError: for a metric that returns neither a number nor a score for each sample.
    """
    try:
        like = torch.empty((), dtype=torch.float64, device=predictions.device)
        value = numbers_of(f"the values of the metric {_name(metric)}", metric(predictions, labels), like)
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
    """Compute ``B · M`` from what a metric returned: its scores unchanged, or ``B`` times its number."""
    return value if value.dim() else batch * value


class FromMetric(GlobalReward):
    """Reward for every output from a metric of the predictions; the metric need not be differentiable.

    The global reward ``R_c`` of each outcome is its difference reward
    (:func:`~spikelfp.rewards.metric.difference_reward`), and LFP v3, eq. 13 makes it ``r_c = sign(o_c) ρ R_c``. All
    steps that belong to one outcome get its ``R_c``. For real-valued outputs the default is ``r_c = o_c ρ R_c`` with
    the softmax ``ρ`` of each step. For spikes it is ``r_c[t] = ρ R_c`` at every step, spike or no spike, with the ``ρ``
    of A.4 from the spikes of the window. A.4 has 1 and −1 for right and wrong classes; here each class has what the
    metric says it is worth.

    With a mask, windows are made of the steps that count only, and the metric finds −1 after the last symbol of a
    shorter sequence.

    Args:
        metric: ``(predictions, labels)`` to a number for the whole batch, or to a score for each sample ``[B]``, whose
            mean is then the metric (this takes ``B`` times fewer calls); larger is better. Labels are passed on as they
            come. A metric with a method ``counterfactuals`` (:class:`~spikelfp.rewards.metric.Counterfactual`) is asked
            once.
        window: steps of outputs ``[T, B, C]`` that make one outcome. ``None``: one prediction for each sample, ``[B]``,
            the largest output summed over all steps. A number ``W``: the sequence ``[T/W, B]`` of the largest outputs
            summed over windows of ``W`` steps; with 1 every step emits a symbol. Outputs ``[B, C]`` are one step.
        reference: outcome that others are compared with: the ``best`` one, or the ``mean`` of the alternatives.
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`; ``None`` chooses by
            the outputs.
        magnitude: multiply the reward by the magnitude of the output; ``None`` chooses by the outputs.

    Raises:
        UserError: for a window below 1.
        ShapeError: when it is called with outputs of another shape, fewer than two classes, ``T`` that is not a
            multiple of ``W``, or labels of another length.
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
        if window is not None and whole("the window of a metric", window, None) < 1:
            raise UserError(f"a window holds at least one step, got {window}")
        check_name("reference", reference, get_args(Reference))
        self.metric, self.window, self.reference = metric, window, reference

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """Return the labels as they are, checked to be one for each sample."""
        name = type(self).__name__
        if outputs.dim() not in (2, 3) or outputs.shape[-1] < 2 or not len(outputs):
            raise ShapeError(f"{name} takes outputs [T, B, C] or [B, C] of two or more classes, got {_shape(outputs)}")
        check_samples(name, labels, outputs.shape[-2])
        return labels

    def classes(self, scores: Tensor) -> Tensor:
        """Choose the class with the largest sum ``[B]``; refused with a window, where a sample has several symbols."""
        if self.window is not None:
            raise no_classes(self)
        return super().classes(scores)

    def scores(self, outputs: Tensor) -> Tensor:
        """Sum the outputs over each window, ``[S, B, C]``; the largest sum is the outcome."""
        return self._windows(outputs).sum(1)

    def predictions(self, outputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict the outcomes that the metric is asked about.

        Args:
            outputs: ``[T, B, C]`` or ``[B, C]``.
            mask: of the steps that count, boolean ``[T, B]``.

        Returns:
            int64 ``[B]``, or ``[T/W, B]`` with a window.
        """
        if mask is None or self.window is None:
            symbols = self.scores(outputs if mask is None else masked(outputs, mask)).argmax(-1)
            return symbols if self.window else symbols[0]
        windows, _, exist = self._counting_windows(outputs, mask)
        return windows.sum(1).argmax(-1).masked_fill(~exist, -1)

    def global_reward(self, outputs: Tensor, target: Any) -> Tensor:
        """Compute the difference rewards, ``[B, C]`` or ``[T/W, B, C]``."""
        return self._judge(self.predictions(outputs), target, outputs.shape[-1])

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        if mask is not None and self.window is not None:
            return self._of_windows(outputs, target, mask)
        windows = self._windows(outputs)
        judged = self.global_reward(outputs, target).reshape(len(windows), 1, *outputs.shape[-2:])
        return initial_reward(windows, judged, self.convergence, self.magnitude, mask).reshape(outputs.shape)

    def _of_windows(self, outputs: Tensor, target: Any, mask: Tensor) -> Tensor:
        """Reward of sequences of unequal lengths, each in windows of its own steps."""
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
    """Macro F1 score of predictions and labels ``[B]``: the mean over classes of ``F1_k = 2 TP_k / (P_k + L_k)``.

    ``P_k`` and ``L_k`` count how often class ``k`` is predicted and is the label. A class that is neither counts 0, as
    in scikit-learn's ``f1_score(labels=range(C), average="macro", zero_division=0)``.

    Args:
        positive: class whose F1 score is taken instead of the mean.
    """

    def __init__(self, positive: int | None = None) -> None:
        self.positive = positive

    def __call__(self, predictions: Tensor, labels: Tensor, classes: int | None = None) -> Tensor:
        """Compute the score, float64, over ``classes`` classes (default: up to the largest that occurs)."""
        labels = whole_numbers(labels)
        count = classes or 1 + max(int(predictions.max()), int(labels.max()), self.positive or 0)
        hits, sizes = _counts(predictions, labels, count)
        return self._average(2 * hits / sizes.clamp(min=1))

    def counterfactuals(self, predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Compute ``B`` times the score with one prediction changed, ``[B, classes]``, from one count of the batch."""
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
    """Reward from the macro F1 score of the batch (:class:`FromMetric`), for classes ``[B]``.

    A sample is worth about ``B / (C L_k)`` where ``L_k`` samples of the batch have its class: the rarer a class, the
    more each of its samples counts. Larger batches estimate the score of the data set better.

    Args:
        positive: train for the F1 score of this class only.
        reference: outcome that others are compared with: the ``best`` one, or the ``mean`` of the alternatives.
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward`; ``None`` chooses by
            the outputs.
        magnitude: multiply the reward by the magnitude of the output; ``None`` chooses by the outputs.

    Raises:
        UserError: for a positive class below 0.
        ShapeError: when it is called with labels that are no classes, or with fewer classes than the positive one.
    """

    def __init__(
        self,
        positive: int | None = None,
        *,
        reference: Reference = "best",
        convergence: str | Convergence | None = None,
        magnitude: bool | None = None,
    ) -> None:
        if positive is not None and whole("the positive class", positive, None) < 0:
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
    """Reward from a metric of the raw outputs, larger is better; it needs no discrete outcomes and no derivative.

    The outputs, not the weights, are moved by pairs of opposite Gaussian noise (evolution strategies with antithetic
    sampling: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", 2017)::

        ĝ = 1 / (2 n σ) · Σ_i ( M(o + σ ε_i) − M(o − σ ε_i) ) ε_i          ε_i ~ N(0, 1), as many as outputs
        r = o · ĝ                                                          (LFP v3, Theorem 1, with ĝ for −dL/do)

    ``ĝ`` estimates the gradient of the metric smoothed over ``σ``, without bias. The network itself runs once.

    Args:
        metric: ``(outputs [T, B, C], labels)`` to a number for the batch, whose change is multiplied by ``B``, or to a
            score for each sample ``[B]``, whose mean is the metric. Use scores wherever a metric is a mean: noise of
            other samples then does not disturb the estimate of this one.
        sigma: ``σ``, in units of the outputs: large enough to change the metric, small beside the outputs.
        pairs: ``n``; the metric is called ``2 n`` times. The variance of ``ĝ`` falls as ``1/n``.
        generator: random generator of the noise; ``None`` is torch's own, which a trainer's checkpoints keep, so that a
            resumed run continues bit for bit.
        convergence: factor that ends the reward, as in :func:`~spikelfp.rewards.initial_reward` for the global reward
            ``R = ĝ``.
        magnitude: multiply the reward by the magnitude of the output. ``None`` gives the ``r`` above for real-valued
            outputs, and ``r = ĝ`` for spikes, silent neurons included.

    Raises:
        UserError: for ``sigma`` or ``pairs`` out of range, and when it is called with a metric that returns NaN or
            infinity.
        ShapeError: when it is called with labels of another length, or a metric that returns another shape.
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
        if whole("the number of pairs", pairs, None) < 1:
            raise UserError(f"at least one pair of perturbations is needed, got {pairs}")
        self.metric, self.sigma, self.pairs, self.generator = metric, sigma, pairs, generator

    def target(self, outputs: Tensor, labels: Any) -> Any:
        """Return the labels as they are, checked to be one for each sample."""
        if outputs.dim() < 2:
            raise ShapeError(f"Perturbation takes outputs [..., B, C], got {tuple(outputs.shape)}")
        check_samples("Perturbation", labels, outputs.shape[-2])
        return labels

    def reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        estimate = self.global_reward(outputs, target, mask)
        return initial_reward(outputs, estimate, self.convergence, self.magnitude, mask)

    def global_reward(self, outputs: Tensor, target: Any, mask: Tensor | None = None) -> Tensor:
        """Estimate ``ĝ``, of the shape of the outputs; the noise is 0 at the steps that do not count."""
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
