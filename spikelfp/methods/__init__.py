"""Ways to train the same network: where the credit comes from."""

from spikelfp.methods.base import Method
from spikelfp.methods.gradient import GradientDescent, count_cross_entropy, losses, rate_cross_entropy
from spikelfp.methods.lfp import LFP
from spikelfp.methods.warm_up import WarmUp

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
