"""Plots of spikes, weights, runs, pruning, relevance and decision boundaries, on your own axes or on new ones.

Each function draws on the matplotlib axes that it is given, or makes a figure, and returns the axes. Nothing is saved
or shown:

>>> axes = plot.history(trainer.history)
>>> axes.figure.savefig("run.png")

The report of a run (:mod:`spikelfp.report`) draws with the same parts.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import Tensor
from torch.nn import Module

from spikelfp import checks, explain
from spikelfp.analysis import weights_of
from spikelfp.errors import ShapeError, UserError
from spikelfp.pruning import Curve
from spikelfp.report.explained import draw_relevance, flat
from spikelfp.report.figures import draw_curves
from spikelfp.report.rasters import ALL_NEURONS, SHOWN_NEURONS, draw_spikes, time_axis
from spikelfp.report.theme import HALF, LIGHT, MEDIUM, SMALL, WIDE, Theme, clean, legend, new_figure, place, short

__all__ = ["decision_boundary", "history", "pruning", "raster", "relevance", "weights"]


def _axes(axes: Axes | None, width: float, height: float, theme: Theme) -> Axes:
    if axes is not None:
        return axes
    figure = new_figure(width, height)
    figure.patch.set_facecolor(theme.paper)
    return place(figure, 72, 34, width - 84, height - 82)


def raster(spikes: Tensor, *, sample: int = 0, axes: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the spikes of a layer for one sample: a tick for each, a row for each neuron, over the steps.

    Of more than 250 neurons an even choice of 120 is drawn.

    Args:
        spikes: ``[T, B, …]``, as :func:`spikelfp.analysis.record` returns them, or ``[T, N]`` of one sample.
        sample: which sample of the batch.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        ShapeError: for other shapes, and a sample that is not in the batch.
        UserError: for what is no dense tensor of finite numbers.
    """
    spikes, sample = checks.finite("spikes", spikes), checks.whole("sample", sample)
    if spikes.ndim < 2 or not spikes.numel():
        raise ShapeError(f"spikes have shape [T, B, …] or [T, N], got {list(spikes.shape)}")
    if spikes.ndim > 2 and sample >= spikes.shape[1]:
        raise ShapeError(f"there is no sample {sample} in a batch of {spikes.shape[1]}")
    own = (spikes if spikes.ndim == 2 else spikes[:, sample]).detach().double().cpu().flatten(1).numpy()
    axes = _axes(axes, WIDE, 260, theme)
    shown = np.arange(own.shape[1])
    if len(shown) > ALL_NEURONS:
        shown = np.linspace(0, own.shape[1] - 1, SHOWN_NEURONS).round().astype(int)
    draw_spikes(axes, own[:, shown], theme.main)
    time_axis(axes, len(own), "step", theme)
    axes.yaxis.set_major_locator(NullLocator())
    some = f"{len(shown):,} of {own.shape[1]:,}" if len(shown) < own.shape[1] else f"{len(shown):,}"
    axes.set_ylabel(f"{some} neurons", fontsize=SMALL, color=theme.muted)
    return axes


def weights(
    net: Module | Mapping[str, Any] | Mapping[str, Module], *, axes: Axes | None = None, theme: Theme = LIGHT
) -> Axes:
    """Draw the distribution of ``|w| / max|w|`` of each layer (v3, Fig. 5): bars of its percentiles.

    Each bar reaches from the least to the largest, is darker from the 25th to the 75th percentile, and has a line at
    the median. The lower they lie, the sparser the layer. Fold BatchNorm first
    (:func:`spikelfp.fold.fold_batchnorm`).

    Args:
        net: network or state dict; or several networks by name, which stand side by side.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        UserError: for networks with different weights, one without any, and weights with NaN.
    """
    several = isinstance(net, Mapping) and all(isinstance(each, Module) for each in net.values())
    nets: Any = net if several else {"": net}
    found = {str(label): weights_of(each) for label, each in nets.items()}
    if not found:
        raise UserError("there is no network to draw")
    names = list(next(iter(found.values())))
    if any(list(own) != names for own in found.values()):
        raise UserError(f"the networks {', '.join(found)} have different weights: draw each by itself")
    axes = _axes(axes, WIDE, 300, theme)
    clean(axes, theme)
    colours = (theme.main, theme.accent, theme.muted)
    wide = 0.8 / len(found)
    for number, (label, own) in enumerate(found.items()):
        points = np.array([_percentiles(w) for w in own.values()])
        where = np.arange(len(names)) - 0.4 + wide * (number + 0.5)
        colour = colours[number % 3]
        axes.bar(where, points[:, 4] - points[:, 0], 0.86 * wide, points[:, 0], color=colour, alpha=0.25)
        axes.bar(where, points[:, 3] - points[:, 1], 0.86 * wide, points[:, 1], color=colour, alpha=0.8, label=label)
        axes.hlines(points[:, 2], where - 0.43 * wide, where + 0.43 * wide, color=theme.ink, linewidth=1.2)
    axes.set_xticks(range(len(names)), [short(name.removesuffix(".weight"), 16) for name in names])
    if len(names) > 8:
        axes.tick_params(axis="x", labelrotation=35)
    axes.set_ylim(0, 1)
    axes.set_ylabel("|w| / largest |w|", fontsize=SMALL, color=theme.muted)
    if several and len(found) > 1:
        legend(axes, theme, len(found), MEDIUM)
    return axes


def _percentiles(w: Tensor) -> list[float]:
    """Least, quartiles and largest of ``|w| / max|w|``; 0 for a layer of zeros."""
    size = checks.finite("a weight", w).detach().double().abs().flatten().cpu().numpy()
    if not len(size):
        raise UserError(f"a weight of shape {list(w.shape)} has no numbers to draw")
    found: list[float] = (np.percentile(size, [0, 25, 50, 75, 100]) / (size.max() or 1.0)).tolist()
    return found


def history(
    run: Sequence[Mapping[str, Any]] | str | Path,
    columns: Sequence[str] | str | None = None,
    *,
    axes: Axes | None = None,
    theme: Theme = LIGHT,
) -> Axes:
    """Draw columns of a run over its epochs; the legend has their last values.

    Args:
        run: ``trainer.history``, a run folder, or its ``metrics.csv``.
        columns: names of those to draw, or one name; ``None`` for those of accuracy, else of the loss.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        UserError: for a run without epochs or without such columns.
    """
    rows = _rows(run) if isinstance(run, (str, Path)) else _given_rows(run)
    if not rows or "epoch" not in rows[0]:
        raise UserError("the run has no epochs yet: train it first, or hand in trainer.history")
    epochs = [_number(row.get("epoch")) for row in rows]
    if None in epochs:
        raise UserError(f"an epoch is a number, got {rows[epochs.index(None)].get('epoch')!r:.80}")
    known = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "epoch"]
    if columns is None:
        shown = [name for name in known if name.endswith("accuracy")] or [name for name in known if "loss" in name]
    else:
        shown = [columns] if isinstance(columns, str) else list(columns)
    missing = [name for name in shown if name not in known] if shown else ["of accuracy or loss"]
    if missing:
        raise UserError(f"the run has no column {missing[0]}; it has {', '.join(known)}")
    values = {name: [_number(row.get(name)) for row in rows] for name in shown}
    if not any(value is not None for line in values.values() for value in line):
        raise UserError(f"the columns {', '.join(shown)} hold no numbers")
    axes = _axes(axes, HALF, 260, theme)
    share = all(name.endswith("accuracy") for name in shown)
    draw_curves(axes, [int(each) for each in epochs if each is not None], values, "" if len(shown) > 1 else shown[0],
                share=share, theme=theme)  # fmt: skip
    return axes


def _given_rows(run: Any) -> list[dict[str, Any]]:
    if isinstance(run, Iterable) and not isinstance(run, Mapping):
        rows = list(run)
        if all(isinstance(row, Mapping) for row in rows):
            return [dict(row) for row in rows]
    hint = ": hand in its history" if hasattr(run, "history") else ""
    raise UserError(f"a run is trainer.history, a list with a row for each epoch, or a folder, got {run!r:.80}{hint}")


def _rows(run: str | Path) -> list[dict[str, Any]]:
    path = Path(run) / "metrics.csv" if Path(run).is_dir() else Path(run)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def pruning(
    curves: Curve | Mapping[str, Curve | Sequence[Curve]], *, axes: Axes | None = None, theme: Theme = LIGHT
) -> Axes:
    """Draw the accuracy over the share of pruned weights (v3, Fig. 6).

    Args:
        curves: of :func:`spikelfp.pruning.sweep`; several by name, or several of one name over seeds, of which mean and
            standard deviation are drawn.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        UserError: for no curve, and curves of one name over different rates.
    """
    if not isinstance(curves, (Curve, Mapping)):
        raise UserError(f"curves are one of pruning.sweep, or several by name, got {type(curves).__name__}")
    by_name = {curves.criterion: [curves]} if isinstance(curves, Curve) else {
        name: _curves(name, own) for name, own in curves.items()
    }  # fmt: skip
    if not by_name or not all(by_name.values()):
        raise UserError("there is no curve to draw")
    for name, group in by_name.items():
        if any(own.rates != group[0].rates for own in group):
            raise UserError(f"the curves of {name} have different rates, so that there is no mean of them")
    axes = _axes(axes, HALF, 280, theme)
    clean(axes, theme)
    for number, (name, group) in enumerate(by_name.items()):
        colour = (theme.main, theme.accent, theme.muted)[number % 3]
        rates = 100 * np.array(group[0].rates)
        accuracy = 100 * np.array([own.accuracy for own in group])
        mean, spread = accuracy.mean(0), accuracy.std(0)
        axes.plot(rates, mean, color=colour, linewidth=1.8, label=short(name, 24))
        if len(group) > 1:
            axes.fill_between(rates, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.set_ylim(0, 103)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("pruned, %", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("accuracy, %", fontsize=SMALL, color=theme.muted)
    legend(axes, theme, min(len(by_name), 3), MEDIUM)
    return axes


def _curves(name: str, own: Any) -> list[Curve]:
    found = [own] if isinstance(own, Curve) or not isinstance(own, Iterable) else list(own)
    for each in found:
        if not isinstance(each, Curve):
            raise UserError(f"a curve is one of pruning.sweep, and {name} has a {type(each).__name__}")
    return found


def relevance(found: Tensor, *, axes: Axes | None = None, theme: Theme = LIGHT) -> Axes:
    """Draw the relevance of the inputs of one sample: what speaks for the class, and what speaks against it.

    Args:
        found: of one sample, ``[T, …]``, a part ``explain.relevance(net, x)[:, sample]``. Images are summed over steps
            and channels; other inputs are drawn over the steps.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        ShapeError: for relevance without steps and inputs.
        UserError: for what is no dense tensor of finite numbers.
    """
    checks.finite("the relevance", found)
    if found.ndim < 2 or not found.numel():
        raise ShapeError(f"the relevance of one sample has shape [T, …], got {list(found.shape)}")
    picture = flat(found.detach().double().cpu().numpy())
    axes = _axes(axes, 320, 320, theme)
    draw_relevance(axes, picture.sum(0) if picture.ndim == 3 else picture, theme)
    return axes


def decision_boundary(
    net: Module,
    x: Tensor,
    labels: Tensor,
    *,
    steps: int = 1,
    points: int = 120,
    axes: Axes | None = None,
    theme: Theme = LIGHT,
) -> Axes:
    """Draw the classes of a network over the plane of two features, and samples on it (v3, Fig. 3).

    Args:
        net: network of two inputs, ``[T, B, 2]``.
        x: samples ``[B, 2]``.
        labels: their classes ``[B]``.
        steps: at which each point is shown.
        points: of the grid, along each side.
        axes: to draw on; ``None`` for a new figure.
        theme: colours.

    Raises:
        ShapeError: for samples of other than two features, and labels that do not fit them.
        UserError: for a grid without points, labels of classes that the network does not have, and what
            :func:`spikelfp.explain.predicted` refuses.
    """
    x, labels = checks.finite("x", x), checks.tensor("labels", labels)
    points, steps = checks.whole("points", points, 2), checks.whole("steps", steps, 1)
    if x.ndim != 2 or x.shape[1] != 2 or not len(x) or labels.shape != x.shape[:1]:
        raise ShapeError(f"samples are [B, 2] and labels [B], got {list(x.shape)} and {list(labels.shape)}")
    checks.class_labels(labels, x.unsqueeze(0))
    x = x.detach()
    low, high = x.min(0).values.cpu(), x.max(0).values.cpu()
    margin = 0.08 * (high - low).clamp(min=1e-6)
    low, high = low - margin, high + margin
    across, up = (torch.linspace(float(low[axis]), float(high[axis]), points) for axis in range(2))
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1).view(1, -1, 2).to(x.device)
    outputs = explain.outputs_of(net, grid.expand(steps, -1, -1))
    checks.labels_within(labels, outputs.shape[1])
    classes = outputs.argmax(1).view(points, points).cpu().numpy()
    count = int(max(classes.max(), int(labels.max()))) + 1
    colours = _class_colours(count, theme)
    axes = _axes(axes, 360, 340, theme)
    pale = ListedColormap([tuple(0.72 + 0.28 * np.array(to_rgb(colour))) for colour in colours])
    axes.imshow(
        classes, extent=(float(low[0]), float(high[0]), float(low[1]), float(high[1])), origin="lower", aspect="auto",
        cmap=pale, vmin=-0.5, vmax=count - 0.5, interpolation="nearest",
    )  # fmt: skip
    for number in range(count):
        own = x[labels == number].detach().cpu().numpy()
        axes.plot(own[:, 0], own[:, 1], "o", color=colours[number], markersize=3, markeredgewidth=0)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=theme.muted)
    for spine in axes.spines.values():
        spine.set_color(theme.line)
    return axes


def _class_colours(count: int, theme: Theme) -> list[Any]:
    if count <= 3:
        return [theme.main, theme.accent, theme.muted][:count]
    shades = LinearSegmentedColormap.from_list("classes", [theme.main, theme.quiet, theme.accent])
    return [shades(k / (count - 1)) for k in range(count)]
