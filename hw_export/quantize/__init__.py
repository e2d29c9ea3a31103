"""Networks with integer weights, biases and thresholds."""

from hw_export.quantize.report import (
    Comparison,
    LayerReport,
    QuantizedNetwork,
    RateReport,
    compare,
    rate_notes,
    refuse_silenced,
)
from hw_export.quantize.scales import mantissas
from hw_export.quantize.walk import QuantizeOptions, accuracy_by_layer, quantize
from spikelfp.fold import fold_batchnorm
from spikelfp.quantized import TIE_MARGIN

__all__ = [
    "TIE_MARGIN", "Comparison", "LayerReport", "QuantizeOptions", "QuantizedNetwork", "RateReport", "accuracy_by_layer",
    "compare", "fold_batchnorm", "mantissas", "quantize", "rate_notes", "refuse_silenced",
]  # fmt: skip
