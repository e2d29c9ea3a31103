"""Networks with integer weights, biases and thresholds."""

from hw_export.quantize.channels import mantissas
from hw_export.quantize.fold import fold_batchnorm
from hw_export.quantize.make import QuantizeOptions, quantize
from hw_export.quantize.network import QuantizedNetwork
from hw_export.quantize.rates import Comparison, RateReport, compare, rate_notes, refuse_silenced
from hw_export.quantize.report import LayerReport
from hw_export.quantize.sensitivity import accuracy_by_layer
from hw_export.quantize.threshold import TIE_MARGIN

__all__ = [
    "TIE_MARGIN", "Comparison", "LayerReport", "QuantizeOptions", "QuantizedNetwork", "RateReport", "accuracy_by_layer",
    "compare", "fold_batchnorm", "mantissas", "quantize", "rate_notes", "refuse_silenced",
]  # fmt: skip
