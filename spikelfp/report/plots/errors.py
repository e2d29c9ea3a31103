"""What is taken for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from spikelfp.report.plots.events import channel_raster
from spikelfp.report.plots.image import draw_image, frame
from spikelfp.report.plots.parts import HALF, NAMED_CLASSES, Array, name_classes, short
from spikelfp.report.theme import LIGHT, MEDIUM, SMALL, Theme, bare, new_figure, place


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
    name_classes(axes.xaxis, class_names, slant=long)
    name_classes(axes.yaxis, class_names)
    axes.set_xlabel("predicted", fontsize=SMALL, color=theme.muted)
    axes.set_ylabel("true", fontsize=SMALL, color=theme.muted)
    return figure


def misread(
    wrong: Sequence[tuple[Array, int, int, float]],
    class_names: Sequence[str],
    *,
    line: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Samples that were taken for another class, up to nine: ``(image, label, predicted, gap)``.

    line: the images are rasters ``[N, T]`` of a line of channels.
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
        text = f"{short(class_names[label], 9)} → {short(class_names[predicted], 9)}"
        axes.set_title(text, fontsize=MEDIUM, color=theme.ink, pad=5)
    return figure
