"""One method for the first steps of a run, another for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module

from spikelfp.errors import UserError
from spikelfp.methods.base import Batch, Method
from spikelfp.tasks import Task


class WarmUp(Method):
    """Method ``first`` for the first ``steps`` updates, ``then`` for all others (v1, section 3.2; A.6.4).

    The combined training of v1 is ``WarmUp(GradientDescent(), LFP(reward), steps=100)``. A spiking network has no
    gradient to begin with: there the first method is ``GradientDescent(Surrogate())``.

    Only the number of the step decides between them, so training can be resumed anywhere. Without a step (``rule``,
    ``learn``, ``backward``) the method is ``then``.

    Args:
        first: method of the first steps.
        then: method of the steps after them.
        steps: number of the first steps, at least 1.

    Raises:
        UserError: for fewer steps than 1.
    """

    def __init__(self, first: Method, then: Method, steps: int) -> None:
        if steps < 1:
            raise UserError(f"a warm-up takes at least one step, got {steps}")
        self.first, self.then, self.steps = first, then, steps
        self.name = f"{first.name} for {steps} steps, then {then.name}"
        self.rule, self.reduction = then.rule, then.reduction

    def suit(self, net: Module, task: Task) -> None:
        self.first.suit(net, task)
        self.then.suit(net, task)
        self.rule = self.then.rule

    def prepare(self, net: Module) -> None:
        self.first.prepare(net)
        self.then.prepare(net)

    def begin_training(self, samples: str, drawn: bool) -> None:
        for part in (self.first, self.then):
            part.begin_training(samples, drawn)

    def parts(self) -> list[Method]:
        return [*self.first.parts(), *self.then.parts()]

    def last_part(self) -> Method:
        return self.then.last_part()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both methods, where they have one."""
        both = {"first": self.first.state_dict(), "then": self.then.state_dict()}
        return {name: state for name, state in both.items() if state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        before, known = self.first.state_dict(), ("first", "then")
        for name in state:
            if name not in known or not isinstance(state[name], Mapping):
                raise UserError(f"{name} is not of this method")
        self.first.load_state_dict(state.get("first", {}))
        try:
            self.then.load_state_dict(state.get("then", {}))
        except Exception:
            self.first.load_state_dict(before)
            raise

    def learn(self, net: Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.then.learn(net, batch)

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
        options: dict[str, Any] = {"mask": mask, "steps": steps}
        options = {name: value for name, value in options.items() if value is not None}
        return self.then.backward(outputs, labels, share, **options)
