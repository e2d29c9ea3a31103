"""What is in the layers: how often their neurons spike, and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from spikelfp.report import words
from spikelfp.report.plots.parts import HALF, Array, legend, name_classes
from spikelfp.report.theme import LIGHT, SMALL, Theme, bare, clean, new_figure, place, powers_of_ten


def rates(values: Array, *, width: float = HALF, theme: Theme = LIGHT) -> Figure:
    """Which share of a layer is silent, and how often the other neurons spike: ``values`` ``[N]`` per step."""
    figure = new_figure(width, 205)
    active = values[values > 0]
    silent = 1 - active.size / values.size
    share = place(figure, 50, 22, width - 62, 7)
    bare(share)
    share.barh([0, 0], [silent, 1 - silent], 1, [0, silent], color=[theme.accent, theme.main])
    share.set_xlim(0, 1)
    share.margins(y=0)
    if silent:
        share.set_title(f"{words.percent(silent)} silent", loc="left", fontsize=SMALL, color=theme.ink, pad=4)
    share.set_title(f"{words.percent(1 - silent)} spike", loc="right", fontsize=SMALL, color=theme.ink, pad=4)
    axes = place(figure, 50, 42, width - 62, 115)
    clean(axes, theme)
    if active.size:
        axes.hist(active, bins=30, range=(0, float(active.max())), color=theme.main, rwidth=0.86)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("spikes per step", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("neurons", fontsize=SMALL, color=theme.muted)
    return figure


def class_rates(
    own: Array, other: Array, class_names: Sequence[str], *, width: float = HALF, theme: Theme = LIGHT
) -> Figure:
    """Spikes per step ``[C]`` of each output for samples of its class and for the others."""
    long = max(map(len, class_names)) > 3
    figure = new_figure(width, 240 if long else 205)
    axes = place(figure, 50, 28, width - 62, 129)
    clean(axes, theme)
    where = np.arange(len(own))
    axes.bar(where - 0.2, np.nan_to_num(own), 0.38, color=theme.main, label="own class")
    axes.bar(where + 0.2, np.nan_to_num(other), 0.38, color=theme.quiet, label="other classes")
    axes.set_xlim(-0.7, len(own) - 0.3)
    name_classes(axes.xaxis, class_names, slant=long)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("spikes per step", fontsize=SMALL, color=theme.muted)
    if not long:
        axes.set_xlabel("class", fontsize=SMALL, color=theme.muted)
    legend(axes, theme)
    return figure


def weights(before: Array | None, after: Array, *, width: float = HALF, theme: Theme = LIGHT) -> Figure:
    """Histograms of a layer's weights after training and, as an outline, before; counts are logarithmic."""
    figure = new_figure(width, 205)
    axes = place(figure, 50, 28, width - 62, 129)
    clean(axes, theme)
    both = after if before is None else np.concatenate([before, after])
    reach = float(np.abs(both).max()) or 1.0
    edges = np.linspace(-reach, reach, 62).tolist()
    axes.hist(after, edges, color=theme.main, alpha=0.75, label="after")
    if before is not None:
        axes.hist(before, edges, histtype="step", color=theme.accent, linewidth=1.5, label="before")
    axes.set_yscale("log")
    powers_of_ten(axes.yaxis)
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("weight", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("connections", fontsize=SMALL, color=theme.muted)
    legend(axes, theme)
    return figure
