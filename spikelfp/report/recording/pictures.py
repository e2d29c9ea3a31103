"""Figures of a camera: its events as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import FuncNorm, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from spikelfp.data.events.show import shrink
from spikelfp.report.rasters import NIGHT, OFF, ON, brightness, event_colours, frame, full_scale
from spikelfp.report.recording.units import short_number
from spikelfp.report.theme import HALF, LIGHT, MEDIUM, SHARPNESS, SMALL, WIDE, Array, Theme, bare, new_figure, place

COLUMNS = 6
"""Pictures in a row, of a sensor that is about as wide as high."""

TICKS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)
"""Numbers of events beside the scale of a map."""

GAP, CAPTION = 10.0, 20.0
"""Page pixels between pictures, and of a line under them."""


def columns_for(height: int, width: int, most: int = COLUMNS) -> int:
    """How many pictures of that many rows and columns stand side by side: fewer of wide ones."""
    return max(2, min(most, round(most / max(1.0, width / height) ** 0.6)))


def frames(counts: Sequence[Array], captions: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """Accumulated events ``[P, H, W]``, picture by picture with its caption, all at the same scale."""
    planes, height, width = counts[0].shape
    columns = min(columns_for(height, width), len(counts))
    across = (WIDE - 8 - GAP * (columns - 1)) / columns
    across = min(across, 260 * width / height)
    down = across * height / width
    rows = -(-len(counts) // columns)
    figure = new_figure(WIDE, 26 + rows * (down + CAPTION + GAP))
    _legend(figure, planes, theme)
    small = [shrink(each, round(across * SHARPNESS)) for each in counts]
    full = full_scale(np.stack(small))
    for index, (each, caption) in enumerate(zip(small, captions, strict=True)):
        row, column = divmod(index, columns)
        axes = place(figure, 4 + column * (across + GAP), 26 + row * (down + CAPTION + GAP), across, down)
        bare(axes)
        axes.imshow(event_colours(brightness(each, full)), interpolation="nearest", aspect="auto")
        frame(axes, theme)
        axes.text(0.5, -5 / down, caption, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL,
                  color=theme.muted)  # fmt: skip
    return figure


def beside(raw: Sequence[Array], inputs: Sequence[Array], captions: Sequence[str], *, theme: Theme = LIGHT) -> Figure:
    """The events ``[P, H, W]`` of some steps, and under each what a network gets, values ``[P', H', W']`` in [0, 1]."""
    left, rows = 74.0, []
    columns = len(raw)
    across = min((WIDE - left - 8 - GAP * (columns - 1)) / columns, 170.0)
    for name, some, full in (("events", raw, None), ("input", inputs, 1.0)):
        small = [shrink(each, round(across * SHARPNESS)) for each in some]
        height, width = some[0].shape[-2:]
        rows.append((name, small, full or full_scale(np.stack(small)), across * height / width, (width, height)))
    figure = new_figure(WIDE, 26 + sum(down + GAP for *_, down, _ in rows) + 2 * CAPTION)
    _legend(figure, len(raw[0]), theme)
    top = 26.0
    for name, some, full, down, (width, height) in rows:
        words = place(figure, 4, top, left - 12, down)
        bare(words)
        words.text(0, 0.5, f"{name}\n{width} × {height}", va="center", fontsize=SMALL, color=theme.ink, linespacing=1.5)
        for column, each in enumerate(some):
            axes = place(figure, left + column * (across + GAP), top, across, down)
            bare(axes)
            axes.imshow(event_colours(brightness(each, full)), interpolation="nearest", aspect="auto")
            frame(axes, theme)
            if name == "input":
                axes.text(0.5, -5 / down, captions[column], transform=axes.transAxes, ha="center", va="top",
                          fontsize=SMALL, color=theme.muted, linespacing=1.4)  # fmt: skip
        top += down + GAP
    return figure


def pixel_map(counts: Array, hottest: tuple[int, int], *, theme: Theme = LIGHT) -> Figure:
    """Events ``[H, W]`` of every pixel as a picture, with a ring around the ``hottest`` (column, row)."""
    height, width = counts.shape
    margin = 12.0  # for the ring around a pixel in a corner
    across = min(HALF - 72 - margin, 300 * width / height)
    down = across * height / width
    figure = new_figure(HALF, max(down, 60.0) + 2 * margin)
    axes = place(figure, margin, margin, across, down)
    bare(axes)
    shades = LinearSegmentedColormap.from_list("night", [NIGHT, ON, "#ffffff"])
    most = max(1, int(counts.max()))
    norm = FuncNorm((np.log1p, np.expm1), 0, most)  # a few hot pixels leave the others to be seen
    picture = axes.imshow(counts, cmap=shades, norm=norm, interpolation="antialiased", aspect="auto")
    axes.plot(*hottest, "o", markersize=11, markerfacecolor="none", markeredgecolor=OFF, markeredgewidth=1.6,
              clip_on=False)  # fmt: skip
    frame(axes, theme)
    scale = place(figure, margin + across + 12, margin, 9, max(down, 60.0))
    bar = figure.colorbar(picture, cax=scale)
    bar.outline.set_edgecolor(theme.line)
    scale.yaxis.set_major_locator(FixedLocator([0, *(tick for tick in TICKS if tick <= most)]))
    scale.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    scale.minorticks_off()
    scale.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=theme.muted)
    return figure


def _legend(figure: Figure, polarities: int, theme: Theme) -> None:
    """Which colour is which polarity, over the pictures."""
    words = place(figure, 4, 0, WIDE - 8, 20)
    bare(words)
    words.set_xlim(0, WIDE - 8)
    words.set_ylim(0, 20)
    names = [(ON, "event")] if polarities == 1 else [(ON, "ON: brighter"), (OFF, "OFF: darker")]
    for index, (colour, name) in enumerate(names):
        words.plot(6 + 110 * index, 11, "s", color=colour, markersize=7, markeredgecolor=theme.muted,
                   markeredgewidth=0.4)  # fmt: skip
        words.text(16 + 110 * index, 10.5, name, va="center", fontsize=MEDIUM, color=theme.ink)
