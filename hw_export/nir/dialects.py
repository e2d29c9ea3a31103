"""How our neuron is put into NIR's words.

NIR knows ``τ v' = −v + r I``, ``v > v_threshold`` fires, ``v := v_reset``; it stores no time step. One Euler
step of length ``dt`` with ``τ = dt / (1 − β)`` is

    v[t] = β v[t−1] + (1 − β) r I[t]

which is our ``U[t] = β U[t−1] + I[t]`` in units of ``(1 − β) r``: the same spikes if
``v_threshold = (1 − β) r θ``. Every ``r`` is therefore right, and what tells dialects apart is what an importer
makes of it.

Weights are left as they are. Scaling them by ``1 / (1 − β)`` instead, with ``v_threshold = θ``, is the same
equation too, but no longer the same float32 numbers: integer weights would be rounded on import.
"""

from __future__ import annotations

from dataclasses import dataclass

import nir
import numpy as np

from spikelfp.functional.lif import LIFParameters
from spikelfp.registry import Registry

DT = 1e-4
"""Seconds a step stands for; the one value that snnTorch's importer supports."""


@dataclass(frozen=True)
class Dialect:
    """``summary``: what it is for. ``unit_resistance``: ``r = 1``, else ``r = 1 / (1 − β)``."""

    summary: str
    unit_resistance: bool

    def lif(self, p: LIFParameters, shape: tuple[int, ...], gain: float, metadata: dict[str, object]) -> nir.LIF:
        """Neurons of ``shape`` whose currents arrive ``gain`` times too large. Parameters are full float64
        arrays: a float32 ``τ`` would already shift β.
        """
        leak = 1.0 - p.beta
        r = 1.0 if self.unit_resistance else 1.0 / leak
        ones = np.ones(shape, np.float64)
        return nir.LIF(
            tau=ones * (DT / leak),
            r=ones * r,
            v_leak=ones * 0,
            v_threshold=ones * (leak * p.threshold * gain if self.unit_resistance else p.threshold * gain),
            v_reset=ones * 0,
            metadata=metadata,
        )


DIALECTS: Registry[Dialect] = Registry("NIR dialect")
DIALECTS.register("default")(
    Dialect("r = 1, v_threshold = (1 − β) θ: read alike by importers that use r and by those that ignore it", True)
)
DIALECTS.register("std")(
    Dialect(
        "r = 1 / (1 − β), v_threshold = θ: membranes in our units; norse ignores r and cannot read it",
        False,
    )
)
