"""Figures of any recording: events over time and over the elements of the sensor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spikelfp.report.recording.units import short_number
from spikelfp.report.theme import HALF, LIGHT, MEDIUM, SMALL, WIDE, Array, Theme, clean, legend, new_figure, place

ALL_EVENTS = 20_000
"""Up to so many events each has a tick in a raster; more are drawn as their density."""

CELLS, ROWS = 300, 150
"""Cells of a density, over time and over channels, at most."""

LEFT = 62.0
"""Page pixels beside an axis of a wide figure."""


def raster(times: Array, channels: Array, size: int, span: float, unit: str, *, theme: Theme = LIGHT) -> Figure:
    """The ``times`` ``[M]`` and ``channels`` ``[M]`` of events on ``size`` channels as ticks, or of many the density.

    span: the length of the recording, and unit, in which times are measured.
    """
    figure = new_figure(WIDE, 312)
    axes = place(figure, LEFT, 8, WIDE - LEFT - 14, 262)
    if len(times) <= ALL_EVENTS:
        tall = max(0.42, 0.9 * size / 262)
        thick = 2.2 if len(times) < 400 else 1.0 if len(times) < 4000 else 0.6
        axes.vlines(times, channels - tall, channels + tall, color=theme.main, linewidth=thick)
    else:
        cells = (min(CELLS, len(np.unique(times))), min(ROWS, size))
        density, *_ = np.histogram2d(times, channels, cells, ((0, span), (-0.5, size - 0.5)))
        axes.imshow(density.T, cmap=_shades(theme), norm=PowerNorm(0.5, 0, density.max()), aspect="auto",
                    origin="lower", extent=(0, span, -0.5, size - 0.5), interpolation="nearest")  # fmt: skip
    _over_time(axes, span, unit, size, theme)
    return figure


def steps(values: Array, edges: Array, size: int, span: float, unit: str, *, theme: Theme = LIGHT) -> Figure:
    """A sequence ``values`` ``[T, N]`` in [0, 1] over the time of its steps, ``edges`` ``[T + 1]``.

    size: channels of the sequence, of which each row of the figure can be several.
    """
    figure = new_figure(WIDE, 312)
    axes = place(figure, LEFT, 8, WIDE - LEFT - 14, 262)
    rows = np.linspace(-0.5, size - 0.5, values.shape[1] + 1)
    axes.pcolormesh(edges, rows, values.T, cmap=_shades(theme), vmin=0, vmax=1, rasterized=True)
    _over_time(axes, span, unit, size, theme)
    return figure


def rates(per_second: Array, edges: Array, unit: str, *, width: float = HALF, theme: Theme = LIGHT) -> Figure:
    """Events per second ``[P, K]`` in the windows between ``edges`` ``[K + 1]``; ON events upwards, OFF downwards."""
    polarities = len(per_second)
    figure = new_figure(width, 232)
    top = 12 if polarities == 1 else 32
    axes = place(figure, LEFT, top, width - LEFT - 14, 188 - top)
    clean(axes, theme)
    if polarities == 1:
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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(abs(value))))
    axes.set_xlabel(f"{unit} from the first event", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("events per second", fontsize=SMALL, color=theme.muted)
    return figure


def per_pixel(counts: Array, *, theme: Theme = LIGHT) -> Figure:
    """How many pixels ``[…]`` have how many events, those without left out; axes of a wide range are logarithmic."""
    figure = new_figure(HALF, 232)
    axes = place(figure, LEFT, 12, HALF - LEFT - 14, 176)
    clean(axes, theme)
    some, most = counts[counts > 0], max(int(counts.max()), 1)
    if most > 60:
        edges: Array = np.unique(np.geomspace(1, most + 1, 36).round()) - 0.5
        axes.set_xscale("log")
    else:
        edges = np.arange(0.5, most + 1)
    pixels = np.histogram(some, edges)[0]
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
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.minorticks_off()
    axes.set_xlabel("events of a pixel", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("pixels", fontsize=SMALL, color=theme.muted)
    return figure


def per_channel(counts: Array, *, theme: Theme = LIGHT) -> Figure:
    """Events ``[N]`` of every channel."""
    figure = new_figure(HALF, 232)
    axes = place(figure, LEFT, 12, HALF - LEFT - 14, 176)
    clean(axes, theme)
    size = len(counts)
    if size <= 100:
        axes.bar(np.arange(size), counts, 0.8, color=theme.main)
    else:
        axes.stairs(counts, np.arange(size + 1) - 0.5, fill=True, color=theme.main)
    axes.set_xlim(-0.6, size - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.set_xlabel("channel", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("events", fontsize=SMALL, color=theme.muted)
    return figure


def _over_time(axes: Axes, span: float, unit: str, size: int, theme: Theme) -> None:
    """Time across, channels up."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.line)
    axes.tick_params(length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)
    axes.set_xlim(-0.003 * span, 1.003 * span)
    axes.set_ylim(-0.7, size - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel(f"{unit} from the first event", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("channel", fontsize=SMALL, color=theme.muted)


def _shades(theme: Theme) -> LinearSegmentedColormap:
    """From nothing to the main colour."""
    red, green, blue, _ = to_rgba(theme.main)
    colours = [(red, green, blue, 0.0), (red, green, blue, 1.0)]
    return LinearSegmentedColormap.from_list("main", colours)
