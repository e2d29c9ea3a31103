"""Common parts of all figures: colours for light and dark pages, fonts, axes at a place, names of classes, legends."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from spikelfp.terminal import plain

PIXELS_PER_INCH = 100
"""Page pixels per inch of a figure."""

SHARPNESS = 2.4
"""Image pixels per page pixel, so that a figure is sharp on a 2x screen even where it is shown a little larger."""

SMALL, MEDIUM = 8.0, 9.0
"""Font sizes in points."""

FONTS = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans")
"""Fonts close to those of the page; the first installed one is used, and DejaVu Sans after it."""


@dataclass(frozen=True)
class Theme:
    """Colours of figures that colour-blind readers can tell apart (after Okabe and Ito).

    Attributes:
        name: of the theme.
        ink: text.
        muted: lesser text.
        line: thin lines.
        main: what the figure is about.
        accent: what differs from it.
        quiet: what it is compared with.
        paper: the card behind the figure.
    """

    name: str
    ink: str
    muted: str
    line: str
    main: str
    accent: str
    quiet: str
    paper: str


LIGHT = Theme("light", "#1c2127", "#5b6570", "#e2e6ea", "#0072b2", "#d55e00", "#b4bdc6", "#ffffff")
DARK = Theme("dark", "#e8ebee", "#9aa5b1", "#303741", "#56b4e9", "#f0943c", "#5a6572", "#1a1f26")


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of ``width`` × ``height`` page pixels."""
    return Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH))


def place(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes at a place.

    Args:
        figure: to which they are added.
        left: page pixels from the left edge.
        top: page pixels from the top edge.
        width: page pixels.
        height: page pixels.
        options: those of ``Figure.add_axes``.
    """
    inches = figure.get_size_inches()
    across, down = inches[0] * PIXELS_PER_INCH, inches[1] * PIXELS_PER_INCH
    rectangle = (left / across, 1 - (top + height) / down, width / across, height / down)
    return figure.add_axes(rectangle, **options)


def clean(axes: Axes, theme: Theme, grid: Literal["x", "y"] = "y") -> None:
    """Give axes thin lines, quiet ticks, and a grid across the axis ``grid``."""
    axes.set_facecolor("none")
    for side in ("top", "right", *(("left",) if grid == "y" else ())):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(theme.line if grid == "x" else theme.muted)
        spine.set_linewidth(0.7)
    axes.tick_params(length=0, pad=5, labelsize=SMALL, labelcolor=theme.muted)
    axes.grid(axis=grid, color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)


def bare(axes: Axes) -> None:
    """Remove ticks and frame of axes."""
    axes.set_facecolor("none")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def png(figure: Figure, *, sharpness: float = SHARPNESS, paper: str | None = None) -> bytes:
    """Draw a figure as a PNG.

    No text in it is read as a formula: names of users stand in titles, legends and beside axes. A character that no
    font has is drawn as a box, without a warning.

    Args:
        figure: with all that is in it; its texts get the fonts of the page.
        sharpness: image pixels per page pixel.
        paper: colour of the background; ``None``: transparent.
    """
    for axes in figure.axes:  # tick labels exist from here on
        axes.get_xticklabels(), axes.get_yticklabels()
    for text in figure.findobj(Text):
        text.set_fontfamily(_family())
        text.set_parse_math(False)
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    background = {"transparent": True} if paper is None else {"facecolor": paper}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(out, format="png", dpi=PIXELS_PER_INCH * sharpness, metadata={"Software": None}, **background)
    return out.getvalue()


def powers_of_ten(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as powers of ten; matplotlib itself writes formulas."""
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    axis.set_major_formatter(FuncFormatter(lambda value, _: "10" + f"{math.log10(value):.0f}".translate(digits)))


@cache
def _family() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return [*[name for name in FONTS if name in installed][:1], "DejaVu Sans"]


Array = NDArray[Any]

HALF, WIDE, THIRD = 430.0, 900.0, 330.0
"""Page pixels of a figure's width."""

NAMED_CLASSES = 30
"""Largest number of classes that are named one by one."""


def class_colours(values: Array, label: int, theme: Theme) -> list[str]:
    """Choose colours of the outputs: main for the right class, accent for a wrong winner, quiet for the others."""
    winner = int(np.argmax(values))
    return [theme.main if c == label else theme.accent if c == winner else theme.quiet for c in range(len(values))]


def name_classes(axis: Any, class_names: Sequence[str], slant: bool = False) -> None:
    """Write class names along an axis, or plain numbers where names would not fit."""
    if len(class_names) > NAMED_CLASSES:
        axis.set_major_locator(MaxNLocator(8, integer=True))
        return
    axis.set_major_locator(FixedLocator(range(len(class_names))))
    names = [short(name) for name in class_names]
    axis.set_ticklabels(names, **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slant else {}))


def short(name: str, most: int = 12) -> str:
    """Write a name of a user in one line of visible characters.

    Args:
        name: of the user.
        most: largest number of characters; a longer name is cut.
    """
    name = plain(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def fit(name: str, width: float, size: float = SMALL) -> str:
    """Write a name of a user in one line that is no wider than its place.

    Args:
        name: of the user; the middle of a longer one is left out, as names of classes often differ at their ends.
        width: page pixels.
        size: of the font, in points.
    """
    name = plain(name)
    if _text_width(name, size) <= width:
        return name
    for kept in range(len(name) - 1, 1, -1):
        cut = f"{name[: (kept + 1) // 2]}…{name[len(name) - kept // 2 :]}"
        if _text_width(cut, size) <= width:
            return cut
    return "…"


def _text_width(text: str, size: float) -> float:
    """Page pixels of a line of text."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        drawn = TextPath((0, 0), text.replace("$", "S"), size=size, prop=FontProperties(family=_family()))
    return float(drawn.get_extents().width) * PIXELS_PER_INCH / 72 if len(drawn.vertices) else 0.0


def legend(axes: Axes, theme: Theme, columns: int = 2, size: float = SMALL) -> None:
    """Put a legend without a frame above the axes.

    Args:
        axes: to which it is added.
        theme: colours.
        columns: number of columns.
        size: of the font, in points.
    """
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=size,
        labelcolor=theme.ink,
        handlelength=1.0,
        handleheight=0.8,
        handletextpad=0.5,
        borderaxespad=0.1,
    )
