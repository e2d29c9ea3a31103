"""Export of leaky integrators, which never fire: NIR's LI, or I where they do not leak."""

from __future__ import annotations

from typing import Any

import nir

from hw_export.neurons.base import NeuronExport, NodeContext, exports, least, most, numbers
from spikelfp import nn
from spikelfp.errors import UserError


@exports(nn.LI)
class LIExport(NeuronExport):
    """LI node, ``τ v' = (v_leak − v) + r I``; its membranes are the output, so they stand in the units of the layer."""

    standard = True
    takes_gain = True
    takes_offset = True

    def write(self, layer: Any, at: NodeContext) -> nir.NIRNode:
        beta = numbers(layer.beta)
        if least(layer.beta) == 1.0:
            at.no_offset("which do not leak (beta=1): NIR's I has no v_leak for it")
            return nir.I(r=at.full(1.0) / at.gain, metadata={})
        if most(layer.beta) == 1.0:
            raise UserError(
                f"some of the neurons {at.name!r} do not leak (beta=1) and others do: NIR's LI would need an infinite "
                "time constant. Keep every beta below 1, or give the two layers of their own"
            )
        v_leak = at.full(at.offset) / (1.0 - beta)
        tau = at.full(at.dialect[1].tau(beta))
        return nir.LI(tau=tau, r=at.full(1.0) / ((1.0 - beta) * at.gain), v_leak=v_leak, metadata={})

    def facts(self, layer: Any, at: NodeContext) -> dict[str, Any]:
        return {"beta": numbers(layer.beta), "dt": at.dialect[1].dt}
