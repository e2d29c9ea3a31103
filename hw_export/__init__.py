"""Take trained spiking networks out: quantise, write NIR, and check every spike in other simulators."""

from hw_export.build import build
from hw_export.nir import from_nir, to_nir
from hw_export.quantize import QuantizedNetwork, quantize
from hw_export.verify import verify

__all__ = ["QuantizedNetwork", "build", "from_nir", "quantize", "to_nir", "verify"]
