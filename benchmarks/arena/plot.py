"""Plot of the arena: accuracy of every method against its processor time, one panel a task."""

from __future__ import annotations

import statistics
from typing import Any

from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, clean, new_figure, place, png

COLOURS = {"lfp": LIGHT.main, "surrogate": LIGHT.accent}
"""Colours of the methods that stand out; all others are grey."""
COLUMNS, WIDE, TALL = 3, 320, 270


def plot(table: dict[str, dict[str, Any]]) -> bytes:
    """Plot a point for each method, with its name: test accuracy over processor seconds of an epoch."""
    shown = {name: points(task) for name, task in table.items() if "missing" not in task}
    shown = {name: own for name, own in shown.items() if own}
    down = -(-max(len(shown), 1) // COLUMNS)
    width, height = 30 + WIDE * min(COLUMNS, max(len(shown), 1)), 20 + TALL * down
    figure = new_figure(width, height)
    figure.add_artist(Rectangle((0, 0), 1, 1, transform=figure.transFigure, color=LIGHT.paper, zorder=-10))
    for index, (name, own) in enumerate(shown.items()):
        row, column = divmod(index, COLUMNS)
        axes = place(figure, 56 + WIDE * column, 46 + TALL * row, WIDE - 90, TALL - 100)
        clean(axes, LIGHT)
        axes.set_title(name, fontsize=MEDIUM, color=LIGHT.ink, loc="left", pad=8, weight="bold")
        for method, (seconds, accuracy) in own.items():
            colour = COLOURS.get(method, LIGHT.muted)
            axes.plot(seconds, 100 * accuracy, "o", color=colour, markersize=5)
            axes.annotate(method, (seconds, 100 * accuracy), (5, 3), textcoords="offset points", fontsize=SMALL,
                          color=colour, annotation_clip=False)  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.12, 0.12)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=LIGHT.muted)
        axes.set_xlabel("CPU seconds an epoch", fontsize=SMALL, color=LIGHT.muted)
    return png(figure)


def points(task: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return mean processor seconds of an epoch and mean test accuracy of each method that has finished runs."""
    found = {}
    for method, row in task["rows"].items():
        runs = [run for run in row["runs"] if run["finished"] and run["cpu_seconds"]]
        if runs:
            seconds = statistics.mean(run["cpu_seconds"] / len(run["scores"]) for run in runs)
            found[method] = seconds, statistics.mean(run["scores"][-1] for run in runs)
    return found
