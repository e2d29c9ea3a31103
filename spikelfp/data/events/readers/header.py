"""Lines of text in front of binary events: ``%`` of Prophesee's files, ``#`` of AEDAT."""

from __future__ import annotations

import re
from typing import NamedTuple

from spikelfp.data.events.event import Sensor

_LONGEST = 1 << 16
"""Bytes of one line; jAER writes the settings of a chip into the header, but not in one line."""


class Header(NamedTuple):
    """lines: without mark and line end. end: the first byte behind them."""

    lines: list[str]
    end: int

    def facts(self, separator: str = " ") -> dict[str, str]:
        """The lines ``key value``, the last of each key; lines of XML, in which jAER keeps settings, are none."""
        pairs = (line.partition(separator) for line in self.lines if "<" not in line)
        return {key.strip(): value.strip() for key, found, value in pairs if found and key.strip()}


def read_header(data: bytes, mark: bytes, last: str | None = None) -> Header:
    """The lines of text at the front that begin with ``mark``, up to the line ``last`` if there is one.

    Binary events follow without a border, and may begin with the mark themselves; they are told apart by the control
    characters that text does not have.
    """
    lines: list[str] = []
    at = 0
    while data.startswith(mark, at):
        stop = data.find(b"\n", at, at + _LONGEST)
        if stop < 0:
            break
        line = data[at + len(mark) : stop].rstrip(b"\r")
        if any(byte < 32 and byte != 9 for byte in line):
            break
        lines.append(line.decode("utf-8", "replace").strip())
        at = stop + 1
        if lines[-1] == last:
            break
    return Header(lines, at)


def size_in(values: dict[str, str]) -> Sensor | None:
    """The sensor of a header with ``Width`` and ``Height``, in any case, or ``geometry 1280x720``."""
    lower = {key.lower(): value for key, value in values.items()}
    width, height = lower.get("width", ""), lower.get("height", "")
    if match := re.fullmatch(r"(\d{1,6})\s*x\s*(\d{1,6})", lower.get("geometry", "")):
        width, height = match.groups()
    if not (re.fullmatch(r"\d{1,6}", width) and re.fullmatch(r"\d{1,6}", height)):
        return None
    fits = all(1 <= int(size) <= 1 << 16 for size in (width, height))
    return Sensor(int(width), int(height), 2) if fits else None
