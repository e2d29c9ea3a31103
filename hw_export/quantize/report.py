"""What quantisation did to each layer of weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LayerReport:
    """One layer of weights ``w ≈ scale · q`` and the neurons behind it.

    Attributes:
        layer, kind: name and type of the layer.
        neurons: name of the LIF layer it drives, ``None`` where there is none.
        weights: how many.
        bits: of a weight; with a scale for each channel, of its mantissa.
        scale: real value of one integer step of a weight.
        max_shift: 0, or with a scale for each channel, the largest ``e`` of ``q = mantissa · 2^e``
            (:func:`~hw_export.quantize.mantissas` takes them apart).
        threshold: the integer threshold of those neurons, in the unit of the layer's sums; where they have several,
            lists within lists of the shape that their thresholds have.
        threshold_error: relative error of their real threshold, 0 where the scale was moved to meet it; of several the
            largest.
        max_weight, max_bias: largest magnitudes of the integers; a bias is not limited to a weight's bits.
        squared_error, relative_error: ``Σ (w − scale · q)²``, and the same divided by ``Σ w²``.
        zero_fraction: part of the weights that became 0.
        largest_sum: what ``|Σ q x + b|`` can reach, for inputs in [0, 1] and spikes; ``None`` for floats.
        exact: whether float32 adds these sums without rounding, in any order.
    """

    layer: str
    kind: str
    neurons: str | None
    weights: int
    bits: int
    scale: float
    max_shift: int
    threshold: Any
    threshold_error: float
    max_weight: int
    max_bias: int
    squared_error: float
    relative_error: float
    zero_fraction: float
    largest_sum: float | None
    exact: bool

    def summary(self) -> dict[str, Any]:
        """All of it for a manifest, of many thresholds the lowest and the highest."""
        return {**asdict(self), "threshold": span(self.threshold)}


def span(values: Any) -> Any:
    """One number, or from which to which the constants of a layer go; ``None`` where there are none."""
    if values is None:
        return None
    array = np.asarray(values)
    low, high = array.min().item(), array.max().item()
    return low if low == high else {"from": low, "to": high}
