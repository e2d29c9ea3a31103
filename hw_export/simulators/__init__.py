"""Other simulators that run a NIR file of ours, one module each; found by name in :data:`SIMULATORS`."""

from hw_export.simulators import brian2_, nengo_, norse_, sinabs_, snntorch_  # noqa: F401  (they register themselves)
from hw_export.simulators.base import SIMULATORS, NotInstalledError, Simulator, UnsupportedError

__all__ = ["SIMULATORS", "NotInstalledError", "Simulator", "UnsupportedError"]
