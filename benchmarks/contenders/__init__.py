"""Who takes part: a file each, with a class ``Contender``, and the name it has in tables.

A contender is made from ``(network, images, labels)`` and has ``step()``, one training step; where it spikes,
``rates()``, the mean spikes per neuron and step of each layer; and ``PACKAGES``, whose versions are of interest.
The files import each other and their own packages alone, since each runs under the interpreter that has them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent

OURS = "spikelfp, LFP"
RECOMPUTED = "spikelfp, LFP, recomputed"
SNNTORCH = "snnTorch, surrogate"
LFPROP = "lfprop (published LFP)"
FLOOR = "dense products alone"
CONVOLUTIONS = "dense convolutions alone"

CONTENDERS = {
    OURS: "spikelfp_lfp",
    RECOMPUTED: "spikelfp_recomputed",
    "spikelfp, surrogate": "spikelfp_surrogate",
    SNNTORCH: "snntorch_bptt",
    "norse, surrogate": "norse_bptt",
    "spikingjelly, surrogate": "spikingjelly_bptt",
    LFPROP: "lfprop_published",
    FLOOR: "dense_floor",
    CONVOLUTIONS: "dense_convolutions",
}
"""File of each contender, by name; ours stands first."""

EPOCHS = {OURS: "spikelfp_epochs", SNNTORCH: "snntorch_epochs"}
"""The same for whole epochs."""

VARIABLES = {
    "lfprop_published": "SPIKELFP_BENCH_LFPROP",
    "spikingjelly_bptt": "SPIKELFP_BENCH_SPIKINGJELLY",
}
"""Environment variables with the interpreter of contenders that may need an environment of their own."""


def interpreter(module: str) -> str:
    """The Python that runs the contender ``module``."""
    return os.environ.get(VARIABLES.get(module, ""), "") or sys.executable
