"""A sample as a picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import Rectangle

from spikelfp.report.plots.parts import Array
from spikelfp.report.theme import DARK, Theme, bare

NIGHT, OFF, ON = "#0d1116", DARK.accent, DARK.main
"""Pictures of events are dark on a light page too: no event, and one of each polarity."""

FAINTEST = 0.4
"""Brightness of a pixel with the least that is shown, of 1."""


def is_image(image: Array) -> bool:
    """Whether a sample can be shown as a picture."""
    return image.ndim in (2, 3) and min(image.shape[-2:]) > 1


def brightness(counts: Array, full: float) -> Array:
    """Between 0 and 1, and 0 only for no event: by the root of ``counts``, with 1 for ``full`` and more."""
    return np.where(counts > 0, FAINTEST + (1 - FAINTEST) * np.sqrt(np.clip(counts / full, 0, 1)), 0.0)


def event_colours(levels: Array) -> Array:
    """RGB ``[..., 3]`` of the brightness ``[P, ...]`` of OFF and ON events, or of all where ``P`` is 1.

    As bright as the brighter polarity; where both have events, between the two colours, light grey for as many of
    each.
    """
    paper = np.array(to_rgb(NIGHT))
    shades = np.array([to_rgb(colour) for colour in ((ON,) if len(levels) == 1 else (OFF, ON))]) - paper
    weights = levels**2
    shares = weights / np.maximum(weights.sum(0), 1e-9)
    colours: Array = paper + levels.max(0)[..., None] * np.tensordot(shares, shades, (0, 0))
    return np.clip(colours, 0, 1)


def full_scale(counts: Array) -> float:
    """The count that is shown at full brightness: 99 in 100 elements with events have no more, so that a few hot pixels
    do not darken all others."""
    some = counts[counts > 0]
    return float(np.quantile(some, 0.99)) if some.size else 1.0


def draw_image(axes: Axes, image: Array, theme: Theme) -> None:
    """A picture: grey, RGB, the two polarities of events, or the mean of other channels; a vector as a line."""
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
    """A thin line around a picture."""
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, color=theme.line, linewidth=1))
