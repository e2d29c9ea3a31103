"""Ways to train the same network: where the credit comes from."""

from spikelfp.methods.base import Method
from spikelfp.methods.gradient import GradientDescent, count_cross_entropy, losses, rate_cross_entropy
from spikelfp.methods.lfp import LFP
from spikelfp.methods.warm_up import WarmUp
from spikelfp.suggest import check_constructors, public_names

METHODS = ("lfp", "surrogate", "gradient")
"""Names of the methods on the command line."""

WARM_UPS = ("surrogate", "gradient")
"""Those of them that may come before another one."""

__all__ = [
    "LFP",
    "METHODS",
    "WARM_UPS",
    "GradientDescent",
    "Method",
    "WarmUp",
    "count_cross_entropy",
    "losses",
    "rate_cross_entropy",
]

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
