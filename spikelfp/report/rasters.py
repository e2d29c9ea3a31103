"""Pictures of samples and of spikes: images, recordings of events, and the raster of every layer over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from spikelfp.report.theme import (
    DARK,
    HALF,
    LIGHT,
    MEDIUM,
    NAMED_CLASSES,
    SMALL,
    WIDE,
    Array,
    Theme,
    bare,
    class_colours,
    clean,
    fit,
    name_classes,
    new_figure,
    place,
    short,
)

NIGHT, OFF, ON = "#0d1116", DARK.accent, DARK.main
"""Colours of no event, and of one of each polarity. Images of events are dark on a light page too."""

FAINTEST = 0.4
"""Brightness of a pixel with the least that is shown, of 1."""


def is_image(image: Array) -> bool:
    """Whether a sample can be shown as a picture."""
    return image.ndim in (2, 3) and min(image.shape[-2:]) > 1


def brightness(counts: Array, full: float) -> Array:
    """Compute brightness between 0 and 1 by the root of counts; it is 0 for no event only.

    Args:
        counts: numbers of events.
        full: count that is shown at full brightness, as are larger ones.
    """
    return np.where(counts > 0, FAINTEST + (1 - FAINTEST) * np.sqrt(np.clip(counts / full, 0, 1)), 0.0)


def event_colours(levels: Array) -> Array:
    """Mix the colours of OFF and ON events.

    A pixel is as bright as the brighter polarity. Where both have events, its colour lies between the two, light grey
    where there are as many of each.

    Args:
        levels: brightness ``[P, …]`` of OFF and ON events, or of all events where ``P`` is 1.

    Returns:
        RGB ``[…, 3]``.
    """
    paper = np.array(to_rgb(NIGHT))
    shades = np.array([to_rgb(colour) for colour in ((ON,) if len(levels) == 1 else (OFF, ON))]) - paper
    weights = levels**2
    shares = weights / np.maximum(weights.sum(0), 1e-9)
    colours: Array = paper + levels.max(0)[..., None] * np.tensordot(shares, shades, (0, 0))
    return np.clip(colours, 0, 1)


def full_scale(counts: Array) -> float:
    """Choose the count that is shown at full brightness: 99 in 100 pixels with events have no more.

    A few hot pixels then do not darken all others.
    """
    active = counts[counts > 0]
    return float(np.quantile(active, 0.99)) if active.size else 1.0


def draw_image(axes: Axes, image: Array, theme: Theme) -> None:
    """Draw an image: grey, RGB, the two polarities of events, or the mean of other channels; a vector as a line."""
    bare(axes)
    if not is_image(image):
        flat = image.reshape(-1)
        axes.fill_between(np.arange(flat.size), flat, color=theme.main, alpha=0.35, step="mid")
        axes.step(np.arange(flat.size), flat, color=theme.main, linewidth=1, where="mid")
        return
    planes = image[None] if image.ndim == 2 else image
    if len(planes) == 3:
        low, high = float(planes.min()), float(planes.max())
        axes.imshow(np.moveaxis((planes - low) / ((high - low) or 1.0), 0, -1), interpolation="nearest")
    elif len(planes) == 2:
        axes.imshow(event_colours(brightness(planes, full_scale(planes))), interpolation="nearest")
    else:
        grey = LinearSegmentedColormap.from_list("ink", [NIGHT, "#f4f6f8"])
        axes.imshow(planes.mean(0), cmap=grey, interpolation="nearest")
    frame(axes, theme)


def frame(axes: Axes, theme: Theme) -> None:
    """Draw a thin line around an image."""
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, color=theme.line, linewidth=1))


MOST_PICTURES, LARGEST = 6, 104.0
"""Pictures in the row, and page pixels of the longer side of one."""

BARS, BETWEEN = 46.0, 8.0
"""Page pixels of the bars under the pictures, and between the two."""

DRAWN_CHANNELS = 240
"""Largest number of rows of a raster of channels; of more channels several share a row."""


def is_camera(sequence: Array) -> bool:
    """Whether the steps of a sequence ``[T, …]`` are images of one or two polarities."""
    return sequence.ndim == 4 and sequence.shape[1] <= 2 and is_image(sequence[0])


def input_height(sequence: Array) -> float:
    """Compute the page pixels that :func:`draw_input` needs."""
    if is_camera(sequence):
        return _picture_size(sequence)[1] + BETWEEN + BARS
    return float(np.clip(7.0 * np.prod(sequence.shape[1:]), 60, 240))


def draw_input(
    figure: Figure, sequence: Array, left: float, top: float, width: float, side: tuple[float, float], theme: Theme
) -> Axes:
    """Draw a sequence above the raster of the layers.

    A camera has a row of images, each of all events in the steps below it, and bars of the inputs that are not 0 in
    each step, ON upwards and OFF downwards. A line of channels has a raster in the order of its channels.

    Args:
        figure: to draw on.
        sequence: ``[T, …]``.
        left: page pixels.
        top: page pixels.
        width: page pixels.
        side: left edge and width of the column of totals, in page pixels.
        theme: colours.

    Returns:
        The axes whose time axis is that of the layers.
    """
    axes = (_draw_camera if is_camera(sequence) else _draw_channels)(figure, sequence, left, top, width, side, theme)
    return axes


def channel_raster(axes: Axes, values: Array, theme: Theme) -> None:
    """Draw the values of a line of channels, the first channel at the bottom.

    Args:
        axes: to draw on.
        values: ``[T, N]``; of many channels the largest of several is drawn in a row.
        theme: colours.
    """
    steps, channels = values.shape
    block = -(-channels // DRAWN_CHANNELS)
    rows = np.pad(values, ((0, 0), (0, -channels % block))).reshape(steps, -1, block).max(2)
    red, green, blue, _ = to_rgba(theme.main)
    shades = LinearSegmentedColormap.from_list("main", [(red, green, blue, 0.0), (red, green, blue, 1.0)])
    extent = (0.5, steps + 0.5, -0.5, rows.shape[1] * block - 0.5)
    most = max(float(values.max()), 1e-9)
    axes.imshow(rows.T, cmap=shades, vmin=0, vmax=most, aspect="auto", origin="lower", extent=extent,
                interpolation="nearest" if steps <= 500 else "antialiased")  # fmt: skip
    axes.set_ylim(-0.5, channels - 0.5)


def _draw_camera(
    figure: Figure, sequence: Array, left: float, top: float, width: float, side: tuple[float, float], theme: Theme
) -> Axes:
    steps, polarities = sequence.shape[:2]
    across, down = _picture_size(sequence)
    count = min(MOST_PICTURES, steps)
    slots = ((np.arange(steps) + 0.5) * count / steps).astype(int)  # of the same length each
    groups = [np.flatnonzero(slots == slot) for slot in range(count)]
    pictures = [sequence[group].sum(0) for group in groups]
    full = full_scale(np.stack(pictures))
    for index, picture in enumerate(pictures):
        middle = left + width * ((index + 0.5) * steps / count + 0.1) / (steps + 0.2)  # the time axis: 0.4 to T + 0.6
        shown = place(figure, middle - across / 2, top, across, down)
        bare(shown)
        shown.imshow(event_colours(brightness(picture, full)), interpolation="nearest", aspect="auto")
        frame(shown, theme)
        if index == 0:
            shown.set_title(_title(sequence), loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
    rows = place(figure, left, top + down + BETWEEN, width, BARS)
    active = (sequence.reshape(steps, polarities, -1) > 0).sum(2)
    when = np.arange(steps) + 1
    rows.bar(when, active[:, -1], 0.82, color=theme.main)
    if polarities == 2:
        rows.bar(when, -active[:, 0], 0.82, color=theme.accent)
        rows.axhline(0, color=theme.muted, linewidth=0.7)
    rows.yaxis.set_major_locator(NullLocator())
    names = [("ON", theme.main, active[:, 1]), ("OFF", theme.accent, active[:, 0])] if polarities == 2 else [
        ("inputs", theme.main, active[:, 0])
    ]  # fmt: skip
    totals = place(figure, side[0], top + down + BETWEEN, side[1], BARS)
    bare(totals)
    for index, (name, colour, counts) in enumerate(names):
        height = 0.5 if len(names) == 1 else 0.76 - 0.52 * index
        text = f"{name} {int(counts.sum()):,}"
        totals.text(0, height, text, va="center", fontsize=SMALL, color=colour, weight="bold")
    return rows


def _draw_channels(
    figure: Figure, sequence: Array, left: float, top: float, width: float, side: tuple[float, float], theme: Theme
) -> Axes:
    values, height = sequence.reshape(len(sequence), -1), input_height(sequence)
    rows = place(figure, left, top, width, height)
    channel_raster(rows, values, theme)
    rows.set_title(_title(sequence), loc="left", fontsize=MEDIUM, color=theme.ink, pad=6)
    rows.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    rows.tick_params(axis="y", length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)
    counts = place(figure, side[0], top, side[1], height)
    counts.set_facecolor("none")
    for edge in ("top", "right", "bottom"):
        counts.spines[edge].set_visible(False)
    counts.spines["left"].set_color(theme.muted)
    counts.spines["left"].set_linewidth(0.7)
    counts.yaxis.set_major_locator(NullLocator())
    active = (values > 0).sum(0)
    counts.stairs(active, np.arange(len(active) + 1) - 0.5, orientation="horizontal", fill=True, color=theme.main,
                  alpha=0.75)  # fmt: skip
    counts.set_ylim(rows.get_ylim())
    counts.set_xlim(0, len(sequence))
    counts.xaxis.set_major_locator(FixedLocator([0, len(sequence)]))
    counts.tick_params(axis="x", length=0, labelbottom=False)
    return rows


def _title(sequence: Array) -> str:
    shape = sequence.shape[1:]
    return f"Input · {shape[0]:,} channels" if len(shape) == 1 else "Input · " + " × ".join(f"{n:,}" for n in shape)


def _picture_size(sequence: Array) -> tuple[float, float]:
    """Page pixels of a picture, so that a row of them is as wide as the raster."""
    steps, _, height, width = sequence.shape
    slot = 446.0 / min(MOST_PICTURES, steps) - 7
    across = min(slot, LARGEST, LARGEST * width / height)
    return across, across * height / width


ALL_NEURONS, SHOWN_NEURONS = 250, 120
"""Largest layer of which a raster shows all neurons, and the number shown of a larger one."""

SAMPLE_HEIGHT = 272.0
"""Page pixels of a sample with the text under it."""


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
    """Draw a sample beside the spikes of every layer over the steps, the layers from top to bottom.

    Bars count the spikes of each row.

    Args:
        image: the sample; ``None`` where the input above the layers shows it.
        layers: title and spikes ``[T, N]`` of each.
        label: class of the sample, whose output is in colour.
        class_names: of the outputs.
        output: whether the last layer is the output, with a row for each class.
        scores: ``[C]``, the largest of which is the answer; ``None``: that of the output spikes.
        events: input ``[T, P, H, W]`` or ``[T, N]`` of event data, drawn above the layers.
        step: name of a step, on the axis.
        theme: colours.
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
        time_axis(draw_input(figure, events, left, top, width, (left + width + 16, bars), theme), steps, "", theme)
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
        time_axis(rows, steps, step if last else "", theme)
        counts.set_xlim(0, steps)
        counts.xaxis.set_major_locator(FixedLocator([0, steps]))
        counts.tick_params(labelbottom=last)
        top += height + gap
    return figure


def outputs(
    image: Array | None, values: Array, label: int, class_names: Sequence[str], *, theme: Theme = LIGHT
) -> Figure:
    """Draw a sample beside the value of every output, the output of ``label`` in colour.

    Args:
        image: the sample, if there is a picture of it.
        values: ``[C]``.
        label: class of the sample.
        class_names: of the outputs.
        theme: colours.
    """
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
    """The sample, if there is a picture of it, and under it the true and the predicted class."""
    if image is not None:
        draw_image(place(figure, 4, top, 220, 220), image, theme)
    if label is None:
        return
    text_axes = place(figure, 4, top if image is None else top + 226, 220, 40)
    bare(text_axes)
    text = [("true", label, theme.main)]
    if values is not None:
        winner = int(np.argmax(values))
        text.append(("predicted", winner, theme.main if winner == label else theme.accent))
    for index, (what, number, colour) in enumerate(text):
        place_of: dict[str, Any] = {"transform": text_axes.transAxes, "va": "center", "fontsize": MEDIUM}
        text_axes.text(0, 0.72 - 0.45 * index, what, color=theme.muted, **place_of)
        text_axes.text(
            0.3, 0.72 - 0.45 * index, short(class_names[number], 20), color=colour, weight="bold", **place_of
        )


def _draw_neurons(rows: Axes, counts: Axes, spikes: Array, theme: Theme) -> str:
    """Draw the spikes of a hidden layer, most active neuron on top, and return which neurons are shown, as text.

    Of a large layer an even choice from the most to the least active is drawn: the most active ones alone spike at
    every step.
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
    draw_spikes(rows, shown, theme.main)
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
        draw_spikes(rows, spikes[:, row : row + 1], colour, row)
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


def draw_spikes(axes: Axes, spikes: Array, colour: str, first_row: int = 0) -> None:
    """Draw spikes ``[T, N]`` as ticks, a row for each neuron.

    Args:
        axes: to draw on.
        spikes: ``[T, N]``.
        colour: of the ticks.
        first_row: row of the first neuron.
    """
    steps, neurons = np.nonzero(spikes)
    tall = 0.36 if spikes.shape[1] < 60 else 0.5
    thick = min(0.42 * 446 / len(spikes), 4.5) * 0.72  # points of 446 page pixels, or of a wider raster
    rows = neurons + first_row
    axes.vlines(steps + 1, rows - tall, rows + tall, color=colour, linewidth=thick)
    axes.set_ylim(max(spikes.shape[1], 1) - 0.5, -0.5)


def time_axis(axes: Axes, steps: int, label: str, theme: Theme) -> None:
    """Draw the steps from 1 on; with a label, as the lowest axes have, their numbers too.

    Args:
        axes: to draw on.
        steps: number of steps.
        label: name of a step; empty for none.
        theme: colours.
    """
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


def misread(
    wrong: Sequence[tuple[Array, int, int, float]],
    class_names: Sequence[str],
    *,
    line: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw up to nine samples that were taken for another class.

    Args:
        wrong: ``(image, label, predicted, gap)`` of each.
        class_names: of the classes.
        line: whether the images are rasters ``[N, T]`` of a line of channels.
        theme: colours.
    """
    figure = new_figure(HALF, 400)
    for index, (image, label, predicted, _) in enumerate(wrong[:9]):
        row, column = divmod(index, 3)
        axes = place(figure, 22 + 136 * column, 24 + 131 * row, 100, 100)
        if line:
            bare(axes)
            channel_raster(axes, image.T, theme)
            frame(axes, theme)
        else:
            draw_image(axes, image, theme)
        text = " → ".join(fit(class_names[number], 54, MEDIUM) for number in (label, predicted))
        axes.set_title(text, fontsize=MEDIUM, color=theme.ink, pad=5)
    return figure
