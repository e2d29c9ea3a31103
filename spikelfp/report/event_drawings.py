"""Drawings of events: rasters, rates, maps of a sensor, accumulated pictures and sequences of a network's input.

Each is a :class:`Drawing`, which knows its size and can be drawn by itself or beside others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from spikelfp.data.events import show
from spikelfp.report.rasters import NIGHT, OFF, ON, brightness, event_colours, frame, full_scale
from spikelfp.report.theme import (
    HALF,
    LIGHT,
    MEDIUM,
    SHARPNESS,
    SMALL,
    WIDE,
    Array,
    Theme,
    bare,
    clean,
    legend,
    new_figure,
    place,
)

# Times in the unit that suits the length of a recording, and large numbers


def time_unit(span: float) -> tuple[float, str]:
    """The µs of a unit, and its name, for a recording of ``span`` µs: numbers on an axis have few digits."""
    units = ((2e3, 1.0, "µs"), (2e6, 1e3, "ms"), (6e8, 1e6, "s"))
    return next(((scale, unit) for end, scale, unit in units if span < end), (6e7, "min"))


def duration(span: float) -> str:
    """Write ``span`` µs with a unit."""
    scale, unit = time_unit(span)
    return f"{span / scale:.3g} {unit}" if span / scale < 1e3 else f"{span / scale:,.0f} {unit}"


def moment(time: float, span: float) -> str:
    """Write the ``time`` in µs, as exact as suits a recording of ``span`` µs."""
    scale, unit = time_unit(span)
    return f"{time / scale:,.{_digits(span / scale)}f} {unit}"


def _digits(span: float) -> int:
    """Digits after the point of times in a recording so long, in its unit."""
    return 0 if span >= 100 else 1 if span >= 10 else 2


def interval(begin: float, end: float, span: float) -> str:
    """Write the times from ``begin`` to ``end`` µs in the unit for a recording of ``span`` µs.

    They have the digits that :func:`moment` gives them, and more where their difference needs them.
    """
    scale, unit = time_unit(span)
    least, width = _digits(span / scale), (end - begin) / scale
    fitting = (digits for digits in range(least, 7) if abs(round(width, digits) - width) <= 0.05 * width)
    digits = next(fitting, 6)
    return f"{begin / scale:,.{digits}f}–{end / scale:,.{digits}f} {unit}"


def short_number(value: float) -> str:
    """Write ``950``, ``12k``, ``1.5M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


# Drawings

ALL_EVENTS = 20_000
"""Most events of which each has a tick in a raster; more are drawn as their density."""

DENSITY = (300, 150)
"""Most cells of a density over time and over channels."""

SEQUENCE = (900, 240)
"""Most columns and rows of a drawn sequence of channels; where it has more, the largest value of a cell counts."""

COLUMNS, STEPS = 6, 7
"""Most pictures in a row, of a sensor that is about as wide as high, and most steps of a sequence."""

TICKS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)
"""Numbers of events beside the scale of a map."""

GAP, CAPTION, LEFT = 10.0, 20.0, 62.0
"""Page pixels between pictures, of a line under them, and beside an axis."""

SHORT = FuncFormatter(lambda value, _: short_number(abs(value)))


class Canvas(NamedTuple):
    """A part of a figure.

    Attributes:
        figure: the whole.
        left: page pixels from its left side.
        top: page pixels from its top.
    """

    figure: Figure
    left: float = 0.0
    top: float = 0.0

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes at a place in page pixels from the top left corner of the part."""
        return place(self.figure, self.left + left, self.top + top, width, height)

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        """Write text under a place in page pixels."""
        across, down = self.figure.get_size_inches() * 100
        self.figure.text((self.left + left) / across, 1 - (self.top + top) / down, text, va="top", **options)


class Drawing(NamedTuple):
    """A figure that is not drawn yet.

    Attributes:
        width: page pixels.
        height: page pixels.
        draw: draws it on a canvas, in the colours of a theme.
    """

    width: float
    height: float
    draw: Callable[[Canvas, Theme], None]

    def figure(self, theme: Theme = LIGHT) -> Figure:
        """Draw it by itself."""
        figure = new_figure(self.width, self.height)
        self.draw(Canvas(figure), theme)
        return figure


def raster(times: Array, channels: Array, size: int, span: float, unit: str) -> Drawing:
    """Events of a line of channels as ticks, or, where there are many, as their density.

    Args:
        times: ``[M]`` in ``unit`` from the first event.
        channels: ``[M]``.
        size: number of channels.
        span: length of the recording in ``unit``.
        unit: of time.
    """

    def draw(canvas: Canvas, theme: Theme) -> None:
        axes = _time_axes(canvas, span, unit, size, theme)
        if len(times) <= ALL_EVENTS:
            tall = max(0.42, 0.9 * size / 262)
            thick = 2.2 if len(times) < 400 else 1.0 if len(times) < 4000 else 0.6
            axes.vlines(times, channels - tall, channels + tall, color=theme.main, linewidth=thick)
            return
        cells = (min(DENSITY[0], len(np.unique(times))), min(DENSITY[1], size))
        density, *_ = np.histogram2d(times, channels, cells, ((0, span), (-0.5, size - 0.5)))
        limits = axes.get_xlim(), axes.get_ylim()
        axes.imshow(density.T, cmap=_shades(theme), norm=PowerNorm(0.5, 0, density.max()), aspect="auto",
                    origin="lower", extent=(0, span, -0.5, size - 0.5), interpolation="nearest")  # fmt: skip
        axes.set(xlim=limits[0], ylim=limits[1])

    return Drawing(WIDE, 312, draw)


def sequence(values: Array, edges: Array, size: int, span: float, unit: str) -> Drawing:
    """A sequence of a line of channels over the time of its steps.

    Args:
        values: ``[T, N]`` in [0, 1].
        edges: times ``[T + 1]`` of the steps in ``unit``.
        size: channels of the sequence; a row of ``values`` can stand for several.
        span: length of the recording in ``unit``.
        unit: of time.
    """

    def draw(canvas: Canvas, theme: Theme) -> None:
        axes = _time_axes(canvas, span, unit, size, theme)
        rows = np.linspace(-0.5, size - 0.5, values.shape[1] + 1)
        axes.pcolormesh(edges, rows, values.T, cmap=_shades(theme), vmin=0, vmax=1, rasterized=True)

    return Drawing(WIDE, 312, draw)


def rate_bars(per_second: Array, edges: Array, unit: str, width: float = HALF) -> Drawing:
    """Event rates over time, of two polarities ON upwards and OFF downwards.

    Args:
        per_second: events per second ``[P, K]``.
        edges: of the windows ``[K + 1]`` in ``unit``.
        unit: of time.
        width: page pixels.
    """

    def draw(canvas: Canvas, theme: Theme) -> None:
        top = 12 if len(per_second) == 1 else 32
        axes = canvas.axes(LEFT, top, width - LEFT - 14, 188 - top)
        clean(axes, theme)
        if len(per_second) == 1:
            axes.stairs(per_second[0], edges, color=theme.main, fill=True, alpha=0.85)
            axes.set_ylim(0, float(per_second.max()) * 1.08)
        else:
            axes.stairs(per_second[1], edges, color=theme.main, fill=True, alpha=0.85, label="ON")
            axes.stairs(-per_second[0], edges, color=theme.accent, fill=True, alpha=0.85, label="OFF")
            axes.axhline(0, color=theme.muted, linewidth=0.8)
            axes.spines["bottom"].set_visible(False)
            axes.set_ylim(-1.08 * float(per_second[0].max()), 1.08 * float(per_second[1].max()))
            legend(axes, theme, 2, MEDIUM)
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(MaxNLocator(8 if width > HALF else 5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(SHORT)
        _label(axes, f"{unit} from the first event", "events per second", theme)

    return Drawing(width, 232, draw)


def pixel_histogram(counts: Array) -> Drawing:
    """How many pixels have how many events, without those that have none; axes of a wide range are logarithmic.

    Args:
        counts: events of the pixels, of any shape.
    """

    def draw(canvas: Canvas, theme: Theme) -> None:
        axes, most = canvas.axes(LEFT, 12, HALF - LEFT - 14, 176), max(int(counts.max()), 1)
        clean(axes, theme)
        if most > 60:
            edges: Array = np.unique(np.geomspace(1, most + 1, 36).round()) - 0.5
            axes.set_xscale("log")
        else:
            edges = np.arange(0.5, most + 1)
        pixels = np.histogram(counts[counts > 0], edges)[0]
        axes.stairs(pixels, edges, fill=True, color=theme.main, alpha=0.85)
        if pixels.max() > 30:
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.7)
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlim(edges[0], edges[-1])
        if most <= 60:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(SHORT)
        axes.minorticks_off()
        _label(axes, "events of a pixel", "pixels", theme)

    return Drawing(HALF, 232, draw)


def channel_bars(counts: Array) -> Drawing:
    """Events ``[N]`` of every channel."""

    def draw(canvas: Canvas, theme: Theme) -> None:
        axes, size = canvas.axes(LEFT, 12, HALF - LEFT - 14, 176), len(counts)
        clean(axes, theme)
        if size <= 100:
            axes.bar(np.arange(size), counts, 0.8, color=theme.main)
        else:
            axes.stairs(counts, np.arange(size + 1) - 0.5, fill=True, color=theme.main)
        axes.set_xlim(-0.6, size - 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(SHORT)
        _label(axes, "channel", "events", theme)

    return Drawing(HALF, 232, draw)


def pictures_in_row(height: int, width: int, most: int = COLUMNS) -> int:
    """Number of pictures of that many rows and columns that stand side by side: fewer of wide ones."""
    return max(2, min(most, round(most / max(1.0, width / height) ** 0.6)))


def pictures(counts: Sequence[Array], captions: Sequence[str]) -> Drawing:
    """Accumulated events ``[P, H, W]``, picture by picture with its caption, all at one scale."""
    planes, height, width = counts[0].shape
    columns = min(pictures_in_row(height, width), len(counts))
    across = min((WIDE - 8 - GAP * (columns - 1)) / columns, 260 * width / height)
    down = across * height / width

    def draw(canvas: Canvas, theme: Theme) -> None:
        _polarity_legend(canvas, planes, theme)
        small = [show.shrink(each, round(across * SHARPNESS)) for each in counts]
        full = full_scale(np.stack(small))
        for index, (each, caption) in enumerate(zip(small, captions, strict=True)):
            row, column = divmod(index, columns)
            axes = canvas.axes(4 + column * (across + GAP), 26 + row * (down + CAPTION + GAP), across, down)
            _draw_events(axes, each, full, theme, caption, down)

    return Drawing(WIDE, 26 + -(-len(counts) // columns) * (down + CAPTION + GAP), draw)


def events_and_input(raw: Sequence[Array], inputs: Sequence[Array], captions: Sequence[str]) -> Drawing:
    """The events of steps, and under each the input of the network.

    Args:
        raw: events of each step ``[P, H, W]``.
        inputs: values ``[P', H', W']`` in [0, 1] of each step.
        captions: of the steps.
    """
    left, columns = 74.0, len(raw)
    across = min((WIDE - left - 8 - GAP * (columns - 1)) / columns, 170.0)
    heights = [across * each[0].shape[-2] / each[0].shape[-1] for each in (raw, inputs)]

    def draw(canvas: Canvas, theme: Theme) -> None:
        _polarity_legend(canvas, len(raw[0]), theme)
        top = 26.0
        for name, counts, down in (("events", raw, heights[0]), ("input", inputs, heights[1])):
            small = [show.shrink(each, round(across * SHARPNESS)) for each in counts]
            full = 1.0 if name == "input" else full_scale(np.stack(small))
            beside = canvas.axes(4, top, left - 12, down)
            bare(beside)
            beside.text(0, 0.5, f"{name}\n{counts[0].shape[-1]} × {counts[0].shape[-2]}", va="center", fontsize=SMALL,
                        color=theme.ink, linespacing=1.5)  # fmt: skip
            for column, each in enumerate(small):
                axes = canvas.axes(left + column * (across + GAP), top, across, down)
                _draw_events(axes, each, full, theme, captions[column] if name == "input" else "", down)
            top += down + GAP

    return Drawing(WIDE, 26 + sum(heights) + 2 * GAP + 2 * CAPTION, draw)


def pixel_map(counts: Array, hottest: tuple[int, int]) -> Drawing:
    """Events ``[H, W]`` of every pixel as a picture, with a ring around the ``hottest`` (column, row)."""
    height, width = counts.shape
    margin = 12.0  # for the ring around a pixel in a corner
    across = min(HALF - 72 - margin, 300 * width / height)
    down = across * height / width

    def draw(canvas: Canvas, theme: Theme) -> None:
        axes = canvas.axes(margin, margin, across, down)
        bare(axes)
        shades = LinearSegmentedColormap.from_list("night", [NIGHT, ON, "#ffffff"])
        most = max(1, int(counts.max()))
        norm = FuncNorm((np.log1p, np.expm1), 0, most)  # a few hot pixels leave the others to be seen
        picture = axes.imshow(counts, cmap=shades, norm=norm, interpolation="antialiased", aspect="auto")
        axes.plot(*hottest, "o", markersize=11, markerfacecolor="none", markeredgecolor=OFF, markeredgewidth=1.6,
                  clip_on=False)  # fmt: skip
        frame(axes, theme)
        scale = canvas.axes(margin + across + 12, margin, 9, max(down, 60.0))
        bar = canvas.figure.colorbar(picture, cax=scale)
        bar.outline.set_edgecolor(theme.line)
        scale.yaxis.set_major_locator(FixedLocator([0, *(tick for tick in TICKS if tick <= most)]))
        scale.yaxis.set_major_formatter(SHORT)
        scale.minorticks_off()
        scale.tick_params(length=0, pad=4, labelsize=SMALL, labelcolor=theme.muted)

    return Drawing(HALF, max(down, 60.0) + 2 * margin, draw)


def _draw_events(axes: Axes, counts: Array, full: float, theme: Theme, caption: str, down: float) -> None:
    bare(axes)
    axes.imshow(event_colours(brightness(counts, full)), interpolation="nearest", aspect="auto")
    frame(axes, theme)
    axes.text(0.5, -5 / down, caption, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL,
              color=theme.muted, linespacing=1.4)  # fmt: skip


def _polarity_legend(canvas: Canvas, polarities: int, theme: Theme) -> None:
    """The colour of each polarity, above the pictures."""
    axes = canvas.axes(4, 0, WIDE - 8, 20)
    bare(axes)
    axes.set(xlim=(0, WIDE - 8), ylim=(0, 20))
    names = [(ON, "event")] if polarities == 1 else [(ON, "ON: brighter"), (OFF, "OFF: darker")]
    for index, (colour, name) in enumerate(names):
        axes.plot(6 + 110 * index, 11, "s", color=colour, markersize=7, markeredgecolor=theme.muted,
                  markeredgewidth=0.4)  # fmt: skip
        axes.text(16 + 110 * index, 10.5, name, va="center", fontsize=MEDIUM, color=theme.ink)


def _time_axes(canvas: Canvas, span: float, unit: str, size: int, theme: Theme) -> Axes:
    """Axes with time across and channels up."""
    axes = canvas.axes(LEFT, 8, WIDE - LEFT - 14, 262)
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.line)
    axes.tick_params(length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)
    axes.set(xlim=(-0.003 * span, 1.003 * span), ylim=(-0.7, size - 0.3))
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    _label(axes, f"{unit} from the first event", "channel", theme)
    return axes


def _label(axes: Axes, across: str, up: str, theme: Theme) -> None:
    axes.set_xlabel(across, fontsize=SMALL, color=theme.muted)
    axes.set_ylabel(up, fontsize=SMALL, color=theme.muted)


def _shades(theme: Theme) -> LinearSegmentedColormap:
    """From nothing to the main colour."""
    red, green, blue, _ = to_rgba(theme.main)
    return LinearSegmentedColormap.from_list("main", [(red, green, blue, 0.0), (red, green, blue, 1.0)])
