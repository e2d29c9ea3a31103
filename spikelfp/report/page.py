"""HTML pages without references to other files: ``page.html.j2``, filled in, with ``style.css`` and all images inside.

Names of users are text: the template escapes every value, and every character of it can be seen.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from spikelfp.report.theme import SHARPNESS
from spikelfp.terminal import plain


@dataclass(frozen=True)
class Headline:
    """Headline of a page, with one large number.

    Attributes:
        name: of what is shown, above the headline.
        state: a word or two in a small frame beside the name; empty for none.
        title: the headline.
        score: the large number, as text.
        score_text: meaning of the number.
        warn: whether the state is drawn as a warning.
    """

    name: str
    state: str
    title: str
    score: str
    score_text: str
    warn: bool = False


@dataclass(frozen=True)
class Picture:
    """Figure of a page, drawn for light and for dark screens.

    Attributes:
        title: above the figure.
        caption: under the title; may be empty.
        alt: description for readers who cannot see the figure.
        light: PNG for light screens.
        dark: PNG for dark screens, of the same size.
        wide: whether it takes the whole width of the page.
        condition: media query under which :attr:`source` is shown in place of :attr:`image`.
    """

    title: str
    caption: str
    alt: str
    light: bytes
    dark: bytes
    wide: bool = False
    condition = "(prefers-color-scheme: dark)"

    @property
    def image(self) -> str:
        """Data URI of the image."""
        return _data_uri(self.light)

    @property
    def source(self) -> str:
        """Data URI of the image that is shown where :attr:`condition` holds."""
        return _data_uri(self.dark)

    @property
    def kind(self) -> str:
        """CSS class of the figure."""
        return "wide" if self.wide else ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in page pixels."""
        width, height = struct.unpack(">II", self.light[16:24])  # of the PNG header
        return round(width / SHARPNESS), round(height / SHARPNESS)


@dataclass(frozen=True)
class MovingPicture:
    """Animated figure of a page.

    Attributes:
        title: above the figure.
        caption: under the title; may be empty.
        alt: description for readers who cannot see the figure.
        gif: the animation.
        still: PNG for readers who prefer that nothing moves.
        width: page pixels.
        height: page pixels.
        wide: never.
        kind: CSS class of the figure.
        condition: media query under which :attr:`source` is shown in place of :attr:`image`.
    """

    title: str
    caption: str
    alt: str
    gif: bytes
    still: bytes
    width: int
    height: int
    wide = False
    kind = "moving"
    condition = "(prefers-reduced-motion: reduce)"

    @property
    def image(self) -> str:
        """Data URI of the animation."""
        return _data_uri(self.gif, "gif")

    @property
    def source(self) -> str:
        """Data URI of the image that is shown where :attr:`condition` holds."""
        return _data_uri(self.still)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in page pixels."""
        return self.width, self.height


@dataclass(frozen=True)
class Section:
    """Heading with figures or a table under it; left out of the page where it has neither.

    Attributes:
        title: the heading.
        text: a sentence under the heading; may be empty.
        pictures: the figures.
        pair: whether the figures stand in two columns; otherwise in as many as fit.
        head: column names of the table.
        rows: of the table; a cell is its text and its class (``good``, ``warn``, ``off``, ``why`` or empty).
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture | MovingPicture] = ()
    pair: bool = False
    head: Sequence[str] = ()
    rows: Sequence[Sequence[tuple[str, str]]] = ()


@dataclass(frozen=True)
class Footer:
    """End of a page: how to train the network again.

    Attributes:
        command: parts of the command line, which is broken between them where it can be.
        config: all options, as YAML.
        versions: of the libraries; may be empty.
    """

    command: Sequence[str]
    config: str
    versions: str


def render(
    title: str,
    header: Headline,
    *,
    terms: Sequence[tuple[str, str]] = (),
    facts: Sequence[tuple[str, str]] = (),
    notes: Iterable[str] = (),
    sections: Iterable[Section] = (),
    footer: Footer | None = None,
) -> str:
    """Make the HTML of a page.

    Args:
        title: of the document.
        header: headline and large number.
        terms: pairs of a term and its explanation.
        facts: pairs of a name and a value, in a row of tiles.
        notes: what is missing, and why.
        sections: from top to bottom.
        footer: end of the page, if it has one.
    """
    return _template().render(
        title=title, header=header, terms=terms, facts=facts, notes=notes, sections=sections, footer=footer
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _data_uri(image: bytes, kind: str = "png") -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(image).decode()}")
