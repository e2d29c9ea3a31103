"""Networks of whole numbers, as chips hold them, and their exact simulation."""

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.network import IntegerNetwork

__all__ = ["Arithmetic", "IntegerNetwork"]
