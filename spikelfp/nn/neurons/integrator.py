"""Leaky integrator: the membrane itself as output."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.functional.lif import Constant
from spikelfp.functional.neuron import leaky_integration
from spikelfp.nn.layer import as_given, check_current
from spikelfp.nn.neurons.base import ConstantLayer, Decay
from spikelfp.rules import Rule


class LI(ConstantLayer):
    """Leaky integrators, one for each element of a step of the input current ``[T, B, …]``; they never fire::

        U[t] = β U[t−1] + I[t]

    Returns the membranes ``[T, B, …]``: linear outputs, so rewards of Table 2 suit them, and the reward passes as
    through any linear map (``M[t] = m[t] + β M[t+1]``). ``run`` also takes and returns the membrane ``[B, …]``.

    Args:
        beta: decay per step, (0, 1]; one number, or a tensor with one for each, ``[features]`` or ``[C, 1, 1]``.
        rule: the rule of this layer; by default the one that trains the network.

    Raises:
        UserError: for a β out of range.
    """

    fires = False
    has_membrane = True
    arguments = ("beta",)

    beta: Any = Decay()

    def __init__(self, beta: Constant = 0.9, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.beta = beta
        self.rule = rule

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        membrane = p.beta * state.membrane + current
        return membrane, (membrane,)

    def run(self, x: Tensor, state: Tensor | None = None, trace: bool = False) -> tuple[Any, Tensor]:
        """Return the membranes ``[T, B, …]`` (or their trace) and the last of them, ``[B, …]``."""
        if trace:
            whole, after = self.by_steps(x, None if state is None else (state,), True)
            return whole, after.membrane
        current, start = check_current(self, x, state)
        beta, local = self.constant("beta", start), self.rule.forward_in_time
        membranes = self.rule.outgoing(leaky_integration(current, start, beta, local))
        return as_given(membranes, x), membranes[-1]

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
