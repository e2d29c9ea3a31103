"""Recurrently connected LIF neurons whose threshold rises with every spike."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset
from spikelfp.nn.layer import Layer
from spikelfp.nn.neurons.alif import ALIF, Rise
from spikelfp.nn.neurons.base import Decay
from spikelfp.nn.neurons.recurrent_lif import RecurrentLIF
from spikelfp.rules import Rule


class RecurrentALIF(RecurrentLIF):
    """Adaptive LIF neurons whose spikes return to the layer one step later, the LSNN of Bellec et al. 2018
    (arXiv:1803.09574; 2020, eq. 6 and 9-10)::

        I[t] = X[t] + V S[t−1] + c                V, c: weight and bias of ``recurrent``
        U[t] = β U[t−1] + I[t] − θ S[t−1]
        A[t] = θ + φ a[t]                         threshold of step t
        S[t] = 1 if U[t] > A[t] else 0
        a[t+1] = ρ a[t] + S[t]                    adaptation; 0 at rest

    or with another reset of :class:`~spikelfp.nn.LIF`. Reward goes as in :class:`~spikelfp.nn.RecurrentLIF`; thresholds
    earn none under LFP (:class:`~spikelfp.nn.ALIF`).

    Takes ``[T, B, …]``, returns spikes; ``run`` takes and returns ``(S, U, a)``, each ``[B, …]``, ``a`` being that of
    the next step. Runs step by step.

    Args:
        recurrent: a layer, or a number of neurons, as of :class:`~spikelfp.nn.RecurrentLIF`.
        beta: decay of the membrane per step, as of :class:`~spikelfp.nn.Neurons`.
        threshold: θ, the threshold at rest, above 0.
        reset: effect of a spike on the membrane, "subtract", "immediate" or "zero".
        denominator: normalisation of the reward on a membrane, "inflow" or "increment".
        rho: decay of the adaptation per step, (0, 1]; ``exp(−Δt/τ_a)``.
        phi: rise of the threshold by a spike, 0 or more, in units of the membrane.
        floor: least denominator of that reward, in units of θ, as of :class:`~spikelfp.nn.Neurons`.
        margin: share of the threshold above which a membrane earns its message, likewise.
        learn_beta: whether β learns.
        learn_threshold: refused, as by :class:`~spikelfp.nn.Neurons`.
        rule: rule of this layer alone.

    β, θ, ρ and φ are numbers, or tensors with one for each neuron.

    Raises:
        UserError: for values out of range.
        ShapeError: for connections that return another shape than their input has.
    """

    states = ALIF.states
    arguments = (*RecurrentLIF.arguments, "rho", "phi")
    rho: Any = Decay()
    phi: Any = Rise()

    def __init__(
        self,
        recurrent: Layer | int,
        beta: Constant = 0.9,
        threshold: Constant = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
        rho: Constant = 0.97,
        phi: Constant = 0.2,
        *,
        floor: float = FLOOR,
        margin: float = MARGIN,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        rule: Rule | None = None,
    ) -> None:
        super().__init__(
            recurrent, beta, threshold, reset, denominator,
            floor=floor, margin=margin, learn_beta=learn_beta, learn_threshold=learn_threshold, rule=rule,
        )  # fmt: skip
        self.rho, self.phi = rho, phi

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        fed_back = self.fed_back(p.cast(state.spikes).unsqueeze(0), current.unsqueeze(0))[0]
        membrane = self.integrate(state.membrane, p, current + fed_back, fired=state.spikes)
        spikes = self.fire(membrane, p.threshold + p.phi * state.adaptation)
        return spikes, (spikes, membrane, p.rho * state.adaptation + spikes)
