"""Picture of what predictions rest on: inputs, their relevance, and accuracy while inputs are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from spikelfp import explain
from spikelfp.errors import UserError
from spikelfp.explain import Deletion
from spikelfp.files import write_whole
from spikelfp.report.rasters import draw_image, frame, is_camera, is_image
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, bare, clean, new_figure, place, png
from spikelfp.rules.base import Assigning
from spikelfp.training.evaluation import evaluating
from spikelfp.training.run import load_run

Array = NDArray[np.float64]

SIDE, GAP, LEFT, TOP, CURVE, BETWEEN = 104, 12, 84, 44, 230, 84  # page pixels


def flat(sequence: Array) -> Array:
    """Return a picture of a sequence ``[T, …]``: the sum over steps of images, ``[C, H, W]``; else ``[N, T]``."""
    if is_camera(sequence) or (sequence.ndim > 2 and is_image(sequence[0])):
        picture: Array = sequence.sum(0)
        return picture
    return sequence.reshape(len(sequence), -1).T


def draw_relevance(axes: Axes, found: Array, theme: Theme) -> None:
    """Draw a map of relevance, what speaks for the class in one colour and what speaks against it in another.

    Args:
        axes: to draw on.
        found: ``[H, W]``.
        theme: colours.
    """
    bare(axes)
    shades = LinearSegmentedColormap.from_list("relevance", [theme.accent, theme.paper, theme.main])
    most = float(np.quantile(np.abs(found), 0.995)) or 1.0  # a single hot input does not pale all others
    axes.imshow(found, cmap=shades, vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    frame(axes, theme)


def draw(
    inputs: Sequence[Array], relevances: Sequence[Array], titles: Sequence[str], curve: Deletion, theme: Theme = LIGHT
) -> bytes:
    """Draw a column for each sample, its input above its relevance, and the curve of deletion beside them.

    Args:
        inputs: ``[T, …]`` of each sample.
        relevances: of the inputs, of their shapes.
        titles: of the columns.
        curve: of all samples that were looked at.
        theme: colours.

    Returns:
        A PNG.
    """
    columns = len(inputs)
    width = LEFT + columns * (SIDE + GAP) + BETWEEN + CURVE + 24
    height = TOP + 2 * SIDE + GAP + 60
    figure = new_figure(width, height)
    figure.patch.set_facecolor(theme.paper)
    for row, name in enumerate(("input", "relevance")):
        middle = 1 - (TOP + row * (SIDE + GAP) + SIDE / 2) / height
        figure.text(16 / width, middle, name, fontsize=SMALL, color=theme.muted, va="center")
    for number, (sequence, worth, title) in enumerate(zip(inputs, relevances, titles, strict=True)):
        left = LEFT + number * (SIDE + GAP)
        figure.text((left + SIDE / 2) / width, 1 - 26 / height, title, fontsize=SMALL, color=theme.ink, ha="center")
        upper, lower = (place(figure, left, TOP + row * (SIDE + GAP), SIDE, SIDE) for row in range(2))
        shown, found = flat(sequence), flat(worth)
        if shown.ndim == 3:
            draw_image(upper, shown, theme)
            found = found.sum(0)
        else:
            bare(upper)
            upper.imshow(shown, cmap="Greys", aspect="auto", interpolation="nearest")
            frame(upper, theme)
        draw_relevance(lower, found, theme)
    legend = TOP + 2 * SIDE + GAP + 24
    speaks = (("for the class", theme.main, 0), ("against it", theme.accent, 110))
    for text, colour, across in speaks:
        figure.text((LEFT + across) / width, 1 - legend / height, "■ ", fontsize=SMALL, color=colour)
        figure.text((LEFT + across + 14) / width, 1 - legend / height, text, fontsize=SMALL, color=theme.muted)
    axes = place(figure, LEFT + columns * (SIDE + GAP) + BETWEEN, TOP, CURVE, 2 * SIDE + GAP)
    clean(axes, theme, grid="y")
    shares = [100 * share for share in curve.shares]
    for values, colour, label in (
        (curve.random, theme.quiet, "at random"),
        (curve.accuracy, theme.main, "by relevance"),
    ):
        axes.plot(shares, [100 * value for value in values], color=colour, marker="o", markersize=3, linewidth=1.5)
        middle = len(shares) // 2
        above = 6 if values[middle] < 0.95 else -14
        axes.annotate(
            label, (shares[middle], 100 * values[middle]), (6, above), textcoords="offset points", fontsize=SMALL,
            color=colour,
        )  # fmt: skip
    axes.set_ylim(0, 105)
    axes.set_xlabel("inputs deleted, %", fontsize=SMALL, color=theme.muted)
    axes.set_title("Accuracy, %", fontsize=MEDIUM, color=theme.ink, loc="left")
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=theme.muted)
    return png(figure, paper=theme.paper)


SHOWN = 6
"""Samples in the picture."""


def _spread(of: int, most: int) -> list[int]:
    """Choose at most ``most`` of ``of`` numbers, evenly spread."""
    count = min(of, most)
    return [of * number // count for number in range(count)]


def explain_run(
    run: str | Path,
    path: Path,
    samples: int = 200,
    weights: str = "last",
    data_dir: str | None = None,
    cache_dir: str | None = None,
) -> Deletion:
    """Explain test samples of a run, draw six of them, and measure what deleting inputs costs.

    Layers follow the rule of the run where that is one of LFP, else LFP-ε. Static samples, which are shown at every
    step, lose an input at all steps; sequences lose it at the step where it stands.

    Args:
        run: folder.
        path: of the PNG that is written.
        samples: number of test samples, at most; evenly spread over the test set, which may be in order of its classes.
        weights: ``last`` or ``best``.
        data_dir: folder of the data sets.
        cache_dir: folder of binned recordings.

    Raises:
        UserError: for a run whose task has no classes.
    """
    loaded = load_run(run, weights, data_dir, cache_dir)
    splits = loaded.splits()
    test = splits.test
    trainer = loaded.trainer(test)
    if not trainer.task.has_classes:
        raise UserError(f"explanations are of classes, and the task of this run is {trainer.task.name}")
    x, labels = test.__getitems__(_spread(len(test), samples))
    with evaluating(trainer.net, 0, trainer.device):  # random encodings draw the same spikes each time
        batch = trainer.batch(x.to(trainer.device), labels.to(trainer.device))
    given = batch.sequence.to_dense() if batch.sequence.is_sparse else batch.sequence
    own = getattr(trainer.method, "rule", None)
    rule = own if isinstance(own, Assigning) and not getattr(own, "of_gradients", False) else None
    net, mask = trainer.net, batch.mask
    classes = explain.predicted(net, given, mask=mask)
    found = explain.relevance(net, given, classes, rule=rule, mask=mask)
    still = isinstance(x, torch.Tensor)
    curve = explain.deletion(net, given, batch.targets, found, mask=mask, over_time=still)
    few = _spread(len(labels), SHOWN)
    names, right = splits.names, (classes == batch.targets).tolist()
    titles = [names[int(classes[n])] + ("" if right[n] else f" (is {names[int(labels[n])]})") for n in few]
    inputs, worth = ([part[:, n].double().cpu().numpy() for n in few] for part in (given, found))
    picture = draw(inputs, worth, titles, curve)
    write_whole(path, lambda file: file.write(picture))
    return curve
