"""All figures of a recording in one PNG."""

from __future__ import annotations

import io
import textwrap

from matplotlib.figure import Figure
from PIL import Image

from spikelfp.report.recording import panels
from spikelfp.report.recording.facts import Recording
from spikelfp.report.recording.panels import Panel
from spikelfp.report.recording.summary import headline, in_numbers
from spikelfp.report.theme import HALF, LIGHT, MEDIUM, SHARPNESS, SMALL, WIDE, Theme, new_figure, png, short

MARGIN, BETWEEN = 34.0, 40.0
"""Page pixels around the sheet, and between two figures side by side."""

LARGE, LONGEST = 15.0, 90
"""Font size of the headline in points, and its length in characters, at most."""


def sheet(recording: Recording, theme: Theme = LIGHT) -> bytes:
    """The sheet, on the theme's paper."""
    rows = [[panels.over_time(recording)]]
    where = panels.where(recording)
    if recording.is_camera:
        rows += [[panels.rate(recording, WIDE)], where]
    else:
        rows += [[panels.rate(recording), *where]]
    rows.append([panels.seen(recording)])
    strips = [_image(_heading(recording, theme))]
    for row in rows:
        width = WIDE if len(row) == 1 else HALF
        strips.append(_side_by_side([_stacked([_image(_words(panel, width, theme)), _image(panel.draw(theme=theme))])
                                     for panel in row]))  # fmt: skip
    return _on_paper(strips, theme)


def _heading(recording: Recording, theme: Theme) -> Figure:
    figure = new_figure(WIDE, 66)
    figure.text(0, 1, short(headline(recording), LONGEST), va="top", fontsize=LARGE, weight="bold", color=theme.ink)
    facts = " · ".join(f"{value} {term}" for term, value in in_numbers(recording))
    figure.text(0, 0.3, facts, va="center", fontsize=MEDIUM, color=theme.muted)
    return figure


def _words(panel: Panel, width: float, theme: Theme) -> Figure:
    """The title of a figure over its caption."""
    lines = textwrap.wrap(panel.caption, int(width / 5.9))
    height = 30.0 + 15 * len(lines)
    figure = new_figure(width, height)
    figure.text(0, 1 - 4 / height, panel.title, va="top", fontsize=MEDIUM + 1.5, weight="bold", color=theme.ink)
    figure.text(
        0, 1 - 25 / height, "\n".join(lines), va="top", fontsize=SMALL + 0.5, color=theme.muted, linespacing=1.3
    )
    return figure


def _image(figure: Figure) -> Image.Image:
    return Image.open(io.BytesIO(png(figure))).convert("RGBA")


def _stacked(images: list[Image.Image], gap: float = 0) -> Image.Image:
    between = round(gap * SHARPNESS)
    high = sum(image.height for image in images) + between * (len(images) - 1)
    whole = Image.new("RGBA", (max(image.width for image in images), high))
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + between
    return whole


def _side_by_side(images: list[Image.Image]) -> Image.Image:
    between = round(BETWEEN * SHARPNESS)
    wide = sum(image.width for image in images) + between * (len(images) - 1)
    whole = Image.new("RGBA", (wide, max(image.height for image in images)))
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + between
    return whole


def _on_paper(strips: list[Image.Image], theme: Theme) -> bytes:
    content, margin = _stacked(strips, 20), round(MARGIN * SHARPNESS)
    paper = Image.new("RGBA", (content.width + 2 * margin, content.height + 2 * margin), theme.paper)
    paper.alpha_composite(content, (margin, margin))
    out = io.BytesIO()
    paper.convert("RGB").save(out, "PNG")
    return out.getvalue()
