"""Export of trained spiking networks.

Quantise them, simulate them in whole numbers, write NIR and the formats of chips, stream updates, and check every spike
in other simulators.
"""

import spikelfp  # noqa: F401  (first: it handles Ctrl-C while all the rest is imported)
from hw_export.build import build
from hw_export.integer import Arithmetic, IntegerNetwork, IntegerSimulator
from hw_export.nir import from_nir, migrate, to_nir
from hw_export.quantize import QuantizedNetwork, compare, fold_batchnorm, quantize
from hw_export.targets import TARGETS
from hw_export.updates import UpdateRecorder, follow, replay
from hw_export.verify import verify
from spikelfp.registry import public_names

__all__ = [
    "TARGETS", "Arithmetic", "IntegerNetwork", "IntegerSimulator", "QuantizedNetwork", "UpdateRecorder", "build",
    "compare", "fold_batchnorm", "follow", "from_nir", "migrate", "quantize", "replay", "to_nir", "verify",
]  # fmt: skip

public_names(globals())
