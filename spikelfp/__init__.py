"""spikelfp: train spiking neural networks without surrogate gradients.

>>> import spikelfp
>>> from spikelfp import nn, rules, rewards, models, data
"""

from spikelfp import analysis, data, errors, methods, models, nn, rewards, rules
from spikelfp.propagation import propagate
from spikelfp.training import TemporalTrainer, Trainer

__version__ = "0.1.0"

__all__ = [
    "TemporalTrainer", "Trainer", "__version__", "analysis", "data", "errors", "methods", "models", "nn",
    "propagate", "rewards", "rules",
]  # fmt: skip
