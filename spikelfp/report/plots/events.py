"""The input of one sample of event data over the steps of its sequence, above the raster of its layers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from spikelfp.report.plots.image import brightness, event_colours, frame, full_scale, is_image
from spikelfp.report.plots.parts import Array
from spikelfp.report.theme import MEDIUM, SMALL, Theme, bare, place

MOST_PICTURES, LARGEST = 6, 104.0
"""Pictures in the row, and page pixels of the longer side of one."""

BARS, BETWEEN = 46.0, 8.0
"""Page pixels of the bars under the pictures, and between the two."""

DRAWN_CHANNELS = 240
"""Rows of a raster of channels, at most; more are drawn together."""


def is_camera(sequence: Array) -> bool:
    """Whether the steps of a sequence ``[T, …]`` are pictures of one or two polarities."""
    return sequence.ndim == 4 and sequence.shape[1] <= 2 and is_image(sequence[0])


def input_height(sequence: Array) -> float:
    """Page pixels that :func:`draw_input` needs."""
    if is_camera(sequence):
        return _picture_size(sequence)[1] + BETWEEN + BARS
    return float(np.clip(7.0 * np.prod(sequence.shape[1:]), 60, 240))


def draw_input(
    figure: Figure, sequence: Array, left: float, top: float, width: float, side: tuple[float, float], theme: Theme
) -> Axes:
    """A sequence ``[T, …]`` in the column of the raster; returns the axes whose time axis is that of the layers.

    A camera has a row of pictures, each of all events in the steps it stands over, and bars of the inputs that are not
    0 in each step, ON upwards and OFF downwards. A line of channels has a raster in the order of its channels. side:
    left edge and width of the column of totals.
    """
    axes = (_draw_camera if is_camera(sequence) else _draw_channels)(figure, sequence, left, top, width, side, theme)
    return axes


def channel_raster(axes: Axes, values: Array, theme: Theme) -> None:
    """The values ``[T, N]`` of a line of channels, the first channel at the bottom; of many channels the largest of
    several in a row."""
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
    groups = np.array_split(np.arange(steps), min(MOST_PICTURES, steps))
    pictures = [sequence[group].sum(0) for group in groups]
    full = full_scale(np.stack(pictures))
    for index, (group, picture) in enumerate(zip(groups, pictures, strict=True)):
        middle = left + width * (group.mean() + 0.6) / (steps + 0.2)  # as the time axis runs from 0.4 to T + 0.6
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
    words = place(figure, side[0], top + down + BETWEEN, side[1], BARS)
    bare(words)
    for index, (name, colour, counts) in enumerate(names):
        height = 0.5 if len(names) == 1 else 0.76 - 0.52 * index
        text = f"{name} {int(counts.sum()):,}"
        words.text(0, height, text, va="center", fontsize=SMALL, color=colour, weight="bold")
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
