"""Plots of the results as PNG files, in the style of the reports (:mod:`spikelfp.report.theme`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.contenders import CONTENDERS, CONVOLUTIONS, FLOOR, OURS, RECOMPUTED, SNNTORCH
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, clean, new_figure, place, png

COLOURS = {OURS: LIGHT.main, SNNTORCH: LIGHT.accent, FLOOR: LIGHT.muted, CONVOLUTIONS: LIGHT.muted}
"""Colours of the contenders that stand out; all others are grey."""
MARKERS = {OURS: "o", RECOMPUTED: "D", SNNTORCH: "s", FLOOR: "^"}
LINES = {
    OURS: (LIGHT.main, "-"),
    RECOMPUTED: (LIGHT.main, ":"),
    SNNTORCH: (LIGHT.accent, "-"),
    FLOOR: (LIGHT.muted, "--"),
}
AXES = {
    "T": "steps T",
    "width": "neurons of a hidden layer",
    "batch": "batch",
    "density": "spike density, hidden layers",
}

_ROW, _NAMES, _BARS, _VALUES, _HEAD, _GAP = 24, 165, 300, 130, 34, 22  # page pixels


def plot_steps(table: dict[str, dict[str, dict[str, Any]]]) -> bytes:
    """Plot milliseconds of a step as bars for each network, with multiples of our step at their ends."""
    groups = {
        network: [(name, results[name]["ms"]) for name in CONTENDERS if "ms" in results.get(name, {})]
        for network, results in table.items()
    }

    def label(network: str, name: str, ms: float) -> str:
        times = ms / table[network][OURS]["ms"]
        return _ms(ms) if name == OURS else f"{_ms(ms)} · {times:.2f}×"

    return _bars("One training step, and times our LFP step", groups, label)


def plot_rules(table: dict[str, dict[str, float]]) -> bytes:
    """Plot milliseconds of a step under each rule as bars for each network."""
    groups = {network: list(times.items()) for network, times in table.items()}

    def label(network: str, rule: str, ms: float) -> str:
        return f"{_ms(ms)} · {ms / table[network]['ε']:.2f}×"

    return _bars("One training step under each rule, and times the ε step", groups, label, {"ε": LIGHT.main})


def plot_epochs(table: dict[str, dict[str, dict[str, Any]]]) -> bytes:
    """Plot test accuracy after each epoch against seconds of training."""
    figure = _figure(560, 320)
    axes = place(figure, 62, 46, 470, 222)
    clean(axes, LIGHT)
    for network, results in table.items():
        figure.text(62 / 560, 1 - 26 / 320, network, fontsize=MEDIUM, color=LIGHT.ink, weight="bold")
        for name, result in results.items():
            if "seconds" not in result:
                continue
            passed = [sum(result["seconds"][: n + 1]) for n in range(len(result["seconds"]))]
            error = [100 * (1 - accuracy) for accuracy in result["accuracy"]]
            axes.plot(
                passed, error, color=COLOURS[name], marker=MARKERS[name], markersize=4.5, linewidth=1.6, label=name
            )
    axes.set_xlim(left=0)
    axes.set_yscale("log")
    _readable(axes, lambda value, _: f"{value:g} %", (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    axes.set_xlabel("seconds of training", fontsize=SMALL, color=LIGHT.muted)
    axes.set_ylabel("test error after each epoch", fontsize=SMALL, color=LIGHT.muted)
    axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=LIGHT.muted)
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=LIGHT.ink)
    return png(figure)


def plot_curves(curves: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> bytes:
    """Plot milliseconds of a step against each quantity, and memory against T, on logarithmic axes."""
    panels: list[tuple[str, str]] = [(varied, "ms") for varied in curves]
    panels += [("T", "grown_mb")] if "T" in curves else []
    columns = min(3, len(panels))
    down = -(-len(panels) // columns)
    width, height = 40 + 300 * columns, 60 + 262 * down
    figure = _figure(width, height)
    for index, (varied, field) in enumerate(panels):
        row, column = divmod(index, columns)
        axes = place(figure, 58 + 300 * column, 78 + 262 * row, 226, 170)
        _curve(axes, varied, curves[varied], field)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, frameon=False, ncols=len(labels), fontsize=MEDIUM, labelcolor=LIGHT.ink,
        loc="upper left", bbox_to_anchor=(44 / width, 1 - 4 / height), borderaxespad=0.3,
    )  # fmt: skip
    return png(figure)


def _readable(axes: Axes, label: Callable[[float, int], str], ticks: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Set ticks at these multiples of powers of ten on a logarithmic axis, in plain numbers."""
    axes.yaxis.set_major_locator(LogLocator(subs=ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(label))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _ms(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


def _curve(axes: Axes, varied: str, points: dict[str, dict[str, dict[str, Any]]], field: str) -> None:
    clean(axes, LIGHT)
    for name, (colour, style) in LINES.items():
        found = [(float(value), r[name][field]) for value, r in points.items() if field in r.get(name, {})]
        if not found or (name == RECOMPUTED and varied != "T") or (name == FLOOR and field == "grown_mb"):
            continue
        axes.plot(*zip(*found, strict=True), style, color=colour, marker=MARKERS[name], markersize=4, linewidth=1.6,
                  label=name)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [float(value) for value in points]
    axes.set_xticks(ticks, [f"{100 * tick:g} %" if varied == "density" else f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    _readable(axes, lambda value, _: f"{value:g}")
    axes.tick_params(which="both", length=0, labelsize=SMALL, labelcolor=LIGHT.muted)
    axes.set_xlabel(AXES[varied], fontsize=SMALL, color=LIGHT.muted)
    what = "memory of a step, MB" if field == "grown_mb" else "milliseconds a step"
    axes.set_title(what, fontsize=SMALL, color=LIGHT.ink, loc="left", pad=8)


def _bars(
    title: str,
    groups: dict[str, list[tuple[str, float]]],
    label: Callable[[str, str, float], str],
    colours: dict[str, str] = COLOURS,
) -> bytes:
    """Draw groups of bars one below the other, each with its own scale from 0."""
    heights = [_ROW * len(bars) for bars in groups.values()]
    width = _NAMES + _BARS + _VALUES
    height = 40 + sum(heights) + (_HEAD + _GAP) * len(groups)
    figure = _figure(width, height)
    figure.text(16 / width, 1 - 26 / height, title, fontsize=MEDIUM + 1, color=LIGHT.ink, weight="bold")
    top = 40
    for (network, bars), tall in zip(groups.items(), heights, strict=True):
        figure.text(16 / width, 1 - (top + 24) / height, network, fontsize=MEDIUM, color=LIGHT.ink)
        axes = place(figure, _NAMES, top + _HEAD, _BARS, tall)
        clean(axes, LIGHT, grid="x")
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_xlim(0, max(value for _, value in bars))
        for row, (name, value) in enumerate(bars):
            axes.barh(row, value, height=0.66, color=colours.get(name, LIGHT.quiet))
            axes.annotate(label(network, name, value), (value, row), (5, 0), textcoords="offset points",
                          va="center", fontsize=SMALL, color=LIGHT.ink, annotation_clip=False)  # fmt: skip
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        top += _HEAD + tall + _GAP
    return png(figure)


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure on white, so that it fits a page of any colour."""
    figure = new_figure(width, height)
    figure.add_artist(Rectangle((0, 0), 1, 1, transform=figure.transFigure, color=LIGHT.paper, zorder=-10))
    return figure
