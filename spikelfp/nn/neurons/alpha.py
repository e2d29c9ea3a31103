"""Neurons whose membrane is the difference of two exponentials of their input: the alpha function."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset, brief_constant, least_denominator
from spikelfp.nn.neurons.base import Decay, Neurons
from spikelfp.rules import Rule


class Alpha(Neurons):
    """Neurons whose membrane rises and falls after an input (snnTorch's Alpha)::

        E[t] = α E[t−1] + I[t]                     exciting synapse, slow
        N[t] = β N[t−1] − I[t]                     inhibiting synapse, fast: β < α
        U[t] = τ (E[t] + N[t])                     τ = 1 + ln α / (ln β − ln α)
        S[t] = 1 if U[t] > θ else 0

    An input ``I[s]`` adds ``τ (α^(t−s) − β^(t−s)) I[s]``, nothing in its own step. The step after a spike all three are
    0, and the input of that step is dropped with them: snnTorch's reset to zero. Its reset by subtraction is not
    offered: it takes θ off ``E`` (not ``θ/τ``), clears ``N`` and adds ``N[t−1]`` to a membrane that is not carried on,
    so the membrane does not fall by θ.

    The reward on a membrane is split over the two synapses, ``n[t] = R[t] / (|τ E[t]| + |τ N[t]| + ε)``, or over
    the floor (:class:`~spikelfp.nn.LIF`). These are
    linear maps, which pass messages on: ``M[t] = τ n[t] + α M[t+1]`` to E, the same with β to N, and their difference
    is the message to ``I[t]``. A reset earns no credit and blocks none. (Measured, digits, 64-32-10, 10 steps, 14
    epochs, three seeds: 0.886, 0.892, 0.925; with ``|U[t]|`` for the denominator 0.844, 0.875, 0.867.)
    Rules with ``credit="step"`` are refused in training: an input has no part in the membrane of its own step.

    Takes ``[T, B, …]``, returns spikes; ``run`` takes and returns ``(E, N, U)``, each ``[B, …]``. Runs step by step.

    Args:
        alpha: decay of the exciting synapse per step, in (0, 1] and above β.
        beta: decay of the inhibiting synapse per step, above 0.
        threshold: θ, above 0.
        reset: "zero"; others are refused.
        denominator: "inflow"; others are refused, since no membrane is carried on.
        floor: least denominator, in units of θ, as of :class:`~spikelfp.nn.LIF`.
        margin: share of θ above which a membrane earns its message, likewise.
        rule: the rule of this layer; by default the one that trains the network.

    α, β and θ are numbers, or tensors with one for each neuron.

    Raises:
        UserError: for values out of range, β that is not below α, and other resets.
    """

    states = ("excitation", "inhibition", "membrane")
    arguments: ClassVar[tuple[str, ...] | None] = (
        "alpha", "beta", "threshold", "reset", "denominator", "floor", "margin",
    )  # fmt: skip
    alpha: Any = Decay()

    def __init__(
        self,
        alpha: Constant = 0.9,
        beta: Constant = 0.8,
        threshold: Constant = 1.0,
        reset: Reset = "zero",
        denominator: Denominator = "inflow",
        *,
        floor: float = FLOOR,
        margin: float = MARGIN,
        rule: Rule | None = None,
    ) -> None:
        super().__init__(beta, threshold, reset, denominator, floor=floor, margin=margin, rule=rule)
        self.alpha = alpha
        self._check()

    def _check(self) -> None:
        if self.reset != "zero":
            raise UserError(
                f"Alpha resets to zero, got reset={self.reset!r}: its membrane is computed anew from two synapses at "
                'each step, so a threshold cannot be subtracted from it; use reset="zero"'
            )
        if self.denominator != "inflow":
            raise UserError(f"Alpha carries no membrane on, so its denominator is 'inflow', got {self.denominator!r}")
        try:
            above = torch.as_tensor(self.beta) >= torch.as_tensor(self.alpha)
        except RuntimeError:  # the shapes do not broadcast: the run names the shape that is needed
            return
        if bool(above.any()):
            raise UserError(
                "beta, the decay of the inhibiting synapse, is below alpha for Alpha, or its input would pull the "
                f"membrane down, got alpha={brief_constant(self.alpha)}, beta={brief_constant(self.beta)}"
            )

    def values(self, step: Tensor, x: Tensor) -> Any:
        self._check()
        p = super().values(step, x)
        slow, fast = torch.as_tensor(p.alpha, dtype=torch.float64), torch.as_tensor(p.beta, dtype=torch.float64)
        tau = 1 + slow.log() / (fast.log() - slow.log())
        p.tau = tau.to(step.device, step.dtype) if tau.dim() else float(tau)
        return p

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        if self.rule.forward_in_time and current.requires_grad and torch.is_grad_enabled():
            raise UserError(
                'Alpha neurons cannot learn with credit="step": an input adds nothing to the membrane of its own step, '
                'so no credit of that step is its; use credit="scan", or Synaptic neurons'
            )
        over = state.membrane.detach() > p.threshold
        survive = self.rule.survive
        excitation = p.alpha * state.excitation + current
        excitation = survive(excitation, excitation.masked_fill(over, 0))
        inhibition = p.beta * state.inhibition - current
        inhibition = survive(inhibition, inhibition.masked_fill(over, 0))
        flows = [p.tau * excitation, p.tau * inhibition]
        membrane = self.rule.inflow(flows, [flow.detach() for flow in flows], least_denominator(p.floor, p.threshold))
        return self.fire(membrane, p.threshold), (excitation, inhibition, membrane)
