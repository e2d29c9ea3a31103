"""The figures of a report: arrays in, a matplotlib figure out, nothing kept between calls.

Each takes the :class:`~spikelfp.report.theme.Theme` it is drawn for. Titles and explanations are the page's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from spikelfp.report import words
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, bare, clean, new_figure, place

Array = NDArray[Any]

HALF, WIDE, THIRD = 430.0, 900.0, 330.0
"""Page pixels of a figure's width."""

MARKED_EPOCHS = 25
"""Up to so many epochs every one has a marker."""

ALL_NEURONS, SHOWN_NEURONS = 250, 120
"""A raster shows up to so many neurons all; of a larger layer, so many of those that spike, evenly chosen."""

SAMPLE_HEIGHT = 272.0
"""Page pixels of a sample with the words under it."""

NAMED_CLASSES = 30
"""Up to so many classes are named one by one."""


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
    _legend(axes, theme, len(values), MEDIUM)
    return figure


def raster(
    image: Array,
    layers: Sequence[tuple[str, Array]],
    label: int,
    class_names: Sequence[str],
    *,
    output: bool = True,
    theme: Theme = LIGHT,
) -> Figure:
    """A sample beside the spikes of every layer over the steps, the layers from top to bottom.

    layers: title and spikes ``[T, N]``; with ``output``, the last has a row per class, that of ``label`` in colour.
    Bars count the spikes of each row.
    """
    hidden = layers[:-1] if output else layers
    per_layer = max(96.0, min(270.0, 420.0 / max(len(hidden), 1)))
    heights = [max(40.0, min(per_layer, 7.0 * min(s.shape[1], SHOWN_NEURONS))) for _, s in hidden]
    if output:
        classes = layers[-1][1].shape[1]
        heights.append(max(60.0, min(17.0 * classes, 380.0)))
    gap, top = 34.0, 26.0
    figure = new_figure(WIDE, max(top + sum(heights) + gap * (len(heights) - 1) + 46, top + SAMPLE_HEIGHT))
    left, width, bars = 290.0, 446.0, 126.0
    _draw_sample(figure, top, image, label, layers[-1][1].sum(0) if output else None, class_names, theme)
    steps = layers[0][1].shape[0]
    for index, ((title, spikes), height) in enumerate(zip(layers, heights, strict=True)):
        rows = place(figure, left, top, width, height)
        counts = place(figure, left + width + 16, top, bars, height)
        is_output = output and index == len(layers) - 1
        last = index == len(layers) - 1
        if is_output:
            _draw_classes(rows, counts, spikes, label, class_names, theme)
        else:
            title = f"{title} · {_draw_neurons(rows, counts, spikes, theme)}"
        rows.set_title(title, loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
        if index == 0:
            counts.set_title("spikes", loc="left", fontsize=SMALL, color=theme.muted, pad=6)
        _time_axis(rows, steps, last, theme)
        counts.set_xlim(0, steps)
        counts.xaxis.set_major_locator(FixedLocator([0, steps]))
        counts.tick_params(labelbottom=last)
        top += height + gap
    return figure


def outputs(image: Array, values: Array, label: int, class_names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """A sample beside the value ``[C]`` of every output, that of ``label`` in colour."""
    classes = len(values)
    height = max(220.0, min(20.0 * classes, 420.0))
    figure = new_figure(WIDE, max(height + 72, 26 + SAMPLE_HEIGHT))
    _draw_sample(figure, 26, image, label, values, class_names, theme)
    axes = place(figure, 290, 26, 590, height)
    clean(axes, theme, "x")
    axes.barh(range(classes), values, 0.72, color=_class_colours(values, label, theme))
    axes.axvline(0, color=theme.muted, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(classes - 0.4, -0.6)
    _name_classes(axes.yaxis, class_names)
    axes.set_xlabel("output value", fontsize=SMALL, color=theme.muted)
    axes.set_title("Output layer", loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
    return figure


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
    _name_classes(axes.xaxis, class_names, slant=long)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel("spikes per step", fontsize=SMALL, color=theme.muted)
    if not long:
        axes.set_xlabel("class", fontsize=SMALL, color=theme.muted)
    _legend(axes, theme)
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
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("weight", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("connections", fontsize=SMALL, color=theme.muted)
    _legend(axes, theme)
    return figure


def confusion(counts: Array, class_names: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Samples ``[C, C]`` by true (row) and predicted class, right ones and errors each in their own colour."""
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
    _name_classes(axes.xaxis, class_names, slant=long)
    _name_classes(axes.yaxis, class_names)
    axes.set_xlabel("predicted", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("true", fontsize=SMALL, color=theme.muted)
    return figure


def misread(
    wrong: Sequence[tuple[Array, int, int, float]], class_names: Sequence[str], *, theme: Theme = LIGHT
) -> Figure:
    """Samples that were taken for another class, up to nine: ``(image, label, predicted, gap)``."""
    figure = new_figure(HALF, 400)
    for index, (image, label, predicted, _) in enumerate(wrong[:9]):
        row, column = divmod(index, 3)
        axes = place(figure, 22 + 136 * column, 24 + 131 * row, 100, 100)
        _draw_image(axes, image, theme)
        text = f"{_short(class_names[label])} → {_short(class_names[predicted])}"
        axes.set_title(text, fontsize=MEDIUM, color=theme.ink, pad=5)
    return figure


def is_image(image: Array) -> bool:
    """Whether a sample can be shown as a picture."""
    return image.ndim in (2, 3) and min(image.shape[-2:]) > 1


def _draw_image(axes: Axes, image: Array, theme: Theme) -> None:
    """A picture: grey, RGB, the two polarities of events, or the mean of other channels; a vector as a line."""
    bare(axes)
    if not is_image(image):
        flat = image.reshape(-1)
        axes.fill_between(np.arange(flat.size), flat, color=theme.main, alpha=0.35, step="mid")
        axes.step(np.arange(flat.size), flat, color=theme.main, linewidth=1, where="mid")
        return
    planes = image[None] if image.ndim == 2 else image
    scale = float(np.abs(planes).max()) or 1.0
    if len(planes) == 3:
        low, high = float(planes.min()), float(planes.max())
        axes.imshow(np.moveaxis((planes - low) / ((high - low) or 1.0), 0, -1), interpolation="nearest")
    elif len(planes) == 2:
        shades = [np.array(to_rgba(colour)[:3]) for colour in (theme.accent, theme.main)]
        mixed = sum((plane / scale)[..., None] * shade for plane, shade in zip(planes, shades, strict=True))
        axes.imshow(np.clip(mixed, 0, 1), interpolation="nearest")
    else:
        grey = LinearSegmentedColormap.from_list("ink", ["#0d1116", "#f4f6f8"])
        axes.imshow(planes.mean(0), cmap=grey, interpolation="nearest")
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, color=theme.line, linewidth=1))


def _draw_sample(
    figure: Figure, top: float, image: Array, label: int, values: Array | None, class_names: Sequence[str], theme: Theme
) -> None:
    """The sample, and under it what it is and what it is taken for."""
    _draw_image(place(figure, 4, top, 220, 220), image, theme)
    words_at = place(figure, 4, top + 226, 220, 40)
    bare(words_at)
    text = [("true", label, theme.main)]
    if values is not None:
        winner = int(np.argmax(values))
        text.append(("predicted", winner, theme.main if winner == label else theme.accent))
    for index, (what, number, colour) in enumerate(text):
        place_of: dict[str, Any] = {"transform": words_at.transAxes, "va": "center", "fontsize": MEDIUM}
        words_at.text(0, 0.72 - 0.45 * index, what, color=theme.muted, **place_of)
        words_at.text(0.3, 0.72 - 0.45 * index, class_names[number], color=colour, weight="bold", **place_of)


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
    colours = _class_colours(total, label, theme)
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
    _name_classes(rows.yaxis, class_names)
    rows.tick_params(length=0, pad=6, labelsize=SMALL, labelcolor=theme.muted)
    for row, name in enumerate(rows.get_yticklabels()):
        if row == label and len(total) <= NAMED_CLASSES:
            name.set_color(theme.main)
            name.set_fontweight("bold")


def _draw_spikes(axes: Axes, spikes: Array, colour: str, first_row: int = 0) -> None:
    """``spikes`` ``[T, N]`` as ticks, a row a neuron."""
    steps, neurons = np.nonzero(spikes)
    tall = 0.36 if spikes.shape[1] < 60 else 0.5
    thick = min(0.42 * 446 / len(spikes), 4.5) * 0.72
    rows = neurons + first_row
    axes.vlines(steps + 1, rows - tall, rows + tall, color=colour, linewidth=thick)
    axes.set_ylim(max(spikes.shape[1], 1) - 0.5, -0.5)


def _time_axis(axes: Axes, steps: int, last: bool, theme: Theme) -> None:
    axes.set_facecolor("none")
    axes.set_xlim(0.4, steps + 0.6)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    every = max(1, -(-steps // 10))
    ticks = FixedLocator([1, *range(every if every > 1 else 2, steps + 1, every)])
    axes.xaxis.set_major_locator(ticks)
    axes.tick_params(axis="x", length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted, labelbottom=last)
    if last:
        axes.set_xlabel("step", fontsize=SMALL, color=theme.muted)


def _bare_side(axes: Axes, theme: Theme) -> None:
    """Bars beside a raster: only a line they start from."""
    axes.set_facecolor("none")
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(theme.muted)
    axes.spines["left"].set_linewidth(0.7)
    axes.yaxis.set_major_locator(NullLocator())
    axes.tick_params(axis="x", length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)


def _class_colours(values: Array, label: int, theme: Theme) -> list[str]:
    """The right class in the main colour, a wrong winner in the accent."""
    winner = int(np.argmax(values))
    return [theme.main if c == label else theme.accent if c == winner else theme.quiet for c in range(len(values))]


def _name_classes(axis: Any, class_names: Sequence[str], slant: bool = False) -> None:
    """Class names along an axis, or plain numbers where they would not fit."""
    if len(class_names) > NAMED_CLASSES:
        axis.set_major_locator(MaxNLocator(8, integer=True))
        return
    axis.set_major_locator(FixedLocator(range(len(class_names))))
    names = [_short(name) for name in class_names]
    axis.set_ticklabels(names, **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slant else {}))


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"


def _legend(axes: Axes, theme: Theme, columns: int = 2, size: float = SMALL) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=size,
        labelcolor=theme.ink,
        handlelength=1.0,
        handleheight=0.8,
        handletextpad=0.5,
        borderaxespad=0.1,
    )
