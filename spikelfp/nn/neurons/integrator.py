"""Leaky integrator: the membrane itself as output."""

from __future__ import annotations

from torch import Tensor

from spikelfp.kernels.leaky import LeakyIntegration
from spikelfp.nn.layer import Layer, as_given, check_current
from spikelfp.nn.neurons.base import Decay
from spikelfp.rules import Rule


class LI(Layer):
    """Leaky integrators, one for each element of a step of the input current ``[T, B, …]``; they never fire::

        U[t] = β U[t−1] + I[t]

    beta: decay per step, (0, 1]. Returns the membranes ``[T, B, …]``: linear outputs, so rewards of Table 2 suit
    them, and the reward passes as through any linear map (``M[t] = m[t] + β M[t+1]``). ``run`` also takes and
    returns the membrane ``[B, …]``. Raises :class:`~spikelfp.errors.UserError` for a β out of range.
    """

    fires = False
    has_membrane = True
    arguments = ("beta",)

    beta = Decay()

    def __init__(self, beta: float = 0.9, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.beta = beta
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Membranes ``[T, B, …]`` and the last of them, ``[B, …]``."""
        current, start = check_current(self, x, state)
        membranes = self.rule.outgoing(LeakyIntegration.apply(current, start, self.beta))
        return as_given(membranes, x), membranes[-1]

    run._torchdynamo_disable = True  # type: ignore[attr-defined]

    def extra_repr(self) -> str:
        return f"beta={self.beta}"
