"""Which networks are trained on which recordings, and between which options each method may choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

Options = dict[str, Any]
"""Fields of :class:`~spikelfp.training.config.RunConfig`."""

Grid = Mapping[str, tuple[Any, ...]]
"""The values that each option may take."""

METHODS = ("lfp", "surrogate")


@dataclass(frozen=True)
class Task:
    """A network and its data.

    Attributes:
        options: of the run, the same for every method.
        grids: by method, its own options; as many choices for every method.
        final: what the runs with the chosen options have more than those that they were chosen by, for every method.
        counts: how recordings are binned for logistic regression, as options of the run.
    """

    options: Options
    grids: Mapping[str, Grid]
    counts: Options = field(default_factory=dict)
    final: Options = field(default_factory=dict)

    def choices(self, method: str) -> Iterator[Options]:
        """All that ``method`` chooses from."""
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
    """The task with one epoch, and one choice for each method: enough to see that it runs."""
    grids = {method: {name: values[:1] for name, values in grid.items()} for method, grid in task.grids.items()}
    return Task(task.options | {"epochs": 1}, grids, task.counts)


def command(options: Options) -> str:
    """The options as they are given to ``spikelfp train``."""
    return " ".join(f"--{name.replace('_', '-')} {_word(value)}" for name, value in options.items())


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
