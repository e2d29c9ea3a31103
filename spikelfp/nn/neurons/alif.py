"""LIF neurons whose threshold rises with every spike."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset, check_constant
from spikelfp.nn.neurons.base import Decay, NeuronConstant, Neurons
from spikelfp.rules import Rule


class Rise(NeuronConstant):
    """Rise of a threshold, 0 or more, of each neuron or of all."""

    def __init__(self) -> None:
        super().__init__(
            lambda name, value: check_constant(
                name, value, f"{name} is a finite number of 0 or more", lambda v: (v >= 0) & (v < math.inf)
            )
        )


class ALIF(Neurons):
    """LIF neurons with an adaptive threshold (Bellec et al. 2018, arXiv:1803.09574; 2020, eq. 9-10)::

        U[t] = β U[t−1] + I[t] − θ S[t−1]
        A[t] = θ + φ a[t]                          threshold of step t
        S[t] = 1 if U[t] > A[t] else 0
        a[t+1] = ρ a[t] + S[t]                     adaptation; 0 at rest

    or with another reset of :class:`~spikelfp.nn.LIF`. A reset subtracts the threshold at rest, θ, as in Bellec 2020,
    not the raised one. Adaptation is not scaled by ``1 − ρ``: φ is the rise by one spike.

    The reward on a membrane is split as in :class:`~spikelfp.nn.LIF`. Thresholds earn no credit under LFP: they are
    compared with the membrane and do not flow into it. Under surrogate gradients the adaptation is part of the graph,
    as in the papers.

    Takes ``[T, B, …]``, returns spikes; ``run`` takes and returns ``(S, U, a)``, each ``[B, …]``, ``a`` being that of
    the next step. Runs step by step.

    Args:
        beta: decay of the membrane per step, (0, 1].
        threshold: θ, the threshold at rest, above 0.
        reset: "subtract", "immediate" or "zero".
        denominator: of the reward, as in :class:`~spikelfp.nn.LIF`.
        floor: least denominator, in units of θ, likewise.
        margin: share of the threshold above which a membrane earns its message, likewise.
        rho: decay of the adaptation per step, (0, 1]; ``exp(−Δt/τ_a)``.
        phi: rise of the threshold by a spike, 0 or more, in units of the membrane.
        learn_beta: β learns, as in :class:`~spikelfp.nn.LIF`.
        learn_threshold: refused, as in :class:`~spikelfp.nn.LIF`.
        rule: the rule of this layer; by default the one that trains the network.

    β, θ, ρ and φ are numbers, or tensors with one for each neuron.

    Raises:
        UserError: for values out of range.
    """

    states = ("spikes", "membrane", "adaptation")
    arguments = (*(Neurons.arguments or ()), "rho", "phi")
    rho: Any = Decay()
    phi: Any = Rise()

    def __init__(
        self,
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
            beta, threshold, reset, denominator,
            floor=floor, margin=margin, learn_beta=learn_beta, learn_threshold=learn_threshold, rule=rule,
        )  # fmt: skip
        self.rho, self.phi = rho, phi

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        membrane = self.integrate(state.membrane, p, current, fired=state.spikes)
        spikes = self.fire(membrane, p.threshold + p.phi * state.adaptation)
        return spikes, (spikes, membrane, p.rho * state.adaptation + spikes)
