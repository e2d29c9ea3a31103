"""Export of trained spiking networks.

Quantise them, simulate them in whole numbers, write NIR and the formats of chips, stream updates, and check every spike
in other simulators.
"""

from typing import TYPE_CHECKING

import spikelfp  # noqa: F401  (first: it handles Ctrl-C while all the rest is imported)
from spikelfp.registry import public_names

if TYPE_CHECKING:
    from hw_export.build import build
    from hw_export.integer import Arithmetic, IntegerNetwork, IntegerSimulator
    from hw_export.nir import from_nir, migrate, to_nir
    from hw_export.quantize import QuantizedNetwork, compare, fold_batchnorm, quantize
    from hw_export.targets import TARGETS
    from hw_export.updates import UpdateRecorder, follow, replay
    from hw_export.verify import verify

__all__ = [
    "TARGETS", "Arithmetic", "IntegerNetwork", "IntegerSimulator", "QuantizedNetwork", "UpdateRecorder", "build",
    "compare", "fold_batchnorm", "follow", "from_nir", "migrate", "quantize", "replay", "to_nir", "verify",
]  # fmt: skip

_HOMES = {
    "build": ("build",),
    "integer": ("Arithmetic", "IntegerNetwork", "IntegerSimulator"),
    "nir": ("from_nir", "migrate", "to_nir"),
    "quantize": ("QuantizedNetwork", "compare", "fold_batchnorm", "quantize"),
    "targets": ("TARGETS",),
    "updates": ("UpdateRecorder", "follow", "replay"),
    "verify": ("verify",),
}

# Names are loaded when they are asked for, so that the command answers --help without torch.
public_names(globals(), homes={name: f"hw_export.{home}" for home, names in _HOMES.items() for name in names})
