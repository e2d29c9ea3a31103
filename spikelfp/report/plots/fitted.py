"""Predictions that are no single class: real values, and sets of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikelfp.report.plots.parts import HALF, NAMED_CLASSES, Array, legend, name_classes, short
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, clean, new_figure, place

SHOWN_OUTPUTS = 6
"""Outputs that are told apart by colour or by name."""

POINTS = 4_000
"""Samples of which each output shows at most so many as points, evenly chosen."""


def colours(theme: Theme, count: int) -> list[tuple[str, float]]:
    """Colours of so many outputs, with how much of each is seen through."""
    return [((theme.main, theme.accent, theme.muted)[k % 3], 1.0 - 0.35 * (k // 3 % 3)) for k in range(count)]


def against(wanted: Array, predicted: Array, names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Predicted over true values ``[n, K]``, a point a sample, and the line of exact predictions."""
    figure = new_figure(HALF, 400)
    axes = place(figure, 66, 30, HALF - 80, HALF - 110)
    clean(axes, theme)
    every = max(1, -(-len(wanted) // POINTS))
    low, high = (float(each) for each in (min(wanted.min(), predicted.min()), max(wanted.max(), predicted.max())))
    room = 0.04 * (high - low) or 1.0
    axes.plot([low - room, high + room], [low - room, high + room], color=theme.muted, linewidth=0.9, zorder=1)
    size = 9 if len(wanted) <= 500 else 4
    outputs = wanted.shape[1]
    for k, (colour, seen) in enumerate(colours(theme, outputs)):
        axes.plot(
            wanted[::every, k], predicted[::every, k], "o", color=colour, alpha=0.55 * seen, markersize=size**0.5,
            markeredgewidth=0, label=short(names[k]),
        )  # fmt: skip
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"true {short(names[0], 30)}" if outputs == 1 else "true", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("predicted", fontsize=SMALL, color=theme.muted)
    if 1 < outputs <= SHOWN_OUTPUTS:
        legend(axes, theme, 3, SMALL)
    return figure


def residuals(error: Array, names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Histogram of the errors ``[n, K]``, a line an output."""
    figure = new_figure(HALF, 400)
    axes = place(figure, 66, 30, HALF - 80, HALF - 110)
    clean(axes, theme)
    edge = float(np.abs(error).max()) or 1.0
    bins = np.linspace(-edge, edge, 42)
    for k, (colour, seen) in enumerate(colours(theme, error.shape[1])):
        counts, _ = np.histogram(error[:, k], bins)
        axes.stairs(counts, bins, color=colour, alpha=seen, linewidth=1.4, label=short(names[k]))
        if error.shape[1] == 1:
            axes.stairs(counts, bins, color=colour, alpha=0.25, fill=True)
    axes.axvline(0, color=theme.muted, linewidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("predicted − true", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("samples", fontsize=SMALL, color=theme.muted)
    if 1 < error.shape[1] <= SHOWN_OUTPUTS:
        legend(axes, theme, 3, SMALL)
    return figure


def found_labels(found: Array, missed: Array, wrong: Array, names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """How often each label ``[K]`` was found, missed, or named where it is not."""
    labels = len(names)
    figure = new_figure(HALF, max(160.0, min(26.0 * labels, 420.0)) + 70)
    axes = place(figure, 112, 30, HALF - 130, max(160.0, min(26.0 * labels, 420.0)))
    clean(axes, theme, "x")
    rows = np.arange(labels)
    axes.barh(rows, found, 0.7, color=theme.main, label="found")
    axes.barh(rows, missed, 0.7, left=found, color=theme.quiet, label="missed")
    axes.barh(rows, -wrong, 0.7, color=theme.accent, label="not there")
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.set_ylim(labels - 0.4, -0.6)
    if labels <= NAMED_CLASSES:
        name_classes(axes.yaxis, names)
    axes.set_xlabel("samples", fontsize=SMALL, color=theme.muted)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(axes, theme, 3, MEDIUM)
    return figure
