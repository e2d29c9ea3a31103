"""What the figures share: sizes, names of classes, colours, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from spikelfp.report.theme import SMALL, Theme
from spikelfp.terminal import plain

Array = NDArray[Any]

HALF, WIDE, THIRD = 430.0, 900.0, 330.0
"""Page pixels of a figure's width."""

NAMED_CLASSES = 30
"""Up to so many classes are named one by one."""


def class_colours(values: Array, label: int, theme: Theme) -> list[str]:
    """The right class in the main colour, a wrong winner in the accent."""
    winner = int(np.argmax(values))
    return [theme.main if c == label else theme.accent if c == winner else theme.quiet for c in range(len(values))]


def name_classes(axis: Any, class_names: Sequence[str], slant: bool = False) -> None:
    """Class names along an axis, or plain numbers where they would not fit."""
    if len(class_names) > NAMED_CLASSES:
        axis.set_major_locator(MaxNLocator(8, integer=True))
        return
    axis.set_major_locator(FixedLocator(range(len(class_names))))
    names = [short(name) for name in class_names]
    axis.set_ticklabels(names, **({"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slant else {}))


def short(name: str, most: int = 12) -> str:
    """Write a name of a user in one line of at most so many characters, all of which can be seen."""
    name = plain(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def legend(axes: Axes, theme: Theme, columns: int = 2, size: float = SMALL) -> None:
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
