"""Networks with integer weights, biases and thresholds."""

from hw_export.quantize.network import TIE_MARGIN, QuantizedNetwork, quantize
from hw_export.quantize.report import LayerReport

__all__ = ["TIE_MARGIN", "LayerReport", "QuantizedNetwork", "quantize"]
