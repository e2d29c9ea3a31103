r"""Difference rewards: what one prediction is worth to a metric of the whole batch.

For a metric ``M(predictions, labels)``, larger is better, the global reward of outcome ``c`` for sample ``b`` compares
the metric with that one prediction set to ``c``, and all else kept, with the same for a reference (difference rewards:
Wolpert and Tumer, "Optimal payoff functions for members of collectives", 2002)::

    M_c = B · M(p with p_b := c)          g_c = max_k M_k − M_c          m outcomes are best (g_c = 0)

    reference "best" (default)      R_c = −g_c                                    what c loses to the best
                                    R_c = (mean of g over the others) / m         for the best themselves
    reference "mean"                R_c = M_c − mean of M over the alternatives

One prediction of ``B`` moves a mean by about ``1/B``; the factor ``B`` makes the reward independent of the batch size.
Nothing is differentiated or sampled: the values are exact, given the other predictions.

For the accuracy "best" gives 1 for the right class and −1 for the others, so that eq. 13 becomes rows 3 and 4 of
Table 2 and the sequence reward A.4 *exactly*. What is taken from worse outcomes is given to the best, shared where
several are: without that balance all outputs drift the same way. "mean" gives the others ``−1/(C−1)``; it keeps its
balance only without a convergence factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError

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
