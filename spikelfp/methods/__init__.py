"""Ways to train the same network: where the credit comes from."""

from spikelfp.methods.base import Method, methods
from spikelfp.methods.gradient import (
    GradientDescent,
    SurrogateGradient,
    count_cross_entropy,
    losses,
    rate_cross_entropy,
)
from spikelfp.methods.lfp import LFP
from spikelfp.methods.warm_up import WarmUp
from spikelfp.suggest import check_constructors, public_names

__all__ = [
    "LFP",
    "GradientDescent",
    "Method",
    "SurrogateGradient",
    "WarmUp",
    "count_cross_entropy",
    "losses",
    "methods",
    "rate_cross_entropy",
]

check_constructors(*(value for name in __all__ if isinstance(value := globals()[name], type)))
public_names(globals())
