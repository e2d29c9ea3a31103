"""Export of LIF neurons with a synaptic current, with and without feedback: NIR's CubaLIF."""

from __future__ import annotations

from typing import Any

import nir
import torch

from hw_export.neurons.base import LIFConstants, NodeContext, constant, exports, most, numbers
from hw_export.neurons.lif import LIFExport
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters, Reset


@exports(nn.Synaptic)
class SynapticExport(LIFExport):
    """CubaLIF node: ``τ_syn i' = −i + w_in S`` in front of the membrane, which gets the current of the same step."""

    form = (True, False)

    def write(self, layer: Any, at: NodeContext) -> nir.NIRNode:
        p: LIFParameters = layer.constants
        name, dialect = at.dialect
        at.no_offset("whose synapses sum it up; v_leak of NIR's CubaLIF acts on the membrane alone")
        if not dialect.synapses:
            raise UserError(
                f"the neurons {at.name!r} have a synaptic current, which the dialect {name!r} has no neurons for: "
                "write them in the default dialect"
            )
        if most(p.beta) == 1.0 or most(layer.alpha) == 1.0:
            raise UserError(
                f"the neurons {at.name!r} do not leak (alpha={most(layer.alpha)}, beta={most(p.beta)}): NIR's CubaLIF "
                "always does"
            )
        return dialect.cuba(p, layer.alpha, at.shape, at.gain, {})

    def facts(self, layer: Any, at: NodeContext) -> dict[str, Any]:
        return super().facts(layer, at) | {"alpha": numbers(layer.alpha)}

    def read(self, constants: LIFConstants, reset: Reset, feedback: torch.nn.Module | None) -> torch.nn.Module:
        alpha, beta, threshold = map(constant, (constants.alpha, constants.beta, constants.threshold))
        return nn.Synaptic(alpha, beta, threshold, reset)


@exports(nn.RecurrentSynaptic)
class RecurrentSynapticExport(SynapticExport):
    """A CubaLIF node, and the weights after it that lead back to it."""

    form = (True, True)

    def feedback(self, layer: Any) -> torch.nn.Module | None:
        return layer.recurrent

    def read(self, constants: LIFConstants, reset: Reset, feedback: Any) -> torch.nn.Module:
        alpha, beta, threshold = map(constant, (constants.alpha, constants.beta, constants.threshold))
        return nn.RecurrentSynaptic(feedback, alpha, beta, threshold, reset)
