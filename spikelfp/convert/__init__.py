"""Plain torch.nn networks as networks of this package, on sequences."""

from spikelfp.convert.entry import convert
from spikelfp.convert.network import Converted

__all__ = ["Converted", "convert"]
