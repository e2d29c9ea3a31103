"""Data sets and networks of the arena, and the four options from which each method chooses.

Networks, steps and encoding of MNIST, Fashion-MNIST and N-MNIST are those of the NeuroTrain benchmark: one hidden layer
of 256, 800 and 512 neurons, T 10, 20 epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.trained.table import Options, Row, Section

FOLDS = 5
"""Parts of the recordings of N-MNIST, each of which is held out once."""

PLUGIN = {"plugin": str(Path(__file__).with_name("data.py"))}
"""Options that make the data sets of the arena known."""


SMOOTH, DROPOUT = {"label_smoothing": 0.1}, {"dropout": 0.2}
SEQUENCE, COUNTS = {"reward": "spike-sequence"}, {"reward": "count-softmax"}
BY_REWARD: tuple[Options, ...] = (
    {"lr": 3e-3, "beta": 0.9} | SEQUENCE,
    {"lr": 2e-3, "beta": 0.9} | COUNTS | DROPOUT,
    {"lr": 5e-3, "beta": 0.8} | COUNTS | SMOOTH,
    {"lr": 5e-3, "beta": 0.8} | COUNTS,
)
ONLINE: tuple[Options, ...] = (BY_REWARD[0], {"lr": 3e-3, "beta": 0.9} | COUNTS | SMOOTH, *BY_REWARD[2:])
"""Without dropout, whose masks nothing keeps from step to step."""

FED_BACK: tuple[Options, ...] = (
    {"lr": 1e-3, "beta": 0.9} | SEQUENCE,
    {"lr": 1e-3, "beta": 0.9} | COUNTS,
    {"lr": 3e-3, "beta": 0.9} | COUNTS,
    {"lr": 3e-3, "beta": 0.8} | COUNTS,
)
"""Without label smoothing, which methods of blocks do not take; recurrent networks need low rates."""

STEEP = {"slope": 5.0}
"""The best slope of docs/training.md."""
BY_LOSS: tuple[Options, ...] = (
    {"lr": 2e-3, "beta": 0.9, "loss": "count"} | STEEP | DROPOUT,
    {"lr": 2e-3, "beta": 0.9, "loss": "count"} | STEEP | SMOOTH,
    {"lr": 2e-3, "beta": 0.8, "loss": "count"} | STEEP | SMOOTH,
    {"lr": 4e-3, "beta": 0.8, "loss": "count"} | STEEP,
)
BY_STEP: tuple[Options, ...] = (
    {"lr": 5e-4, "beta": 0.9},
    {"lr": 2e-3, "beta": 0.9},
    {"lr": 2e-3, "beta": 0.8},
    {"lr": 5e-3, "beta": 0.8},
)

ROWS = {
    "lfp": Row("LFP", {"method": "lfp"}, choices=BY_REWARD),
    "surrogate": Row("surrogate gradient", {"method": "surrogate"}, choices=BY_LOSS),
    "f3": Row("F³", {"method": "f3"}, choices=FED_BACK),
    "dfa": Row("DFA", {"method": "dfa"}, choices=FED_BACK),
    "drtp": Row("DRTP", {"method": "drtp"}, choices=FED_BACK),
    "llo": Row("last layer only", {"method": "llo"}, choices=FED_BACK),
    "lfp-online": Row("LFP, online", {"method": "lfp", "credit": "online"}, choices=ONLINE),
    "e-prop": Row("e-prop", {"method": "e-prop"}, choices=BY_STEP),
    "ottt": Row("OTTT", {"method": "ottt"}, choices=BY_STEP),
    "decolle": Row("DECOLLE", {"method": "decolle"}, choices=BY_STEP),
}
"""Methods; every one has as many choices."""

RECURRENT_ROWS = {name: row for name, row in ROWS.items() if name != "decolle"}
"""Methods of recurrent networks: DECOLLE has none (Kaiser et al. 2020)."""

CONVOLUTIONAL_ROWS = {name: ROWS[name] for name in ("lfp", "surrogate")}
"""Methods that are compared on a network of two convolutions too."""

EPOCHS = 20
ALIKE = "Options are chosen on a fifth of the training part, after 20 epochs of the rest."


def dense(data: str, hidden: int) -> Options:
    """Return the options of a network with one hidden layer, as in NeuroTrain."""
    return {
        "data": data, "model": "lif-mlp", "hidden": (hidden,), "steps": 10, "epochs": EPOCHS, "batch_size": 128,
        "reset": "subtract",
    }  # fmt: skip


IMAGES = {"encoding": "rate"}
RECURRENT: Options = {"model": "lif-rnn", "reset": "subtract", "epochs": EPOCHS}


@dataclass(frozen=True)
class Task(Section):
    """Runs of every method on one data set.

    Attributes:
        parts: stretches of time in which logistic regression sees the counts of events; 0 for none.
        counts: options of the data that it sees.
    """

    parts: int = 0
    counts: Options = field(default_factory=dict)


TASKS: dict[str, Task] = {
    "mnist": Task(
        "MNIST, 784-256-10, T 10, rate-coded",
        "Options are chosen on a fifth of the first 20,000 images, after 20 epochs of the others.",
        dense("mnist", 256) | IMAGES,
        ROWS,
        tuning={"data": "mnist-part:20000,2000", "validation": 0.2},
    ),
    "fashion-mnist": Task(
        "Fashion-MNIST, 784-800-10, T 10, rate-coded",
        "Options are chosen on a fifth of the training part, after 5 epochs of the rest.",
        dense("fashion-mnist", 800) | IMAGES,
        ROWS,
        tuning={"validation": 0.2, "epochs": 5},
    ),
    "nmnist": Task(
        "N-MNIST, 2312-512-10, T 10",
        f"Mean over {FOLDS} folds of all recordings at hand. Options are chosen on a fifth of the training part of the "
        "first fold.",
        dense("nmnist-fold-0", 512) | {"batch_size": 32, "levels": 2} | PLUGIN,
        ROWS,
        tuning={"validation": 0.2},
        variants=tuple({"data": f"nmnist-fold-{number}"} for number in range(FOLDS)),
        parts=1,
        counts={"data": "nmnist-fold-0", "steps": 1, "levels": 255} | PLUGIN,
    ),
    "nmnist-conv": Task(
        "N-MNIST, two convolutions, T 20",
        f"The network that event data of cameras have by default. Recordings are shifted by up to a pixel in training. "
        f"Mean over {FOLDS} folds of all recordings at hand. Options are chosen on a fifth of the training part of the "
        "first fold.",
        {
            "data": "nmnist-fold-0", "model": "lif-conv", "pool": "avg", "steps": 20, "levels": 2, "epochs": EPOCHS,
            "batch_size": 32, "reset": "zero", "augmentations": "shift=1",
        } | PLUGIN,
        CONVOLUTIONAL_ROWS,
        tuning={"validation": 0.2},
        variants=tuple({"data": f"nmnist-fold-{number}"} for number in range(FOLDS)),
    ),
    "braille": Task(
        "Braille, recurrent, 512 neurons, T 26",
        ALIKE,
        {
            "data": "braille", "hidden": (512,), "window": 50.0, "steps": 26, "levels": 4, "batch_size": 128,
        } | RECURRENT,
        RECURRENT_ROWS,
        tuning={"validation": 0.2},
        parts=26,
        counts={"data": "braille", "window": 50.0, "steps": 26, "levels": 255},
    ),
    "fsdd-cochlea": Task(
        "Spoken digits, recurrent, 256 neurons, T 32",
        ALIKE,
        {
            "data": "fsdd-cochlea", "hidden": (256,), "steps": 32, "levels": 96, "batch_size": 64,
        } | RECURRENT,
        RECURRENT_ROWS,
        tuning={"validation": 0.2},
        parts=16,
        counts={"data": "fsdd-cochlea", "steps": 16, "levels": 1000},
    ),
    "intervals": Task(
        "Intervals between volleys, recurrent, 64 neurons, T 50",
        f"Counts are equal: they say nothing about the class. {ALIKE}",
        {"data": "intervals", "hidden": (64,), "batch_size": 32} | RECURRENT | PLUGIN,
        RECURRENT_ROWS,
        tuning={"validation": 0.2},
        parts=1,
        counts={"data": "intervals"} | PLUGIN,
    ),
    "coincidence": Task(
        "Coincidence of two groups, recurrent, 64 neurons, T 50",
        f"Counts are equal: they say nothing about the class. {ALIKE}",
        {"data": "coincidence", "hidden": (64,), "batch_size": 32} | RECURRENT | PLUGIN,
        RECURRENT_ROWS,
        tuning={"validation": 0.2},
        parts=1,
        counts={"data": "coincidence"} | PLUGIN,
    ),
}  # fmt: skip

NEEDS = {name: name for name in ("mnist", "fashion-mnist", "nmnist", "braille", "fsdd-cochlea")}
NEEDS["nmnist-conv"] = "nmnist"
"""Data sets that have to be at hand."""


def shortened(task: Task) -> Task:
    """Shorten a task to one epoch of few neurons and one choice of each method, enough to see that it runs."""
    rows = {key: replace(row, choices=row.choices[:1]) for key, row in task.rows.items()}
    small: Options = {
        "data": "coincidence",
        "model": "lif-rnn",
        "hidden": (8,),
        "epochs": 1,
        "batch_size": 500,
    } | PLUGIN
    tuning = {"validation": 0.2, "epochs": 1}
    return replace(
        task,
        options=small,
        rows=rows,
        tuning=tuning,
        variants=task.variants[:1] and ({},),
        parts=min(1, task.parts),
        counts={"data": "coincidence"} | PLUGIN,
    )
