"""How our neuron is put into NIR's words.

NIR knows ``τ v' = (v_leak − v) + r I``, ``v > v_threshold`` fires, ``v := v_reset``; it stores no time step. With
``v_leak = v_reset = 0``, a step of length ``dt`` is

    v[t] = β v[t−1] + (1 − β) r I[t]        β = 1 − dt/τ  (one Euler step)   or   exp(−dt/τ)  (the exact solution)

which is our ``U[t] = β U[t−1] + I[t]`` in units of ``(1 − β) r``: the same spikes if
``v_threshold = (1 − β) r θ``. Every ``r`` is therefore right, and what tells dialects apart is what an importer
makes of it.

Weights are left as they are. Scaling them by ``1 / (1 − β)`` instead, with ``r = 1`` and ``v_threshold = θ``, is the
same equation too, but no longer the same float32 numbers: integer weights would be rounded on import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import nir
import numpy as np

from hw_export.nir.metadata import plain
from spikelfp.functional.lif import LIFParameters
from spikelfp.registry import Registry, check_name

DT = 1e-4
"""Seconds a step stands for; the one value that snnTorch's importer supports."""

Scheme = Literal["euler", "exact"]
"""How a time constant becomes a decay per step."""


def leak(tau: Any, dt: float, scheme: str) -> np.ndarray:
    """``1 − β``: the part of a membrane that is lost in a step, float64.

    ``euler``: ``dt / τ``. ``exact``: ``1 − exp(−dt / τ)``.
    """
    check_name("scheme", scheme, get_args(Scheme))
    ratio = dt / np.asarray(tau, np.float64)
    return ratio if scheme == "euler" else -np.expm1(-ratio)


@dataclass(frozen=True)
class Dialect:
    """One way of writing neurons.

    summary: what it is for. resistance: ``r`` for a β. own_units: ``v_threshold = θ``, else ``(1 − β) r θ``.
    scheme, dt: how an importer turns ``τ`` into β, and the step in the unit of ``τ``. heeds_r: whether what reads
    the dialect multiplies currents by ``(1 − β) r``. synapses, offsets: whether it can hold neurons with synaptic
    currents, and with a constant current, which is a ``v_leak``.
    """

    summary: str
    resistance: Callable[[float], float]
    own_units: bool = True
    scheme: Scheme = "euler"
    dt: float = DT
    heeds_r: bool = True
    synapses: bool = True
    offsets: bool = True

    def tau(self, decay: float) -> float:
        """The time constant of a decay per step below 1."""
        return self.dt / (1.0 - decay) if self.scheme == "euler" else -self.dt / math.log(decay)

    def lif(
        self, p: LIFParameters, shape: tuple[int, ...], gain: float, metadata: dict[str, Any], offset: Any = 0.0
    ) -> nir.LIF:
        """Neurons of ``shape`` whose currents arrive ``gain`` times too large and without ``offset``, a constant part
        of them. Parameters are full float64 arrays: a float32 ``τ`` would already shift β.
        """
        ones = np.ones(shape, np.float64)
        unit = 1.0 if self.own_units else (1.0 - p.beta) * self.resistance(float(p.beta))
        return nir.LIF(
            tau=ones * self.tau(float(p.beta)),
            r=ones * self.resistance(float(p.beta)),
            v_leak=ones * (self.resistance(float(p.beta)) * gain) * offset,
            v_threshold=ones * (unit * p.threshold * gain),
            v_reset=ones * 0,
            metadata=metadata,
        )

    def cuba(
        self, p: LIFParameters, alpha: float, shape: tuple[int, ...], gain: float, metadata: dict[str, Any]
    ) -> nir.CubaLIF:
        """Neurons with a synaptic current that decays by ``alpha``, membrane and current in our units:
        ``w_in = 1 / (1 − α)``, ``r = 1 / (1 − β)``, the form that snnTorch writes and reads.
        """
        ones = np.ones(shape, np.float64)
        return nir.CubaLIF(
            tau_syn=ones * self.tau(alpha),
            tau_mem=ones * self.tau(float(p.beta)),
            r=ones / (1.0 - p.beta),
            v_leak=ones * 0,
            v_threshold=ones * p.threshold * gain,
            v_reset=ones * 0,
            w_in=ones / (1.0 - alpha),
            metadata=metadata,
        )

    def constants(self, node: nir.LIF, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """``(β, θ)`` of a LIF node as what the dialect is for reads it, float64 of the node's shape."""
        lost = leak(node.tau, dt, self.scheme)
        threshold = np.asarray(node.v_threshold, np.float64)
        return 1.0 - lost, threshold / (node.r * lost) if self.heeds_r else threshold


DIALECTS: Registry[Dialect] = Registry("NIR dialect")
DIALECTS.register("default")(
    Dialect(
        "r = 1, v_threshold = (1 − β) θ: read alike by importers that use r and by those that ignore it",
        lambda beta: 1.0,
        own_units=False,
    )
)
DIALECTS.register("std")(
    Dialect(
        "r = 1 / (1 − β), v_threshold = θ: membranes in our units; norse ignores r and cannot read it",
        lambda beta: 1.0 / (1.0 - beta),
    )
)
DIALECTS.register("sinabs")(
    Dialect(
        "τ = −1 / ln β in steps, v_threshold = θ: sinabs takes exp(−1/τ) and ignores r",
        lambda beta: 1.0 / (1.0 - beta),
        scheme="exact",
        dt=1.0,
        synapses=False,
        offsets=False,
    )
)
DIALECTS.register("rockpool")(
    Dialect(
        "τ = −dt / ln β, r = −1 / ln β − 1, v_threshold = θ: rockpool takes min(τ / (1 + r)) for the time step",
        lambda beta: -1.0 / math.log(beta) - 1.0,
        scheme="exact",
        heeds_r=False,
        synapses=False,
        offsets=False,
    )
)


def dialect_of(metadata: Mapping[str, Any]) -> Dialect | None:
    """The dialect that the metadata of a graph names, ``None`` for the file of another program."""
    name = plain(metadata.get("dialect"))
    return DIALECTS[name] if isinstance(name, str) and name in DIALECTS else None
