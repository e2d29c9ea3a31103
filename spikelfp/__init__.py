"""spikelfp: train spiking neural networks without surrogate gradients.

>>> import spikelfp
>>> from spikelfp import nn, rules, rewards, models, data

``docs/glossary.md`` explains the words used here; ``docs/method.md`` says where each equation stands.
"""

import os
from typing import TYPE_CHECKING

from spikelfp import signals
from spikelfp.registry import public_names

signals.begin()

# Threads that wait by spinning slow training down several times as soon as another process uses the cores
# (docs/performance.md). OpenMP reads this once, when torch is loaded; a value of the user's own stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from spikelfp import analysis, data, errors, interop, methods, models, nn, quantized, rewards, rules
    from spikelfp.functional.propagation import propagate
    from spikelfp.interop import convert
    from spikelfp.training import TemporalTrainer, Trainer

__version__ = "0.1.0"

__all__ = [
    "TemporalTrainer", "Trainer", "__version__", "analysis", "convert", "data", "errors", "interop", "methods",
    "models", "nn", "propagate", "quantized", "rewards", "rules",
]  # fmt: skip

# Names are loaded when they are asked for, so that a command answers --help without torch.
public_names(
    globals(),
    homes={
        "TemporalTrainer": "spikelfp.training",
        "Trainer": "spikelfp.training",
        "convert": "spikelfp.interop",
        "propagate": "spikelfp.functional.propagation",
    },
)
