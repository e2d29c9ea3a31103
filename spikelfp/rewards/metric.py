"""Any metric of discrete outcomes as a reward, differentiable or not."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name
from spikelfp.rewards.base import no_classes
from spikelfp.rewards.convergence import Convergence
from spikelfp.rewards.difference import Counterfactual, Metric, Reference, counterfactuals, difference_reward
from spikelfp.rewards.initial import GlobalReward, initial_reward
from spikelfp.rewards.mask import from_front, masked, to_front


class FromMetric(GlobalReward):
    """A metric of the predictions, larger is better, as a reward for every output.

    metric: ``(predictions, labels)`` to a number for the whole batch, or to a score for each sample ``[B]``, whose mean
    is then the metric (this takes ``B`` times fewer calls). The labels are handed on as they come; a metric with a
    method ``counterfactuals`` (:class:`~spikelfp.rewards.difference.Counterfactual`) is asked once.
    window: how outcomes come from outputs ``[T, B, C]`` (or ``[B, C]``, as one step). ``None``: one prediction for each
    sample, ``[B]``, the largest output summed over all steps. A number ``W``: the sequence ``[T/W, B]`` of the largest
    outputs summed over windows of ``W`` steps, so that 1 makes every step emit a symbol.
    reference: what an outcome is compared with: the ``best`` outcome, or the ``mean`` of the alternatives.
    convergence, magnitude: those of :func:`~spikelfp.rewards.initial_reward`; by default chosen by the outputs.

    The global reward ``R_c`` of each outcome is its difference reward (:mod:`spikelfp.rewards.difference`), and eq. 13
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
