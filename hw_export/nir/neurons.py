"""NIR's neurons, which are differential equations, as neurons that step.

``τ v' = (v_leak − v) + r I`` over one step of ``dt`` in which ``I`` is constant::

    v[t] = β v[t−1] + g (r I[t] + v_leak)      g = 1 − β;   β = 1 − dt/τ ("euler")  or  exp(−dt/τ) ("exact")

With ``w = v − v_reset`` a spike (``w > v_threshold − v_reset``) resets to 0, and in units of ``g r`` this is
``U[t] = β U[t−1] + I[t] + c``, ``c = (v_leak − v_reset) / r``, ``θ = (v_threshold − v_reset) / (g r)``. Where
parameters differ between the neurons of a layer, ``w`` is measured in units of each neuron's own threshold instead,
which scales its current. NIR does not say where a membrane starts: here at ``v_reset``, a readout at 0.

``CubaLIF``: ``τ_syn i' = −i + w_in S`` becomes ``i[t] = α i[t−1] + (1 − α) w_in S[t]`` the same way, and the membrane
of a step sees the current of that step, as in snnTorch, where such files come from. ``IF``: ``v' = r I`` becomes
``v[t] = v[t−1] + k r I[t]``, ``k = 1`` or ``dt``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from hw_export.nir.dialects import leak
from spikelfp.errors import DataError

TINY, HUGE = 1e-30, 1e30
"""Thresholds beyond these are measured in units of themselves: float32, and its membranes, end at 1e±38."""


@dataclass(frozen=True)
class Step:
    """How time is cut: ``dt`` in the unit of the file's time constants, the ``scheme`` of :func:`leak`, and what an
    integrator gains, in units of ``r I``, in a step (1 or ``dt``).
    """

    dt: float
    scheme: str = "euler"
    integrator_gain: float = 1.0


@dataclass(frozen=True)
class Constants:
    """A layer of neurons: ``U[t] = β U[t−1] + Y[t]``, ``Y[t] = α Y[t−1] + scale ⊙ I[t] + shift``; fires at
    ``U > threshold``.

    alpha: 0 without a synapse. scale, shift: numbers, or arrays of the shape of the layer.
    """

    beta: float
    threshold: float
    alpha: float = 0.0
    scale: Any = 1.0
    shift: Any = 0.0


@dataclass(frozen=True)
class Readout:
    """A leaky integrator, ``v[t] = β v[t−1] + scale ⊙ I[t] + shift``; the same of several in a row."""

    beta: float
    scale: Any = 1.0
    shift: Any = 0.0


@dataclass(frozen=True)
class Parameters:
    """The parameters of one node as float64, with the name it is complained about by."""

    name: str
    node: nir.NIRNode

    def __getitem__(self, key: str) -> np.ndarray:
        return np.asarray(getattr(self.node, key), np.float64)

    def decay(self, key: str, step: Step, *, may_vanish: bool = False) -> float:
        """The one decay per step of the layer from its time constants ``key``; 0 only where it ``may_vanish``."""
        tau = self[key]
        if tau.min() != tau.max():
            raise DataError(
                f"{key} differs between the neurons {self.name!r} (from {tau.min():g} to {tau.max():g}): a layer here "
                "has one decay, so give each value a layer of its own"
            )
        first = float(tau.flat[0])
        beta = 1.0 - float(leak(first, step.dt, step.scheme))
        if abs(beta) < 1e-9:  # τ = dt, but for rounding
            beta = 0.0
        if beta < 0 or (beta == 0 and not may_vanish):
            raise DataError(
                f"the neurons {self.name!r} have {key} = {first:g}, too short for a step of dt = {step.dt:g}: one "
                "Euler step would leave no membrane. Take a smaller dt, or scheme='exact'"
            )
        if np.float32(beta) == 1:
            raise DataError(
                f"the neurons {self.name!r} have {key} = {first:g}, {first / step.dt:g} steps of dt = {step.dt:g}: in "
                "float32 they would not leak at all. Pass a larger dt, or write them as neurons without leak"
            )
        return beta


def constants(name: str, node: nir.NIRNode, step: Step) -> Constants:
    """A spiking node (LIF, IF, CubaLIF) in the units of our neurons.

    Raises :class:`~spikelfp.errors.DataError`, naming node, parameter and value, for what a layer here cannot hold:
    decays that differ, thresholds at or below ``v_reset``, and a CubaLIF that rests elsewhere than it resets.
    """
    p = Parameters(name, node)
    height = p["v_threshold"] - p["v_reset"]
    if height.min() <= 0:
        where = np.unravel_index(height.argmin(), height.shape)
        raise DataError(
            f"the neurons {name!r} have v_threshold = {p['v_threshold'][where]:g} and v_reset = "
            f"{p['v_reset'][where]:g}: a threshold must lie above the reset"
        )
    if isinstance(node, nir.IF):
        return _in_own_units(1.0, 0.0, step.integrator_gain * p["r"], height, np.zeros(()))
    rest = p["v_leak"] - p["v_reset"]
    if isinstance(node, nir.LIF):
        beta = p.decay("tau", step)
        return _in_own_units(beta, 0.0, (1.0 - beta) * p["r"], height, (1.0 - beta) * rest)
    if rest.any():
        raise DataError(
            f"the neurons {name!r} rest at another membrane (v_leak from {p['v_leak'].min():g} to "
            f"{p['v_leak'].max():g}) than they reset to (v_reset from {p['v_reset'].min():g}): with synaptic currents "
            "both must be the same here"
        )
    alpha, beta = p.decay("tau_syn", step, may_vanish=True), p.decay("tau_mem", step)
    return _in_own_units(beta, alpha, (1.0 - alpha) * p["w_in"] * (1.0 - beta) * p["r"], height, rest)


def _in_own_units(beta: float, alpha: float, gain: np.ndarray, height: np.ndarray, drift: np.ndarray) -> Constants:
    """``w[t] = β w[t−1] + gain I[t] + drift``, fires above ``height``."""
    threshold = float(height.flat[0] / gain.flat[0]) if gain.flat[0] > 0 else 0.0
    if np.ptp(gain) == 0 and np.ptp(height) == 0 and TINY < threshold < HUGE:
        shift = drift / gain if drift.any() else 0.0
        return Constants(beta, threshold, alpha, 1.0, shift)
    return Constants(beta, 1.0, alpha, gain / height, drift / height if drift.any() else 0.0)


def readouts(name: str, node: nir.NIRNode, step: Step) -> list[Readout]:
    """A node that never fires (LI, I, CubaLI) as leaky integrators in a row, membranes in the file's units; without
    time constants to speak of a decay is 0."""
    p = Parameters(name, node)
    if isinstance(node, nir.I):
        return [Readout(1.0, step.integrator_gain * p["r"])]
    if isinstance(node, nir.LI):
        return [_leaky(p, "tau", p["r"], p["v_leak"], step)]
    synapse = _leaky(p, "tau_syn", p["w_in"], np.zeros(()), step)
    return [synapse, _leaky(p, "tau_mem", p["r"], p["v_leak"], step)]


def _leaky(p: Parameters, tau: str, factor: np.ndarray, rest: np.ndarray, step: Step) -> Readout:
    beta = p.decay(tau, step, may_vanish=True)
    return Readout(beta, (1.0 - beta) * factor, (1.0 - beta) * rest)
