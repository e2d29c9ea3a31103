"""Networks of whole numbers, as chips hold them, and their exact simulation."""

from hw_export.integer.arithmetic import GENERIC, Arithmetic
from hw_export.integer.counts import Counts
from hw_export.integer.network import IntegerNetwork
from hw_export.integer.run import Run
from hw_export.integer.simulator import IntegerSimulator

__all__ = ["GENERIC", "Arithmetic", "Counts", "IntegerNetwork", "IntegerSimulator", "Run"]
