"""Export of LIF neurons, with and without feedback: NIR's LIF, or IF where they do not leak."""

from __future__ import annotations

from typing import Any

import nir
import torch

from hw_export.neurons.base import LIFConstants, NeuronExport, NodeContext, constant, exports, least, most, numbers
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters, Reset


@exports(nn.LIF)
class LIFExport(NeuronExport):
    """LIF node, ``τ v' = (v_leak − v) + r I``; the kind of reset, for which NIR has no field, is in the metadata."""

    standard = True
    takes_gain = True
    takes_offset = True
    form = (False, False)

    def write(self, layer: Any, at: NodeContext) -> nir.NIRNode:
        p: LIFParameters = layer.constants
        name, dialect = at.dialect
        if most(p.beta) < 1.0:
            if not dialect.offsets:
                at.no_offset(
                    f"which is a v_leak in NIR: the dialect {name!r} is written with v_leak = 0, take the default one"
                )
            return dialect.lif(p, at.shape, at.gain, {}, at.offset)
        at.no_offset("which do not leak (beta=1): NIR's IF has no v_leak for it")
        if least(p.beta) < 1.0:
            raise UserError(
                f"some of the neurons {at.name!r} do not leak (beta=1) and others do: NIR's LIF would need an infinite "
                "time constant. Keep every beta below 1, or give the two layers of their own"
            )
        if not at.write_if:
            raise UserError(
                f"the neurons {at.name!r} do not leak (beta=1): NIR's LIF would need an infinite time constant, and "
                "its IF is read as three different neurons by snnTorch, norse and sinabs. Train with beta below 1, or "
                "pass write_if=True if what reads the file steps an IF by v += r I"
            )
        return nir.IF(
            r=at.full(1.0), v_threshold=at.full(numbers(p.threshold)) * at.gain, v_reset=at.full(0.0), metadata={}
        )

    def facts(self, layer: Any, at: NodeContext) -> dict[str, Any]:
        p: LIFParameters = layer.constants
        found = {"beta": numbers(p.beta), "threshold": numbers(p.threshold), "threshold_op": ">", "reset": p.reset}
        return super().facts(layer, at) | found

    def read(self, constants: LIFConstants, reset: Reset, feedback: torch.nn.Module | None) -> torch.nn.Module:
        return nn.LIF(constant(constants.beta), constant(constants.threshold), reset)

    def integer(self, name: str, layer: Any) -> LIFParameters:
        return layer.constants if self.form == (False, False) else super().integer(name, layer)


@exports(nn.RecurrentLIF)
class RecurrentLIFExport(LIFExport):
    """A LIF node, and the weights after it that lead back to it."""

    form = (False, True)

    def feedback(self, layer: Any) -> torch.nn.Module | None:
        return layer.recurrent

    def read(self, constants: LIFConstants, reset: Reset, feedback: Any) -> torch.nn.Module:
        return nn.RecurrentLIF(feedback, constant(constants.beta), constant(constants.threshold), reset)
