"""Accuracy and objective: over the epochs of training, and over the steps of a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from spikelfp.report import words
from spikelfp.report.plots.parts import HALF, WIDE, Array, legend, short
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, clean, new_figure, place

MARKED_EPOCHS = 25
"""Up to so many epochs every one has a marker."""


def curves(
    epochs: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    ylabel: str,
    *,
    share: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Lines over epochs, ``None`` where a value is missing; the legend has the last ones. share: as percentages."""
    figure = new_figure(HALF, 260)
    axes = place(figure, 72, 34, HALF - 84, 180)
    clean(axes, theme)
    colours = (theme.main, theme.accent, theme.muted)
    marker = "o" if len(epochs) <= MARKED_EPOCHS else ""
    for index, (label, line) in enumerate(values.items()):
        points = [(epoch, value) for epoch, value in zip(epochs, line, strict=True) if value is not None]
        if not points:
            continue
        across, up = zip(*points, strict=True)
        last = words.percent(up[-1], 2) if share else words.small(up[-1])
        axes.plot(
            across, up, color=colours[index % 3], linewidth=1.8, marker=marker, markersize=4.5, label=f"{label} {last}"
        )
        axes.plot(across[-1:], up[-1:], "o", color=colours[index % 3], markersize=5.5)
    axes.set_xlim(*((epochs[0] - 0.5, epochs[-1] + 0.5) if len(epochs) == 1 else (epochs[0], epochs[-1])))
    axes.margins(x=0.03, y=0.12)
    if len(epochs) > 1:
        axes.autoscale(axis="x")
    axes.xaxis.set_major_locator(FixedLocator(epochs) if len(epochs) <= 6 else MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    else:
        low, high = axes.get_ylim()
        if low > 0:
            axes.set_ylim(0, high)
        axes.axhline(0, color=theme.muted, linewidth=0.8, zorder=1)
        axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("epoch", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel(ylabel, fontsize=SMALL, color=theme.muted)
    legend(axes, theme, len(values), MEDIUM)
    return figure


def early(accuracy: Array, settled: int, step: str = "step", *, theme: Theme = LIGHT) -> Figure:
    """Accuracy ``[T]`` if the answer is read after each step, NaN where there is none; a mark at step ``settled``."""
    figure = new_figure(WIDE, 250)
    axes = place(figure, 72, 12, WIDE - 92, 192)
    clean(axes, theme)
    steps = np.arange(len(accuracy)) + 1
    marker = "o" if len(accuracy) <= MARKED_EPOCHS else ""
    axes.plot(steps, accuracy, color=theme.main, linewidth=1.8, marker=marker, markersize=4.5)
    axes.plot([settled], [accuracy[settled - 1]], "o", color=theme.accent, markersize=7)
    axes.axvline(settled, color=theme.accent, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlim(0.6, len(accuracy) + 0.4)
    axes.set_ylim(0, min(1.03, 1.25 * max(float(np.nanmax(accuracy)), 0.04)))
    axes.xaxis.set_major_locator(FixedLocator(steps.tolist()) if len(steps) <= 12 else MaxNLocator(12, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axes.set_xlabel(step, fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("accuracy", fontsize=SMALL, color=theme.muted)
    return figure


def traces(
    outputs: Array, wanted: Array | None, names: Sequence[str], *, step: str = "step", theme: Theme = LIGHT
) -> Figure:
    """Outputs ``[T, K]`` over the steps, and dashed what was ``wanted`` ``[K]`` of them."""
    figure = new_figure(WIDE, 260)
    axes = place(figure, 72, 30, WIDE - 92, 184)
    clean(axes, theme)
    steps, marker = np.arange(len(outputs)) + 1, "o" if len(outputs) <= MARKED_EPOCHS else ""
    for k in range(outputs.shape[1]):
        colour = (theme.main, theme.accent, theme.muted)[k % 3]
        axes.plot(steps, outputs[:, k], color=colour, linewidth=1.6, marker=marker, markersize=4, label=short(names[k]))
        if wanted is not None:
            axes.axhline(float(wanted[k]), color=colour, linewidth=1, linestyle=(0, (3, 3)))
    axes.set_xlim(0.6, len(outputs) + 0.4)
    axes.xaxis.set_major_locator(FixedLocator(steps.tolist()) if len(steps) <= 12 else MaxNLocator(12, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(step, fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("output", fontsize=SMALL, color=theme.muted)
    if outputs.shape[1] <= 6:
        legend(axes, theme, outputs.shape[1], MEDIUM)
    return figure
