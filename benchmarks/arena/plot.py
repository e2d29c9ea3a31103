"""Plot of the arena: test accuracy of every method, one panel a task, with its processor time beside it."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, clean, new_figure, place, png

COLOURS = {"lfp": LIGHT.main, "surrogate": LIGHT.accent}
"""Colours of the methods that stand out; all others are grey."""
COLUMNS, NAMES, DOTS, VALUES, ROW, HEAD, FOOT = 2, 130, 220, 150, 22, 44, 40  # page pixels, but for the first


class Point(NamedTuple):
    """Result of a method: mean and standard deviation of its accuracies, in percent, and seconds of an epoch."""

    name: str
    mean: float
    deviation: float
    seconds: float | None


def plot(table: dict[str, dict[str, Any]]) -> bytes:
    """Plot a dot for each method, with its standard deviation, its accuracy and its seconds."""
    shown = {task["title"]: own for task in table.values() if "missing" not in task and (own := points(task))}
    rows = [list(shown.items())[first : first + COLUMNS] for first in range(0, len(shown), COLUMNS)]
    tall = [HEAD + FOOT + ROW * max(len(own) for _, own in row) for row in rows]
    columns = min(COLUMNS, max(len(shown), 1))
    width, height = (NAMES + DOTS + VALUES) * columns, max(sum(tall), 40)
    figure = new_figure(width, height)
    figure.add_artist(Rectangle((0, 0), 1, 1, transform=figure.transFigure, color=LIGHT.paper, zorder=-10))
    top = 0
    for row, high in zip(rows, tall, strict=True):
        for column, (title, own) in enumerate(row):
            left = (NAMES + DOTS + VALUES) * column
            figure.text((left + 16) / width, 1 - (top + 24) / height, title, fontsize=MEDIUM, color=LIGHT.ink,
                        weight="bold")  # fmt: skip
            axes = place(figure, left + NAMES, top + HEAD, DOTS, ROW * len(own))
            clean(axes, LIGHT, grid="x")
            axes.set_ylim(len(own) - 0.5, -0.5)
            for place_, (method, point) in enumerate(own.items()):
                colour = COLOURS.get(method, LIGHT.muted)
                axes.errorbar(point.mean, place_, xerr=point.deviation, fmt="o", color=colour, markersize=5)
                text = f"{point.mean:.2f} %" + ("" if point.seconds is None else f" · {point.seconds:.1f} s")
                axes.annotate(text, (1.03, place_), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL,
                              color=LIGHT.ink, annotation_clip=False)  # fmt: skip
            axes.set_yticks(range(len(own)), [point.name for point in own.values()])
            axes.margins(x=0.08)
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
            axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=LIGHT.muted)
        top += high
    return png(figure)


def points(task: dict[str, Any]) -> dict[str, Point]:
    """Return the results of all methods of a task that have finished runs."""
    found = {}
    for method, row in task["rows"].items():
        runs = [run for run in row["runs"] if run["finished"]]
        if not runs:
            continue
        accuracy = [100 * run["scores"][-1] for run in runs]
        seconds = [run["cpu_seconds"] / len(run["scores"]) for run in runs if run["cpu_seconds"]]
        deviation = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
        mean = statistics.mean(seconds) if seconds else None
        found[method] = Point(row["name"], statistics.mean(accuracy), deviation, mean)
    return found
