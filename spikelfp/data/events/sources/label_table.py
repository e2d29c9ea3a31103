"""Label tables: csv files that say when which class was recorded, as those of DVS128 Gesture do."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import NamedTuple

from spikelfp.errors import DataError
from spikelfp.untrusted import read_regular

_LARGEST = 1 << 26  # bytes of a table
_MOST = 1 << 20  # lines of a table

NAMES = {
    "start": ("start", "begin", "onset", "from"),
    "end": ("end", "stop", "offset", "to"),
    "class": ("class", "label", "gesture", "action", "category"),
    "file": ("file", "filename", "path", "recording", "name"),
}
"""First words of the names of columns, in any case; ``file`` is there where a table is about several recordings."""

UNITS = {
    1: ("us", "usec", "µs", "μs", "microsecond", "microseconds"),
    1_000: ("ms", "msec", "millisecond", "milliseconds"),
    1_000_000: ("s", "sec", "second", "seconds"),
}
"""Units of times by their µs, as words of the names of columns; without one of them, times are µs."""


class LabelLine(NamedTuple):
    """A line of a label table.

    Attributes:
        file: recording that it is about, as the table names it; empty where the table is about one.
        start: µs on the clock of the recording.
        end: µs, the first after it.
        label: name of the class.
        line: number in the file, from 1 on.
    """

    file: str
    start: int
    end: int
    label: str
    line: int


def read_table(path: str | Path, *, of_several: bool) -> list[LabelLine]:
    """Read a table with columns ``start``, ``end`` and ``class``, in any order, and for several recordings ``file``.

    Columns are found by the first word of their names (:data:`NAMES`): ``startTime_usec`` is a start. A unit in both
    names of times (:data:`UNITS`) is theirs; without one they are µs. Other columns are ignored.

    Args:
        path: of the csv file, with commas, semicolons or tabs between cells; the first line names the columns.
        of_several: whether lines name the file that they are about.

    Returns:
        The lines, in the order of the file, at least one.

    Raises:
        DataError: for a file that cannot be read, columns that are missing or not clear, times that are no numbers, no
            whole µs, or not in order, and empty names.
    """
    try:
        text = read_regular(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no table of text ({error.reason} at byte {error.start})") from None
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise DataError(f"{path}: is no table ({error})") from None
    if len(rows) > _MOST:
        raise DataError(f"{path}: has {len(rows):,} lines, more than the {_MOST:,} that are read")
    wanted = ("start", "end", "class", "file") if of_several else ("start", "end", "class")
    columns = _columns([cell.strip() for cell in rows[0]] if rows else [], wanted, path)
    unit = _unit(rows[0][columns["start"]], rows[0][columns["end"]], path)
    found = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns.values()):
            raise DataError(f"{path}: line {number} has {len(row)} cells, the head has {len(rows[0])}")
        start, end = (_time(row[columns[name]], unit, f"{path}: line {number}") for name in ("start", "end"))
        label, file = row[columns["class"]].strip(), row[columns["file"]].strip() if of_several else ""
        if end <= start:
            raise DataError(f"{path}: line {number} ends at {end} µs, and begins at {start} µs")
        if not label or (of_several and not file):
            raise DataError(f"{path}: line {number} names no {'class' if not label else 'file'}")
        found.append(LabelLine(file, start, end, label, number))
    if not found:
        raise DataError(f"{path}: has no lines")
    return found


def _words(name: str) -> list[str]:
    """Words of a column's name: ``startTime_usec`` → start, time, usec."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-zµμ]+|[A-Z]+(?![a-zµμ])|\d+", name)]


def _columns(head: list[str], wanted: tuple[str, ...], path: str | Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for field in wanted:
        places = [place for place, name in enumerate(head) if (_words(name) or [""])[0] in NAMES[field]]
        if len(places) > 1:
            both = " and ".join(repr(head[place][:40]) for place in places[:2])
            raise DataError(f"{path}: {both} may both be the {field} of a line; keep one")
        if not places:
            there = ", ".join(name[:40] for name in head[:8]) or "nothing"
            raise DataError(
                f"{path}: no column {field} in its first line ({there}): a label table has "
                f"{', '.join(wanted)} (or {', '.join(NAMES[field][1:])})"
            )
        found[field] = places[0]
    return found


def _unit(start: str, end: str, path: str | Path) -> int:
    units = [
        next((size for size, words in UNITS.items() if set(words) & set(_words(name)[1:])), 0) for name in (start, end)
    ]
    if units[0] != units[1]:
        raise DataError(f"{path}: {start.strip()!r} and {end.strip()!r} are not of one unit")
    return units[0] or 1


def _time(text: str, unit: int, where: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: {text.strip()[:40]!r} is no time") from None
    if not math.isfinite(value) or not 0 <= value * unit < 2**62:
        raise DataError(f"{where}: {text.strip()[:40]!r} is no time from 0 on")
    if unit == 1 and value != int(value):
        raise DataError(
            f"{where}: {text.strip()[:40]!r} is no whole µs: name the unit in the first line, such as start_s and end_s"
        )
    return round(value * unit)
