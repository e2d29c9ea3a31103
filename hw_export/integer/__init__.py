"""Networks of whole numbers, as chips hold them, and their exact simulation."""

from hw_export.integer.arithmetic import GENERIC, Arithmetic
from hw_export.integer.energy import Counts
from hw_export.integer.network import IntegerNetwork
from hw_export.integer.simulator import IntegerSimulator, Run

__all__ = ["GENERIC", "Arithmetic", "Counts", "IntegerNetwork", "IntegerSimulator", "Run"]
