"""``.csv``, ``.txt``: one event a line, separated by commas, semicolons, blanks or tabs.

The first line may name the columns, by names of :data:`~.base.NAMES`; else they are t, x, y, p, or in another order of
:data:`~.tables.ORDERS` that the content fits (two columns: t, x). Times are µs if all are whole numbers, else seconds
(the Event-Camera Dataset). Lines that begin with ``#`` or ``%`` are left out. Text is UTF-8, or UTF-16 with its mark;
names and numbers may stand in quotes. Published layouts:

================== ============================== =====================================================
first line         written by                     sensor
================== ============================== =====================================================
none               Event-Camera Dataset, v2e      not stated
``240 180``        rpg_e2vid                      of that line, before lines of four numbers
``t,x@240,…,on``   faery                          of the names
``%geometry:…``    Metavision, x, y, p, t         of that line
``,t,x,y,p``       pandas                         not stated; the first column numbers the rows
================== ============================== =====================================================

Source of the order t, x, y, p: E. Mueggler et al., The Event-Camera Dataset and Simulator, 2017, whose ``events.txt``
has a line ``timestamp x y polarity`` for each event.
"""

from __future__ import annotations

import codecs
import io
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import ORDER, Recording, Source, choose, from_columns, sensor_in, suffixes
from spikelfp.data.events.readers.tables import arrange
from spikelfp.errors import DataError

_SEPARATORS = re.compile(r"[,;\s]+")
_COMMENTS = ("#", "%")
_TO_BLANK = str.maketrans(",;\"'", "    ")
_FLOAT = re.compile(r"[.eEnN]")
_LONGEST = 40
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|[+-]?(nan|inf)", re.IGNORECASE)
_SIZE = re.compile(r"geometry\W+(\d{1,6})\s*[,x]\s*(\d{1,6})", re.IGNORECASE)
_SIZED_NAME = re.compile(r"([xy])@(\d{1,6})", re.IGNORECASE)
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_TOGETHER = 1 << 16
"""Lines that are text at one time: text takes ten times the memory of the numbers in it."""

Lines = list[tuple[int, str]]
"""Lines with their numbers, from 1."""


class Header(NamedTuple):
    """Header before the events.

    Attributes:
        names: of the columns; empty without a line of names.
        sensor: that is stated.
        lines: that the header takes of those that are no comments: 0 or 1.
    """

    names: list[str]
    sensor: Sensor | None
    lines: int


@suffixes.register(".csv")
@suffixes.register(".txt")
def read_text(source: Source, sensor: Sensor | None) -> Recording:
    """Read lines of events; columns without names must be in order of time.

    Raises:
        DataError: for a line that holds something else than numbers, or fewer or more of them than the first, and as
            :func:`~.base.from_columns`.
    """
    where, stated = source.where, source.layout.columns
    comments: list[str] = []
    lines = _lines(source, comments)
    start = list(islice(lines, 2))
    if not start:
        raise DataError(f"{where}: holds no events")
    header = _header(start, comments, where)
    if len(start) == header.lines:
        raise DataError(f"{where}: holds no events")
    width = len(_split(start[header.lines][1]))
    names, numbered = _names(header.names, width, stated, where, start)
    if not header.names and stated is None and width not in (2, 4):
        raise DataError(f"{where}: line {start[0][0]} has {width} numbers, expected t, x, y, p or t, x")
    table, at = _table(start[header.lines :], lines, width if numbered else len(names) or width, where)
    if numbered and not np.array_equal(table[:, 0] - table[0, 0], np.arange(len(table))):
        raise DataError(
            f"{where}: line {at[0]} has {width} values, expected {width - 1}: {', '.join(header.names)[:60]}"
        )
    facts: dict[str, Any] = {"format": "text"}
    named = bool(header.names) and stated is None
    if named:
        columns = {field: table[:, names.index(name)] for field, name in choose(names[numbered:], where).items()}
        facts["columns"] = tuple(names)
    else:
        columns, more = arrange(list(table.T), stated, where)
        facts.update(more)

    def place(event: int) -> str:
        return f"event {event}, in line {at[event]},"

    return from_columns(where, columns, sensor, facts, seconds=True, named=named, place=place, own=header.sensor)


def _lines(source: Source, comments: list[str]) -> Iterator[tuple[int, str]]:
    """The lines that are neither empty nor comments, with their numbers; the first comments go into a list."""
    encoding = _MARKS.get(source.data[:2], "utf-8-sig")
    text = io.TextIOWrapper(io.BytesIO(source.data), encoding=encoding)
    try:
        for number, line in enumerate(text, 1):
            line = line.strip()
            if line.startswith(_COMMENTS):
                if len(comments) < _LONGEST:
                    comments.append(line)
            elif line:
                yield number, line
    except UnicodeError as error:
        raise DataError(f"{source.where}: expected text, found byte {_bad_byte(source.data)} that is none") from error


def _bad_byte(data: bytes) -> int:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def _header(start: Lines, comments: list[str], where: str) -> Header:
    """Read the header in the first lines."""
    first = _split(start[0][1])
    sizes = next((match.groups() for each in comments if (match := _SIZE.search(each))), None)
    if not all(_NUMBER.fullmatch(word) for word in first):
        found = {match[1].lower(): match[2] for name in first if (match := _SIZED_NAME.fullmatch(name))}
        sizes = (found["x"], found["y"]) if len(found) == 2 else sizes
        names = [_SIZED_NAME.sub(r"\1", name) for name in _split_names(start[0][1])]
        return Header(names, _sensor(sizes), 1)
    if len(start) == 2 and len(first) == 2 and len(_split(start[1][1])) == 4 and all(map(str.isdigit, first)):
        return Header([], _sensor((first[0], first[1])), 1)
    return Header([], _sensor(sizes), 0)


def _sensor(sizes: Any) -> Sensor | None:
    return None if sizes is None else sensor_in({"width": sizes[0], "height": sizes[1]})


def _names(
    names: list[str], width: int, stated: tuple[str, ...] | None, where: str, start: Lines
) -> tuple[list[str], bool]:
    """Names of the columns, and whether a column without a name comes first, which numbers the rows (pandas, R)."""
    if not names or stated is not None:
        return list(stated or ORDER[:width]), False
    numbered = len(names) == width - 1 or (len(names) == width and not names[0])
    choose(names, where)
    if numbered and len(names) == width - 1:
        return ["", *names], True
    return names, numbered


def _split(line: str) -> list[str]:
    return [word.strip("\"'") for word in _SEPARATORS.split(line.strip(",; \t"))]


def _split_names(line: str) -> list[str]:
    """Names of columns, which may hold blanks where commas, semicolons or tabs are between them."""
    separator = next((mark for mark in ",;\t" if mark in line.strip(",; \t")), None)
    if separator is None:
        return _split(line)
    return [word.strip(" \"'") for word in line.strip(",; \t").split(separator)]


def _table(start: Lines, lines: Iterator[tuple[int, str]], width: int, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers ``[M, width]``, int64, or float64 if any is written with a fraction or exponent; and their lines."""
    tables, numbers, block = [], [], [*start, *islice(lines, _TOGETHER)]
    while block:
        tables.append(_parse(block, width, where))
        numbers.append(np.array([number for number, _ in block]))
        block = list(islice(lines, _TOGETHER))
    return np.concatenate(tables), np.concatenate(numbers)


def _parse(rows: Lines, width: int, where: str) -> NDArray[Any]:
    """Numbers ``[M, width]`` of some lines."""
    lines = [line.translate(_TO_BLANK) for _, line in rows]
    kind = np.float64 if any(_FLOAT.search(line) for line in lines) else np.int64
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lines without numbers, which are refused below
            table = np.loadtxt(lines, kind, comments=None, ndmin=2)
    except (ValueError, OverflowError):
        table = np.empty((0, 0), kind)
    if table.shape == (len(rows), width):
        return table
    for number, line in rows:
        found = _split(line)
        if len(found) != width:
            raise DataError(f"{where}: line {number} has {len(found)} values, expected {width}: truncated or damaged")
        for word in found:
            if not _NUMBER.fullmatch(word) or len(word) > _LONGEST:
                raise DataError(f"{where}: line {number} has {word[:40]!r} in place of a number of at most 64 bits")
    raise DataError(f"{where}: holds values that are no numbers of at most 64 bits")
