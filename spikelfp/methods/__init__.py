"""Ways to train the same network: where the credit comes from."""

from spikelfp.methods.base import Method
from spikelfp.methods.gradient import GradientDescent, rate_cross_entropy
from spikelfp.methods.lfp import LFP

METHODS = ("lfp", "surrogate", "gradient")
"""Names of the methods on the command line."""

__all__ = ["LFP", "METHODS", "GradientDescent", "Method", "rate_cross_entropy"]
