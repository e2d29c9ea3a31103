"""Tasks: networks with their recordings, and the options from which each method may choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Options = dict[str, Any]
"""Fields of :class:`~spikelfp.training.config.RunConfig`."""

Grid = Mapping[str, tuple[Any, ...]]
"""Values of each option."""

METHODS = ("lfp", "surrogate")


@dataclass(frozen=True)
class Task:
    """Network and its data.

    Attributes:
        options: options of the run, the same for every method.
        grids: options to choose from, by method; every method has the same number of choices.
        final: further options of the runs with the chosen options, for every method.
        counts: binning of the recordings for logistic regression, as options of the run.
    """

    options: Options
    grids: Mapping[str, Grid]
    counts: Options = field(default_factory=dict)
    final: Options = field(default_factory=dict)

    def choices(self, method: str) -> Iterator[Options]:
        """Yield all choices of ``method``."""
        grid = self.grids[method]
        for values in product(*grid.values()):
            yield dict(zip(grid, values, strict=True))


LFP: Grid = {"lr": (2e-3, 5e-3, 1e-2), "beta": (0.8, 0.9), "reward": ("spike-sequence", "count-softmax")}
SURROGATE: Grid = {"beta": (0.8, 0.9), "loss": ("rate", "count"), "slope": (5.0,)}  # the best slope of docs/training.md
CONVOLUTIONAL: dict[str, Grid] = {"lfp": LFP, "surrogate": {"lr": (5e-4, 1e-3, 2e-3), **SURROGATE}}
RECURRENT: dict[str, Grid] = {"lfp": LFP, "surrogate": {"lr": (1e-3, 2e-3, 4e-3), **SURROGATE}}
"""Twelve choices for each method; the learning rates lie around the best ones."""

TASKS = {
    "nmnist": Task(
        {"data": "nmnist", "model": "lif-conv", "steps": 20, "levels": 2, "epochs": 15, "batch_size": 32},
        CONVOLUTIONAL,
        {"steps": 1, "levels": 255},
    ),
    "braille": Task(
        {
            "data": "braille", "model": "lif-rnn", "hidden": (256,), "window": 50.0, "steps": 26, "levels": 4,
            "epochs": 20, "batch_size": 128,
        },
        RECURRENT,
        {"window": 50.0, "steps": 26, "levels": 255},
        {"hidden": (512,)},
    ),
    "fsdd-cochlea": Task(
        {
            "data": "fsdd-cochlea", "model": "lif-rnn", "hidden": (256,), "steps": 32, "levels": 96,
            "epochs": 20, "batch_size": 64,
        },
        RECURRENT,
        {"steps": 16, "levels": 1000},
        {"hidden": (512,), "batch_size": 32, "epochs": 30},
    ),
}  # fmt: skip


def shortened(task: Task) -> Task:
    """Shorten a task to one epoch and one choice for each method, enough to see that it runs."""
    grids = {method: {name: values[:1] for name, values in grid.items()} for method, grid in task.grids.items()}
    return Task(task.options | {"epochs": 1}, grids, task.counts)


def command(options: Options) -> str:
    """Write the options as arguments of ``spikelfp train``."""
    return " ".join(f"--{name.replace('_', '-')} {_word(value)}" for name, value in options.items())


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
