"""LIF neurons with a synaptic current."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset
from spikelfp.functional.neuron import leaky_integration
from spikelfp.nn.layer import as_given, check_current
from spikelfp.nn.neurons.base import Decay, Neurons
from spikelfp.rules import Rule


class Synaptic(Neurons):
    """Current-based LIF neurons: each input decays in a synapse before the membrane sees it (snnTorch's Synaptic; with
    reset to zero its form with ``reset_delay=False``)::

        Y[t] = α Y[t−1] + I[t]                    synaptic current
        U[t] = β U[t−1] + Y[t] − θ S[t−1]         S[t] = 1 if U[t] > θ else 0

    or with another reset of :class:`~spikelfp.nn.LIF`.

    The reward on a membrane is split over ``β U[t−1]`` and ``Y[t]``; the synapse is a linear map, which passes
    messages on: ``M[t] = n[t] + α M[t+1]``.

    Takes ``[T, B, …]``, returns spikes; ``run`` takes and returns ``(Y, U)``, each ``[B, …]``.

    Args:
        alpha: decay of the current per step, (0, 1]: one number, or a tensor with one for each neuron.
        beta: decay of the membrane per step, as of :class:`~spikelfp.nn.Neurons`.
        threshold: membrane above which a neuron fires, likewise.
        reset: effect of a spike on the membrane, "subtract", "immediate" or "zero".
        denominator: normalisation of the reward on a membrane, "inflow" or "increment".
        floor: least denominator of that reward, in units of θ, as of :class:`~spikelfp.nn.Neurons`.
        margin: share of θ above which a membrane earns its message, likewise.
        learn_beta: whether β learns.
        learn_threshold: refused, as by :class:`~spikelfp.nn.Neurons`.
        rule: rule of this layer alone.

    Raises:
        UserError: for values out of range.
    """

    arguments = ("alpha", *(Neurons.arguments or ()))
    states = ("synapse", "membrane")
    alpha: Any = Decay()

    def __init__(
        self,
        alpha: Constant = 0.8,
        beta: Constant = 0.9,
        threshold: Constant = 1.0,
        reset: Reset = "subtract",
        denominator: Denominator = "inflow",
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
        self.alpha = alpha

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        synapse = p.alpha * state.synapse + current
        membrane = self.integrate(state.membrane, p, synapse)
        return self.fire(membrane, p.threshold), (synapse, membrane)

    def run(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, trace: bool = False) -> tuple[Any, Any]:
        """Return the spikes ``[T, B, …]`` (or their trace), and ``(Y, U)`` of the last step, each ``[B, …]``."""
        if trace:
            return self.unfused(x, state, trace)
        current, membrane = self.parts_of(state)
        given, start = check_current(self, x, current)
        currents = leaky_integration(given, start, self.constant("alpha", start), self.rule.forward_in_time)
        currents, start = check_current(self, currents, membrane)
        spikes, membrane = self.rule.lif(currents, start, self.constants, self.decay)
        return as_given(spikes, x), self.State(currents[-1], membrane)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
