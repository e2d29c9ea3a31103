"""Networks of the step benchmark, the origin of their spike rates, and goals.

``start`` states how the starting weights are made (:mod:`benchmarks.starting_weights`). ``goals`` states how many times
our step a peer should take at least, and how many times the dense products ours may take at most. ``memory_goals``
states how many times our memory a peer should hold at least.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import CONVOLUTIONS, FLOOR, LFPROP, SNNTORCH

Network = dict[str, Any]

PAPER: dict[str, Any] = {"floor": 0.0, "margin": 1.0}
"""The paper's rule, as options of neurons and of runs: benchmarks of time and memory learn by it."""
TUNED: dict[str, Any] = {"method": "surrogate", "slope": 5.0, "loss": "count", "lr": 3e-3}
"""The best surrogate gradient of docs/training.md on MNIST, chosen on a held-out part of the training images."""

DEEP: Network = {"kind": "mlp", "sizes": [784, 1000, 1000, 10], "steps": 25, "batch": 128}
LENET: Network = {"kind": "lenet", "steps": 25, "batch": 128}

SPEECH, TOUCH = {"kind": "rnn", "steps": 100, "batch": 64}, {"kind": "rnn", "steps": 26, "batch": 128}
FEW = {"how": "scaled", "rate": 0.04}

RECURRENT: dict[str, Network] = {
    "700-512-20, T 100, batch 64, 4 % spikes": SPEECH
    | {"sizes": [700, 512, 20], "start": FEW, "goals": {SNNTORCH: 6.0}, "memory_goals": {SNNTORCH: 3.0}},
    "700-512-20, T 100, batch 64, 15 % spikes": SPEECH
    | {
        "sizes": [700, 512, 20],
        "start": {"how": "scaled", "rate": 0.15},
        "goals": {SNNTORCH: 3.0},
        "memory_goals": {SNNTORCH: 3.0},
    },
    "700-256-20, T 100, batch 64, 4 % spikes": SPEECH | {"sizes": [700, 256, 20], "start": FEW},
    "700-256-20, T 100, batch 64, 15 % spikes": SPEECH
    | {"sizes": [700, 256, 20], "start": {"how": "scaled", "rate": 0.15}},
    "24-256-27, T 26, batch 128, 4 % spikes": TOUCH | {"sizes": [24, 256, 27], "start": FEW},
    "24-256-27, T 26, batch 128, 15 % spikes": TOUCH
    | {"sizes": [24, 256, 27], "start": {"how": "scaled", "rate": 0.15}},
}
"""Recurrent networks, of the sizes of spoken digits (SHD) and of Braille, on synthetic events, at the spike rates that
training reaches and at 15 %."""

NETWORKS: dict[str, Network] = {
    "784-1000-10, T 15": {
        "kind": "mlp",
        "sizes": [784, 1000, 10],
        "steps": 15,
        "batch": 128,
        "start": {"how": "initial"},
        "goals": {LFPROP: 8.0, SNNTORCH: 4.0, FLOOR: 1.3},
    },
    "784-1000-1000-10, T 25, 15 % spikes": DEEP
    | {"start": {"how": "scaled", "rate": 0.15}, "goals": {LFPROP: 2.5, SNNTORCH: 1.7, FLOOR: 1.1}},
    "784-1000-1000-10, T 25, trained": DEEP
    | {
        "start": {"how": "trained", "lr": 2e-2, "epochs": 10, "at_most": 0.03},
        "goals": {LFPROP: 7.0, SNNTORCH: 5.0, FLOOR: 0.5},
    },
    "LeNet (A.6.4), T 25, 10 % spikes": LENET
    | {
        "start": {"how": "scaled", "rate": 0.10},
        "goals": {LFPROP: 4.0, SNNTORCH: 1.8, CONVOLUTIONS: 1.2},
        "memory_goals": {SNNTORCH: 3.0},
    },
    "LeNet (A.6.4), T 25, 2 % spikes": LENET
    | {
        "start": {"how": "scaled", "rate": 0.02},
        "goals": {LFPROP: 4.0, SNNTORCH: 1.8, CONVOLUTIONS: 1.0},
        "memory_goals": {SNNTORCH: 3.0},
    },
}
