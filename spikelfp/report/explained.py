"""Picture of what predictions rest on: inputs, their relevance, and accuracy while inputs are deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spikelfp import explain
from spikelfp.data import DataSplits
from spikelfp.errors import UserError
from spikelfp.explain import Deletion
from spikelfp.files import write_whole
from spikelfp.report.rasters import draw_image, frame, is_camera, is_image
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, bare, clean, fit, legend, new_figure, place, png
from spikelfp.rules.base import Assigning
from spikelfp.training import TemporalTrainer
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


@dataclass(frozen=True)
class Explained:
    """Predictions for some test samples, and what they rest on.

    Attributes:
        inputs: ``[T, …]`` of each sample that is shown.
        relevances: of the inputs, of their shapes.
        titles: predicted class of each, and the right one where it is another, else "".
        curve: accuracy while inputs are deleted, of all samples that were looked at.
        samples: number of these.
    """

    inputs: list[Array]
    relevances: list[Array]
    titles: list[tuple[str, str]]
    curve: Deletion
    samples: int


def draw(found: Explained, theme: Theme = LIGHT) -> Figure:
    """Draw a column for each sample, its input above its relevance, and the curve of deletion beside them.

    Args:
        found: samples and curve.
        theme: colours.
    """
    inputs, relevances, titles, curve = found.inputs, found.relevances, found.titles, found.curve
    columns = len(inputs)
    width = LEFT + columns * (SIDE + GAP) + BETWEEN + CURVE + 24
    height = TOP + 2 * SIDE + GAP + 60
    figure = new_figure(width, height)
    for row, name in enumerate(("input", "relevance")):
        middle = 1 - (TOP + row * (SIDE + GAP) + SIDE / 2) / height
        figure.text(16 / width, middle, name, fontsize=SMALL, color=theme.muted, va="center")
    for number, (sequence, worth, title) in enumerate(zip(inputs, relevances, titles, strict=True)):
        left = LEFT + number * (SIDE + GAP)
        across, predicted, right = (left + SIDE / 2) / width, *title
        texts = [(predicted, theme.ink), (f"is {right}", theme.accent)] if right else [(predicted, theme.ink)]
        for line, (text, colour) in enumerate(reversed(texts)):
            up = 1 - (TOP - 9 - 14 * line) / height
            figure.text(across, up, fit(text, SIDE - 4), fontsize=SMALL, color=colour, ha="center")
        upper, lower = (place(figure, left, TOP + row * (SIDE + GAP), SIDE, SIDE) for row in range(2))
        shown, split = flat(sequence), flat(worth)
        if shown.ndim == 3:
            draw_image(upper, shown, theme)
            split = split.sum(0)
        else:
            bare(upper)
            upper.imshow(shown, cmap="Greys", aspect="auto", interpolation="nearest")
            frame(upper, theme)
        draw_relevance(lower, split, theme)
    below = TOP + 2 * SIDE + GAP + 24
    speaks = (("for the class", theme.main, 0), ("against it", theme.accent, 110))
    for text, colour, across in speaks:
        figure.text((LEFT + across) / width, 1 - below / height, "■ ", fontsize=SMALL, color=colour)
        figure.text((LEFT + across + 14) / width, 1 - below / height, text, fontsize=SMALL, color=theme.muted)
    axes = place(figure, LEFT + columns * (SIDE + GAP) + BETWEEN, TOP, CURVE, 2 * SIDE + GAP)
    clean(axes, theme, grid="y")
    shares = [100 * share for share in curve.shares]
    for values, colour, label in (
        (curve.accuracy, theme.main, "by relevance"),
        (curve.random, theme.quiet, "at random"),
    ):
        percent = [100 * value for value in values]
        axes.plot(shares, percent, color=colour, marker="o", markersize=3, linewidth=1.5, label=label)
    axes.set_ylim(0, 105)
    legend(axes, theme)
    axes.set_xlabel("inputs deleted, %", fontsize=SMALL, color=theme.muted)
    axes.set_title("Accuracy, %", fontsize=MEDIUM, color=theme.ink, loc="left", pad=20)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=theme.muted)
    return figure


SHOWN = 6
"""Samples in the picture."""


def _spread(of: int, most: int) -> list[int]:
    """Choose at most ``most`` of ``of`` numbers, evenly spread."""
    count = min(of, most)
    return [of * number // count for number in range(count)]


def explained(trainer: TemporalTrainer, splits: DataSplits, samples: int) -> Explained:
    """Explain the predictions for test samples, and measure what deleting inputs costs.

    Layers follow the rule of the run where that is one of LFP, else LFP-ε. Static samples, which are shown at every
    step, lose an input at all steps; sequences lose it at the step where it stands.

    Args:
        trainer: of the network, for a task with classes.
        splits: its data.
        samples: number of test samples, at most; evenly spread over the test set, which may be in order of its classes.
    """
    x, labels = splits.test.__getitems__(_spread(len(splits.test), samples))
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
    titles = [(names[int(classes[n])], "" if right[n] else names[int(labels[n])]) for n in few]
    inputs, worth = ([part[:, n].double().cpu().numpy() for n in few] for part in (given, found))
    return Explained(inputs, worth, titles, curve, len(labels))


def explain_run(
    run: str | Path,
    path: Path,
    samples: int = 200,
    weights: str = "last",
    data_dir: str | None = None,
    cache_dir: str | None = None,
) -> Deletion:
    """Explain test samples of a run (:func:`explained`), and draw six of them.

    Args:
        run: folder.
        path: of the PNG that is written.
        samples: number of test samples, at most.
        weights: ``last`` or ``best``.
        data_dir: folder of the data sets.
        cache_dir: folder of binned recordings.

    Raises:
        UserError: for a run whose task has no classes.
    """
    loaded = load_run(run, weights, data_dir, cache_dir)
    splits = loaded.splits()
    trainer = loaded.trainer(splits.test)
    if not trainer.task.has_classes:
        raise UserError(f"explanations are of classes, and the task of this run is {trainer.task.name}")
    found = explained(trainer, splits, samples)
    picture = png(draw(found), paper=LIGHT.paper)
    write_whole(path, lambda file: file.write(picture))
    return found.curve
