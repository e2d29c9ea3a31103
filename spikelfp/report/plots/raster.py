"""The spikes of every layer for one sample, step by step, and a sample beside the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from spikelfp.report.plots.events import draw_input, input_height
from spikelfp.report.plots.image import draw_image
from spikelfp.report.plots.parts import NAMED_CLASSES, WIDE, Array, class_colours, name_classes, short
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, bare, clean, new_figure, place

ALL_NEURONS, SHOWN_NEURONS = 250, 120
"""A raster shows up to so many neurons all; of a larger layer, so many of those that spike, evenly chosen."""

SAMPLE_HEIGHT = 272.0
"""Page pixels of a sample with the words under it."""


def raster(
    image: Array | None,
    layers: Sequence[tuple[str, Array]],
    label: int | None,
    class_names: Sequence[str],
    *,
    output: bool = True,
    scores: Array | None = None,
    events: Array | None = None,
    step: str = "step",
    theme: Theme = LIGHT,
) -> Figure:
    """A sample beside the spikes of every layer over the steps, the layers from top to bottom.

    image: ``None`` where the input over the layers says it all. layers: title and spikes ``[T, N]``; with ``output``,
    the last has a row per class, that of ``label`` in colour. Bars count the spikes of each row. scores: ``[C]``, the
    largest of which is the answer, if it is not that of the output spikes. events: the input ``[T, P, H, W]`` or
    ``[T, N]`` of event data, drawn over the layers on the same time axis. step: what a step is.
    """
    hidden = layers[:-1] if output else layers
    per_layer = max(96.0, min(270.0, 420.0 / max(len(hidden), 1)))
    heights = [max(40.0, min(per_layer, 7.0 * min(s.shape[1], SHOWN_NEURONS))) for _, s in hidden]
    if output:
        classes = layers[-1][1].shape[1]
        heights.append(max(60.0, min(17.0 * classes, 380.0)))
    gap, top = 34.0, 26.0
    above = 0.0 if events is None else input_height(events) + gap
    figure = new_figure(WIDE, max(top + above + sum(heights) + gap * (len(heights) - 1) + 46, top + SAMPLE_HEIGHT))
    left, bars = 290.0 if image is not None else 150.0, 126.0
    width = WIDE - left - bars - 38
    answers = scores if scores is not None else layers[-1][1].sum(0) if output else None
    _draw_sample(figure, top, image, label, answers, class_names, theme)
    steps = layers[0][1].shape[0]
    if events is not None:
        _time_axis(draw_input(figure, events, left, top, width, (left + width + 16, bars), theme), steps, "", theme)
        top += above
    for index, ((title, spikes), height) in enumerate(zip(layers, heights, strict=True)):
        rows = place(figure, left, top, width, height)
        counts = place(figure, left + width + 16, top, bars, height)
        is_output = output and index == len(layers) - 1
        last = index == len(layers) - 1
        if is_output and label is not None:
            _draw_classes(rows, counts, spikes, label, class_names, theme)
        else:
            title = f"{title} · {_draw_neurons(rows, counts, spikes, theme)}"
        rows.set_title(title, loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
        if index == 0:
            counts.set_title("spikes", loc="left", fontsize=SMALL, color=theme.muted, pad=6)
        _time_axis(rows, steps, step if last else "", theme)
        counts.set_xlim(0, steps)
        counts.xaxis.set_major_locator(FixedLocator([0, steps]))
        counts.tick_params(labelbottom=last)
        top += height + gap
    return figure


def outputs(
    image: Array | None, values: Array, label: int, class_names: Sequence[str], *, theme: Theme = LIGHT
) -> Figure:
    """A sample beside the value ``[C]`` of every output, that of ``label`` in colour."""
    classes = len(values)
    height = max(220.0, min(20.0 * classes, 420.0))
    figure = new_figure(WIDE, max(height + 72, 26 + SAMPLE_HEIGHT))
    _draw_sample(figure, 26, image, label, values, class_names, theme)
    axes = place(figure, 290, 26, 590, height)
    clean(axes, theme, "x")
    axes.barh(range(classes), values, 0.72, color=class_colours(values, label, theme))
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(classes - 0.4, -0.6)
    name_classes(axes.yaxis, class_names)
    axes.set_xlabel("output value", fontsize=SMALL, color=theme.muted)
    axes.set_title("Output layer", loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
    return figure


def _draw_sample(
    figure: Figure,
    top: float,
    image: Array | None,
    label: int | None,
    values: Array | None,
    class_names: Sequence[str],
    theme: Theme,
) -> None:
    """The sample, if there is a picture of it, and under it what it is and what it is taken for."""
    if image is not None:
        draw_image(place(figure, 4, top, 220, 220), image, theme)
    if label is None:
        return
    words_at = place(figure, 4, top if image is None else top + 226, 220, 40)
    bare(words_at)
    text = [("true", label, theme.main)]
    if values is not None:
        winner = int(np.argmax(values))
        text.append(("predicted", winner, theme.main if winner == label else theme.accent))
    for index, (what, number, colour) in enumerate(text):
        place_of: dict[str, Any] = {"transform": words_at.transAxes, "va": "center", "fontsize": MEDIUM}
        words_at.text(0, 0.72 - 0.45 * index, what, color=theme.muted, **place_of)
        words_at.text(0.3, 0.72 - 0.45 * index, short(class_names[number], 20), color=colour, weight="bold", **place_of)


def _draw_neurons(rows: Axes, counts: Axes, spikes: Array, theme: Theme) -> str:
    """The spikes of a hidden layer, most active neuron on top; returns which neurons are shown.

    Of a large layer an even choice from the most to the least active: the most active alone spike at every step.
    """
    total = spikes.sum(0)
    first = np.where(total > 0, spikes.argmax(0), len(spikes))
    order = np.lexsort((first, -total))
    neurons = spikes.shape[1]
    if neurons > ALL_NEURONS:
        active = int((total > 0).sum())
        order = order[np.linspace(0, max(active - 1, 0), min(active, SHOWN_NEURONS)).round().astype(int)]
        text = f"{len(order):,} of {active:,} spiking neurons ({neurons:,} in all)"
    else:
        text = f"all {neurons:,} neurons"
    if not total.any():
        text = f"none of {neurons:,} neurons spikes"
    shown = spikes[:, order]
    _draw_spikes(rows, shown, theme.main)
    rows.yaxis.set_major_locator(NullLocator())
    _bare_side(counts, theme)
    counts.stairs(total[order], np.arange(len(order) + 1) - 0.5, orientation="horizontal", fill=True,
                  color=theme.main, alpha=0.75)  # fmt: skip
    counts.set_ylim(max(len(order), 1) - 0.5, -0.5)
    return text


def _draw_classes(
    rows: Axes, counts: Axes, spikes: Array, label: int, class_names: Sequence[str], theme: Theme
) -> None:
    """The spikes of the output layer, a row per class."""
    total = spikes.sum(0)
    colours = class_colours(total, label, theme)
    rows.axhspan(label - 0.5, label + 0.5, color=theme.main, alpha=0.12, linewidth=0)
    counts.axhspan(label - 0.5, label + 0.5, color=theme.main, alpha=0.12, linewidth=0)
    for row, colour in enumerate(colours):
        _draw_spikes(rows, spikes[:, row : row + 1], colour, row)
    rows.set_ylim(len(total) - 0.5, -0.5)
    _bare_side(counts, theme)
    counts.barh(range(len(total)), total, 0.6, color=colours)
    counts.set_ylim(len(total) - 0.5, -0.5)
    if len(total) <= NAMED_CLASSES:
        for row, count in enumerate(total):
            if count:
                counts.annotate(f"{int(count)}", (count, row), (4, 0), textcoords="offset points", va="center",
                                fontsize=SMALL, color=theme.ink, annotation_clip=False)  # fmt: skip
    name_classes(rows.yaxis, class_names)
    rows.tick_params(length=0, pad=6, labelsize=SMALL, labelcolor=theme.muted)
    for row, name in enumerate(rows.get_yticklabels()):
        if row == label and len(total) <= NAMED_CLASSES:
            name.set_color(theme.main)
            name.set_fontweight("bold")


def _draw_spikes(axes: Axes, spikes: Array, colour: str, first_row: int = 0) -> None:
    """``spikes`` ``[T, N]`` as ticks, a row a neuron."""
    steps, neurons = np.nonzero(spikes)
    tall = 0.36 if spikes.shape[1] < 60 else 0.5
    thick = min(0.42 * 446 / len(spikes), 4.5) * 0.72  # points of 446 page pixels, or of a wider raster
    rows = neurons + first_row
    axes.vlines(steps + 1, rows - tall, rows + tall, color=colour, linewidth=thick)
    axes.set_ylim(max(spikes.shape[1], 1) - 0.5, -0.5)


def _time_axis(axes: Axes, steps: int, label: str, theme: Theme) -> None:
    """The steps from 1 on; with the ``label`` of the lowest axes, the others have no numbers."""
    axes.set_facecolor("none")
    axes.set_xlim(0.4, steps + 0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    every = max(1, -(-steps // 10))
    ticks = FixedLocator([1, *range(every if every > 1 else 2, steps + 1, every)])
    axes.xaxis.set_major_locator(ticks)
    axes.tick_params(axis="x", length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted, labelbottom=bool(label))
    if label:
        axes.set_xlabel(label, fontsize=SMALL, color=theme.muted)


def _bare_side(axes: Axes, theme: Theme) -> None:
    """Bars beside a raster: only a line they start from."""
    axes.set_facecolor("none")
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(theme.muted)
    axes.spines["left"].set_linewidth(0.7)
    axes.yaxis.set_major_locator(NullLocator())
    axes.tick_params(axis="x", length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)
