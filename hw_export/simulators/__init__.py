"""Simulators that run a NIR file of ours, one module each; found by name in :data:`SIMULATORS`."""

from hw_export.simulators import (  # noqa: F401  (they register themselves)
    brian2_,
    nengo_,
    nest_,
    norse_,
    rockpool_,
    sinabs_,
    snntorch_,
    spikingjelly_,
)
from hw_export.simulators.base import SIMULATORS, NotInstalledError, Simulator, UnsupportedError

__all__ = ["SIMULATORS", "NotInstalledError", "Simulator", "UnsupportedError"]
