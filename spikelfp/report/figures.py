"""Figures of a run: curves, spike rates, weights, errors and predictions. Arrays in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from spikelfp.report import wording
from spikelfp.report.theme import (
    HALF,
    LIGHT,
    MEDIUM,
    NAMED_CLASSES,
    SMALL,
    WIDE,
    Array,
    Theme,
    bare,
    clean,
    legend,
    name_classes,
    new_figure,
    place,
    powers_of_ten,
    short,
)

MARKED_EPOCHS = 25
"""Largest number of epochs that have a marker each."""


def curves(
    epochs: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    ylabel: str,
    *,
    share: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw lines over epochs; the legend has their last values.

    Args:
        epochs: numbers of the epochs.
        values: lines by name, ``None`` where a value is missing.
        ylabel: name of the vertical axis.
        share: write the values as percentages.
        theme: colours.
    """
    figure = new_figure(HALF, 260)
    draw_curves(place(figure, 72, 34, HALF - 84, 180), epochs, values, ylabel, share=share, theme=theme)
    return figure


def draw_curves(
    axes: Axes,
    epochs: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    ylabel: str,
    *,
    share: bool = False,
    theme: Theme = LIGHT,
) -> None:
    """Draw lines over epochs on axes, as :func:`curves` does.

    Args:
        axes: to draw on.
        epochs: numbers of the epochs.
        values: lines by name, ``None`` where a value is missing.
        ylabel: name of the vertical axis.
        share: write the values as percentages.
        theme: colours.
    """
    clean(axes, theme)
    colours = (theme.main, theme.accent, theme.muted)
    marker = "o" if len(epochs) <= MARKED_EPOCHS else ""
    for index, (label, line) in enumerate(values.items()):
        points = [(epoch, value) for epoch, value in zip(epochs, line, strict=True) if value is not None]
        if not points:
            continue
        across, up = zip(*points, strict=True)
        last = wording.percent(up[-1], 2) if share else wording.small(up[-1])
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


def early(accuracy: Array, settled: int, step: str = "step", *, theme: Theme = LIGHT) -> Figure:
    """Draw the accuracy if the answer is read after each step.

    Args:
        accuracy: ``[T]``, NaN where there is none.
        settled: step that is marked.
        step: name of a step, on the axis.
        theme: colours.
    """
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
    """Draw outputs over the steps.

    Args:
        outputs: ``[T, K]``.
        wanted: targets ``[K]``, dashed.
        names: of the outputs.
        step: name of a step, on the axis.
        theme: colours.
    """
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


def rates(values: Array, *, width: float = HALF, theme: Theme = LIGHT) -> Figure:
    """Draw the share of silent neurons of a layer, and a histogram of the rates of the others.

    Args:
        values: spikes per step ``[N]``.
        width: page pixels.
        theme: colours.
    """
    figure = new_figure(width, 205)
    active = values[values > 0]
    silent = 1 - active.size / values.size
    share = place(figure, 50, 22, width - 62, 7)
    bare(share)
    share.barh([0, 0], [silent, 1 - silent], 1, [0, silent], color=[theme.accent, theme.main])
    share.set_xlim(0, 1)
    share.margins(y=0)
    if silent:
        share.set_title(f"{wording.percent(silent)} silent", loc="left", fontsize=SMALL, color=theme.ink, pad=4)
    share.set_title(f"{wording.percent(1 - silent)} spike", loc="right", fontsize=SMALL, color=theme.ink, pad=4)
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
    """Draw spikes per step of each output, for samples of its class and for the others.

    Args:
        own: ``[C]``, for samples of the class.
        other: ``[C]``, for the others.
        class_names: of the outputs.
        width: page pixels.
        theme: colours.
    """
    long = max(map(len, class_names)) > 3
    figure = new_figure(width, 240 if long else 205)
    axes = place(figure, 70, 28, width - 82, 129)
    clean(axes, theme)
    where = np.arange(len(own))
    axes.bar(where - 0.2, np.nan_to_num(own), 0.38, color=theme.main, label="own class")
    axes.bar(where + 0.2, np.nan_to_num(other), 0.38, color=theme.quiet, label="other classes")
    axes.set_xlim(-0.7, len(own) - 0.3)
    axes.set_ylim(0, None if max(np.nan_to_num(own).max(), np.nan_to_num(other).max()) > 0 else 1)
    name_classes(axes.xaxis, class_names, slant=long)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("spikes per step", fontsize=SMALL, color=theme.muted)
    if not long:
        axes.set_xlabel("class", fontsize=SMALL, color=theme.muted)
    legend(axes, theme)
    return figure


def weights(before: Array | None, after: Array, *, width: float = HALF, theme: Theme = LIGHT) -> Figure:
    """Draw histograms of a layer's weights after training and, as an outline, before; counts are logarithmic.

    Args:
        before: weights before training, if they are known.
        after: weights after training.
        width: page pixels.
        theme: colours.
    """
    figure = new_figure(width, 205)
    axes = place(figure, 50, 28, width - 62, 129)
    clean(axes, theme)
    both = after if before is None else np.concatenate([before, after])
    reach = float(np.abs(both).max()) or 1.0
    edges = np.linspace(-reach, reach, 62).tolist()
    axes.hist(after, edges, histtype="stepfilled", color=theme.main, alpha=0.75, label="after")
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


def confusion(counts: Array, class_names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Draw a confusion matrix, right samples and errors each in their own colour.

    Args:
        counts: samples ``[C, C]`` by true (row) and predicted class.
        class_names: of the classes.
        theme: colours.
    """
    classes = len(counts)
    figure = new_figure(HALF, 400)
    long = max(map(len, class_names)) > 3
    left, below = (112.0, 92.0) if long else (46.0, 46.0)
    side = min(HALF - left - 10, 400 - below - 6)
    axes = place(figure, left, 4, side, side)
    axes.set_facecolor("none")
    right = np.eye(classes, dtype=bool)
    picture = np.zeros((classes, classes, 4))
    for mask, colour in ((right, theme.main), (~right, theme.accent)):
        part = np.where(mask, counts, 0)
        strength = np.sqrt(part / max(part.max(), 1))
        picture[mask, :3] = to_rgba(colour)[:3]
        picture[mask, 3] = 0.85 * strength[mask]
    axes.imshow(picture, interpolation="nearest", aspect="equal")
    if classes <= NAMED_CLASSES // 2:
        strongest = counts[~right].max() if classes > 1 else 0
        for row, column in zip(*np.nonzero(counts), strict=True):
            count = int(counts[row, column])
            full = count > 0.55 * (counts[right].max() if row == column else strongest)
            colour = theme.paper if full else theme.ink
            axes.text(column, row, str(count), ha="center", va="center", fontsize=SMALL - 1, color=colour)
    for spine in axes.spines.values():
        spine.set_color(theme.line)
    axes.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=theme.muted)
    name_classes(axes.xaxis, class_names, slant=long)
    name_classes(axes.yaxis, class_names)
    axes.set_xlabel("predicted", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("true", fontsize=SMALL, color=theme.muted)
    return figure


SHOWN_OUTPUTS = 6
"""Largest number of outputs that are told apart by colour or by name."""

POINTS = 4_000
"""Largest number of points of an output; of more samples an even choice is shown."""


def colours(theme: Theme, count: int) -> list[tuple[str, float]]:
    """Choose a colour and an opacity for each of so many outputs."""
    return [((theme.main, theme.accent, theme.muted)[k % 3], 1.0 - 0.35 * (k // 3 % 3)) for k in range(count)]


def against(wanted: Array, predicted: Array, names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Draw predicted over true values, a point a sample, and the line of exact predictions.

    Args:
        wanted: ``[n, K]``.
        predicted: ``[n, K]``.
        names: of the outputs.
        theme: colours.
    """
    figure = new_figure(HALF, 400)
    axes = place(figure, 66, 30, HALF - 80, HALF - 110)
    clean(axes, theme)
    every = max(1, -(-len(wanted) // POINTS))
    low, high = (float(each) for each in (min(wanted.min(), predicted.min()), max(wanted.max(), predicted.max())))
    margin = 0.04 * (high - low) or 1.0
    axes.plot([low - margin, high + margin], [low - margin, high + margin], color=theme.muted, linewidth=0.9, zorder=1)
    size = 9 if len(wanted) <= 500 else 4
    outputs = wanted.shape[1]
    for k, (colour, seen) in enumerate(colours(theme, outputs)):
        axes.plot(
            wanted[::every, k], predicted[::every, k], "o", color=colour, alpha=0.55 * seen, markersize=size**0.5,
            markeredgewidth=0, label=short(names[k]),
        )  # fmt: skip
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"true {short(names[0], 30)}" if outputs == 1 else "true", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("predicted", fontsize=SMALL, color=theme.muted)
    if 1 < outputs <= SHOWN_OUTPUTS:
        legend(axes, theme, 3, SMALL)
    return figure


def residuals(error: Array, names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Draw a histogram of errors, a line for each output.

    Args:
        error: ``[n, K]``.
        names: of the outputs.
        theme: colours.
    """
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
    """Draw how often each label was found, missed, or named where it is not.

    Args:
        found: ``[K]``.
        missed: ``[K]``.
        wrong: ``[K]``.
        names: of the labels.
        theme: colours.
    """
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
