"""Export of Lapicque neurons: LIF neurons after a gain of ``Δt/C``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hw_export.neurons.base import NeuronExport, exports
from spikelfp import nn


@exports(nn.Lapicque)
class LapicqueExport(NeuronExport):
    """Export as ``nn.LIF(1 − Δt/RC, θ)`` on ``Δt/C · I``, which has the same steps."""

    def lower(self, layer: Any) -> Sequence[torch.nn.Module]:
        neurons = nn.LIF(layer.beta, layer.threshold, layer.reset)
        one = not isinstance(layer.gain, torch.Tensor) and layer.gain == 1
        return [neurons] if one else [nn.Scale(layer.gain), neurons]
