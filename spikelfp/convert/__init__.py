"""Plain torch.nn networks as networks of this package, on sequences."""

from spikelfp.convert.entry import convert
from spikelfp.convert.network import Converted
from spikelfp.registry import public_names

__all__ = ["Converted", "convert"]

public_names(globals())
