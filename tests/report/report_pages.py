"""What the tests of the report share: kinds of runs, and a reader of pages."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

from PIL import Image

KINDS: dict[str, dict[str, object]] = {
    "spiking-mlp": {"hidden": (300, 24), "steps": 8, "epochs": 3},
    "one-epoch": {
        "hidden": (20,), "steps": 6, "epochs": 1, "method": "surrogate", "encoding": "latency", "validation": 0.1
    },
    "relu-mlp": {"hidden": (20,), "epochs": 2, "model": "mlp", "method": "gradient"},
    "spiking-lenet": {"data": "mnist", "model": "lif-lenet", "steps": 3, "epochs": 1, "batch_size": 32},
    "relu-lenet": {"data": "mnist", "model": "lenet", "epochs": 1, "batch_size": 32},
}  # fmt: skip
"""Runs of every kind, with their options: dense and convolutional, spiking and not, by reward and by loss."""


@dataclass
class Picture:
    """An ``img`` of a page with its dark twin, decoded."""

    text: str
    width: int
    light: Image.Image
    dark: Image.Image


@dataclass
class Page(HTMLParser):
    """What a page holds: text outside of style, tags with their attributes, pictures, headings."""

    source: str
    text: str = ""
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._dark = ""
        self.feed(self.source)
        self.close()
        assert self._open == [], f"tags left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in ("meta", "img", "source"):
            self._open.append(tag)
        if tag == "source":
            self._dark = values["srcset"] or ""
        if tag == "img":
            images = _decode(values["src"] or ""), _decode(self._dark)
            self.pictures.append(Picture(values["alt"] or "", int(values["width"] or 0), *images))
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data.replace("\u2011", "-")
        if "h2" in self._open:
            self.headings[-1] += data

    def picture(self, start: str) -> Picture:
        """The one picture whose description starts so."""
        (found,) = [picture for picture in self.pictures if picture.text.startswith(start)]
        return found


def _decode(uri: str) -> Image.Image:
    start = "data:image/png;base64,"
    assert uri.startswith(start)
    image = Image.open(io.BytesIO(base64.b64decode(uri[len(start) :], validate=True)))
    image.load()
    return image
