"""One method for the first steps of a run, another for the rest."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.methods.base import Method


class WarmUp(Method):
    """``first`` for the first ``steps`` updates, ``then`` for all others.

    The combined training of v1 (section 3.2; A.6.4) is ``WarmUp(GradientDescent(), LFP(reward), steps=100)``. A
    spiking network has no gradient to begin with: there the first method is ``GradientDescent(Surrogate())``.

    Which method it is follows from the number of the step alone, so training can stop and go on anywhere. Asked
    without a step (``rule``, ``backward``), it is ``then``.
    """

    def __init__(self, first: Method, then: Method, steps: int) -> None:
        if steps < 1:
            raise UserError(f"a warm-up takes at least one step, got {steps}")
        self.first, self.then, self.steps = first, then, steps
        self.name = f"{first.name} for {steps} steps, then {then.name}"
        self.rule, self.reduction = then.rule, then.reduction

    def at(self, step: int) -> Method:
        return self.first.at(step) if step < self.steps else self.then.at(step)

    def backward(
        self,
        outputs: Tensor,
        labels: Tensor,
        share: float = 1.0,
        mask: Tensor | None = None,
        steps: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        told: dict[str, Any] = {name: value for name, value in (("mask", mask), ("steps", steps)) if value is not None}
        return self.then.backward(outputs, labels, share, **told)
