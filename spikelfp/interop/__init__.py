"""Networks from torch, and from and to snnTorch and norse, with identical outputs.

==================================  =============================================================================
:func:`convert`                     a plain ``torch.nn`` network on sequences; shares its parameters with the module
:func:`from_snntorch`               shares its parameters with the model: training it trains the user's model
:func:`to_snntorch`                 shares them too; both copy with ``copy=True``
:func:`from_norse`                  copies: norse's factor ``Δt/τ`` on the input moves into the weights
:func:`to_norse`                    copies likewise
==================================  =============================================================================

A layer without an exact counterpart is refused, with its name, the reason, and what to do. The other package is
imported by the function that needs it, so this one imports without it.
"""

from spikelfp.interop.base import ConversionError
from spikelfp.interop.norse import DelayedSubtract, from_norse, to_norse
from spikelfp.interop.snntorch import from_snntorch, to_snntorch
from spikelfp.interop.torch import ConvertedNetwork, convert
from spikelfp.registry import public_names

__all__ = [
    "ConversionError", "ConvertedNetwork", "DelayedSubtract", "convert", "from_norse", "from_snntorch", "to_norse",
    "to_snntorch",
]  # fmt: skip

public_names(globals())
