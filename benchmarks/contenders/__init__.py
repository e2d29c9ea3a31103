"""Contenders of the benchmarks, one file each, and their names in tables.

The class ``Contender`` of a file is made from ``(network, images, labels)`` and has ``step()``, one training step, and,
if it spikes, ``rates()``, the mean spikes per neuron and step of each layer. ``PACKAGES`` lists the packages to name
with their versions. The files import only each other and their packages, since each may run under another interpreter.
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
"""File of each contender by name, ours first."""

EPOCHS = {OURS: "spikelfp_epochs", SNNTORCH: "snntorch_epochs"}
"""File of each contender in whole epochs, by name."""

VARIABLES = {
    "lfprop_published": "SPIKELFP_BENCH_LFPROP",
    "spikingjelly_bptt": "SPIKELFP_BENCH_SPIKINGJELLY",
}
"""Environment variables with the interpreter of contenders that may need an environment of their own."""


def interpreter(module: str) -> str:
    """Return the Python that runs the contender ``module``."""
    return os.environ.get(VARIABLES.get(module, ""), "") or sys.executable
