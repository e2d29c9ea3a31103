"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spikelfp.nn.layer import as_given, check_current
from spikelfp.nn.neurons.base import Neurons


class LIF(Neurons):
    """LIF neurons (v3, eq. A.2-A.3), one for each element of a step of the input current ``[T, B, …]``::

        U[t] = β U[t−1] + I[t] − θ S[t−1]      reset "subtract", the same as snnTorch's Leaky
        U[t] = β (U[t−1] − θ S[t−1]) + I[t]    reset "immediate", as in norse, sinabs, rockpool, spikingjelly
        U[t] = β U[t−1] (1 − S[t−1]) + I[t]    reset "zero"
        S[t] = 1 if U[t] > θ else 0

    The arguments are those of :class:`~spikelfp.nn.Neurons`; the denominator is that of
    :mod:`spikelfp.functional.lif`. A β that learns is the weight on the connection of a membrane to itself, so eq. 7
    is its rule.

    Returns spikes ``[T, B, …]`` of 0 and 1, of the dtype of the current (under autocast float32). ``run`` also takes
    and returns the membrane ``[B, …]``.
    """

    def run(self, x: Tensor, state: Tensor | None = None, trace: bool = False) -> tuple[Any, Tensor]:
        """Return the spikes ``[T, B, …]`` (or their trace) and the membrane ``[B, …]`` after the last step."""
        if trace:
            whole, after = self.unfused(x, None if state is None else (state,), trace)
            return whole, after.membrane
        current, start = check_current(self, x, state)
        spikes, membrane = self.rule.lif(current, start, self.constants, self.decay)
        return as_given(spikes, x), membrane

    run._torchdynamo_disable = True  # type: ignore[attr-defined]
