"""Methods of training one and the same network, which differ in where the credit comes from."""

from spikelfp.methods.base import Batch, Method, mean_over_steps, methods, step_weights
from spikelfp.methods.decolle import DECOLLE
from spikelfp.methods.dfa import DFA
from spikelfp.methods.drtp import DRTP
from spikelfp.methods.eprop import EProp
from spikelfp.methods.f3 import F3
from spikelfp.methods.feedback import BlockMethod, feedback_inits
from spikelfp.methods.gradient import GradientDescent, SurrogateGradient
from spikelfp.methods.lfp import LFP
from spikelfp.methods.llo import LLO
from spikelfp.methods.ottt import OTTT
from spikelfp.methods.pepita import PEPITA
from spikelfp.methods.spike_rate import RateTarget
from spikelfp.methods.step_loss import StepLossMethod
from spikelfp.methods.warm_up import WarmUp
from spikelfp.registry import check_constructors, public_names
from spikelfp.tasks.classification import binary_cross_entropy, count_cross_entropy, losses, rate_cross_entropy

__all__ = [
    "DECOLLE",
    "DFA",
    "DRTP",
    "F3",
    "LFP",
    "LLO",
    "OTTT",
    "PEPITA",
    "Batch",
    "BlockMethod",
    "EProp",
    "GradientDescent",
    "Method",
    "RateTarget",
    "StepLossMethod",
    "SurrogateGradient",
    "WarmUp",
    "binary_cross_entropy",
    "count_cross_entropy",
    "feedback_inits",
    "losses",
    "mean_over_steps",
    "methods",
    "rate_cross_entropy",
    "step_weights",
]

check_constructors(*(value for value in map(globals().get, __all__) if isinstance(value, type) and value is not Batch))
public_names(globals())
