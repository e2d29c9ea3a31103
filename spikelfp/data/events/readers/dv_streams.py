"""The streams of an AEDAT 4 file, from the XML in its header.

A node ``outInfo`` holds a node for each stream, called by its number, with an attribute ``typeIdentifier`` (EVTS of
events, FRME of images, IMUS, TRIG) and a node ``info`` with the attributes ``sizeX`` and ``sizeY``.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from spikelfp.data.events.event import Sensor


class Stream(NamedTuple):
    """kind: four letters. sensor: of events and images, if it is told."""

    kind: str
    sensor: Sensor | None


def streams(text: bytes) -> dict[int, Stream]:
    """The streams by their number.

    Raises:
        ValueError: for text that is no such XML, or defines entities.
    """
    if b"<!" in text:
        raise ValueError("its XML has definitions")
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"no XML: {error}") from error
    found = {}
    for node in root.iterfind("./node[@name='outInfo']/node"):
        name = node.get("name", "")
        if name.isascii() and name.isdigit() and len(name) < 10:
            info = node.find("./node[@name='info']")
            sizes = [_attribute(info, key) for key in ("sizeX", "sizeY")] if info is not None else []
            found[int(name)] = Stream(_attribute(node, "typeIdentifier"), _sensor(sizes))
    return found


def _attribute(node: ElementTree.Element, key: str) -> str:
    return next((each.text or "" for each in node.iterfind("./attr") if each.get("key") == key), "").strip()


def _sensor(sizes: list[str]) -> Sensor | None:
    if len(sizes) == 2 and all(size.isascii() and size.isdigit() and len(size) < 6 for size in sizes):
        width, height = map(int, sizes)
        if 1 <= width <= 1 << 16 and 1 <= height <= 1 << 16:
            return Sensor(width, height, 2)
    return None
