"""Drawing of a stream over time; a separate module, because matplotlib takes longer to import than a stream to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from hw_export.updates.replay import Summary
from spikelfp.errors import UserError
from spikelfp.files import write_whole
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, clean, new_figure, place, png, short

WIDTH, PANEL, GAP, TOP, LEFT, RIGHT = 900, 180, 66, 40, 76, 170
LONGEST = 24
"""Most characters of a parameter's name beside the panels."""

BINS = 120
"""Points of a line; each is a mean over several comparisons."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b6570", "#a6761d")
STYLES = ("-", "--", ":", "-.")


def draw(summary: Summary) -> Figure:
    """Draw three panels over the steps: changed weights, bytes of a frame, and weights at the ends of their grids.

    Biases are left out; they are few, and in the summary.

    Args:
        summary: of :func:`~hw_export.updates.inspect`.

    Raises:
        UserError: for a stream without frames.
    """
    if not summary.frames:
        raise UserError("the stream has no frames, so there is nothing to plot")
    weights = [p for p in summary.parameters if not p.name.endswith(".bias")] or list(summary.parameters)
    edges = np.linspace(0, summary.looks, min(BINS, summary.looks) + 1)
    looks = -(-(summary.series.step - summary.first_step) // summary.every) - 1
    centres = summary.first_step + summary.every * (edges[:-1] + edges[1:]) / 2
    panels = 3 if summary.series.saturated else 2
    figure = new_figure(WIDTH, TOP + panels * (PANEL + GAP))
    axes = [_panel(figure, index) for index in range(panels)]

    for index, p in enumerate(weights):
        colour, style = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
        changed = _binned(looks, summary.series.changes[p.name], edges) / p.elements
        axes[0].plot(centres, np.where(changed > 0, changed, np.nan), style, color=colour, linewidth=1.6)
        if panels == 3:
            share = summary.series.saturated[p.name] / p.elements
            axes[2].step(summary.series.step, share, style, where="post", color=colour, linewidth=1.6)
    axes[0].set_yscale("log")
    legend = axes[0].legend(
        axes[0].lines,
        ["·"] * len(weights),  # matplotlib leaves out names that begin with _
        loc="upper left",
        bbox_to_anchor=(1.02, 1.02),
        frameon=False,
        fontsize=SMALL,
        labelcolor=LIGHT.ink,
        handlelength=1.8,
    )
    for text, p in zip(legend.get_texts(), weights, strict=True):
        text.set_text(short(p.name, LONGEST))
    cost = _binned(looks, summary.series.size, edges) / summary.image_bytes
    axes[1].plot(centres, cost, color=LIGHT.ink, linewidth=1.6)
    axes[1].set_ylim(bottom=0)
    if panels == 3:
        axes[2].set_ylim(bottom=0)
    titles = (
        "Weights that a step changed, as a share of the layer",
        f"Bytes of a step, as a share of a dense image ({summary.image_bytes:,} bytes)",
        "Weights at an end of their grid, as a share of the layer",
    )
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(title, loc="left", fontsize=MEDIUM, color=LIGHT.ink, pad=8)
        axis.yaxis.set_major_formatter(FuncFormatter(_percent))
        axis.tick_params(which="minor", length=0)
        axis.set_xlim(summary.first_step, summary.first_step + summary.steps)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes[-1].set_xlabel("step of training", fontsize=SMALL, color=LIGHT.muted)
    return figure


def save_plot(summary: Summary, path: str | Path) -> None:
    """Write the figure of :func:`draw` as a PNG file, whole or not at all.

    Args:
        summary: of :func:`~hw_export.updates.inspect`.
        path: file to write.

    Raises:
        UserError: for a stream without frames.
        SaveError: when the file cannot be written.
    """
    content = png(draw(summary), sharpness=2, paper=LIGHT.paper)
    write_whole(path, lambda file: file.write(content))


def _panel(figure: Figure, index: int) -> Axes:
    axis = place(figure, LEFT, TOP + index * (PANEL + GAP), WIDTH - LEFT - RIGHT, PANEL)
    clean(axis, LIGHT)
    return axis


def _binned(looks: NDArray[np.int64], values: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over bins of comparisons; a comparison without a frame counts as 0."""
    sums, _ = np.histogram(looks + 0.5, edges, weights=values.astype(np.float64))
    counts, _ = np.histogram(np.arange(int(edges[-1])) + 0.5, edges)
    return sums / np.maximum(counts, 1)


def _percent(value: float, _: object = None) -> str:
    return f"{100 * value:.3g} %"
