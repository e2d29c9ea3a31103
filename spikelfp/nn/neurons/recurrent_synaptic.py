"""Recurrently connected LIF neurons with a synaptic current."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.functional import recurrent as fused
from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset
from spikelfp.nn.layer import Layer, as_given, check_current
from spikelfp.nn.neurons.base import Decay, Neurons
from spikelfp.nn.neurons.recurrent_lif import RecurrentLIF
from spikelfp.rules import Rule


class RecurrentSynaptic(RecurrentLIF):
    """Current-based LIF neurons whose spikes return to their synapses one step later (snnTorch's RSynaptic)::

        I[t] = X[t] + V S[t−1] + c                V, c: weight and bias of ``recurrent``
        Y[t] = α Y[t−1] + I[t]                    synaptic current
        U[t] = β U[t−1] + Y[t] − θ S[t−1]         S[t] = 1 if U[t] > θ else 0

    or with another reset of :class:`~spikelfp.nn.LIF`.

    The reward goes as in :class:`~spikelfp.nn.Synaptic`: ``M[t] = n[t] + α M[t+1]`` reaches ``I[t]``, and from there
    the input and, through ``recurrent``, the spikes of the step before.

    Takes ``[T, B, …]``, returns spikes; ``run`` takes and returns ``(S, Y, U)``, each ``[B, …]``. Runs as
    :class:`~spikelfp.nn.RecurrentLIF` does.

    Args:
        recurrent: a layer, or a number of neurons, as of :class:`~spikelfp.nn.RecurrentLIF`.
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

    states = ("spikes", "synapse", "membrane")
    arguments = ("recurrent", "alpha", *(Neurons.arguments or ()))

    alpha: Any = Decay()

    def __init__(
        self,
        recurrent: Layer | int,
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
            recurrent,
            beta,
            threshold,
            reset,
            denominator,
            floor=floor,
            margin=margin,
            learn_beta=learn_beta,
            learn_threshold=learn_threshold,
            rule=rule,
        )
        self.alpha = alpha

    def step(self, current: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        fed_back = self.fed_back(p.cast(state.spikes).unsqueeze(0), current.unsqueeze(0))[0]
        synapse = p.alpha * state.synapse + (current + fed_back)
        membrane = self.integrate(state.membrane, p, synapse)
        spikes = self.fire(membrane, p.threshold)
        return spikes, (spikes, synapse, membrane)

    def run(  # type: ignore[override]
        self, x: Tensor, state: tuple[Tensor, Tensor, Tensor] | None = None, trace: bool = False
    ) -> tuple[Any, tuple[Tensor, Tensor, Tensor]]:
        """Return the spikes ``[T, B, …]`` (or their trace), and ``(S, Y, U)`` of the last step, each ``[B, …]``."""
        if trace:
            return self.unfused(x, state, trace)
        fired, current, membrane = self.parts_of(state)
        given, current = check_current(self, x, current)
        given, membrane = check_current(self, given, membrane)
        p, alpha = self.constants.fitted(membrane), self.constant("alpha", current)
        kernel = fused.kernel_for(given, self.recurrent, self.rule, fired, alpha, p.beta, p.threshold)
        if kernel is None:  # connections of any kind, and every rule
            return self.unfused(x, state)
        arguments = (given, fired, membrane, current, p, alpha, self.decay)
        spikes, membrane, after = fused.run(kernel, self.recurrent, self.rule, *arguments)
        assert after is not None
        return as_given(spikes, x), (spikes[-1], after, membrane)

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
