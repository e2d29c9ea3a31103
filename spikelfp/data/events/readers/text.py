"""``.csv``, ``.txt``: one event a line, separated by commas, semicolons, blanks or tabs.

Columns are t, x, y, p in this order (two columns: t, x), unless the first line names them, by names of
:data:`~.base.NAMES`. Lines that begin with ``#`` or ``%`` are left out. Times are µs if all are whole numbers,
else seconds (the Event-Camera Dataset). Source of the order: E. Mueggler et al., The Event-Camera Dataset and
Simulator, 2017, whose ``events.txt`` has a line ``timestamp x y polarity`` for each event.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import ORDER, Recording, Source, choose, from_columns, suffixes
from spikelfp.errors import DataError

_SEPARATORS = re.compile(r"[,;\s]+")
_COMMENTS = ("#", "%")
_TO_BLANK = str.maketrans(",;", "  ")
_FLOAT = re.compile(r"[.eEnN]")
_LONGEST = 40
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|[+-]?(nan|inf)", re.IGNORECASE)


@suffixes.register(".csv")
@suffixes.register(".txt")
def read_text(source: Source, sensor: Sensor | None) -> Recording:
    """Read lines of events; columns without names must be in order of time.

    Raises:
        DataError: for a line that holds something else than numbers, or fewer or more of them than the first, and as
            :func:`~.base.from_columns`.
    """
    where = source.where
    try:
        lines = source.data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: expected text, found byte {error.start} that is none") from error
    numbered = [(i, line.strip()) for i, line in enumerate(lines, 1)]
    kept = [(i, line) for i, line in numbered if line and not line.startswith(_COMMENTS)]
    if not kept:
        raise DataError(f"{where}: holds no events")
    first = _split(kept[0][1])
    named = not all(_NUMBER.fullmatch(word) for word in first)
    names = choose(first, where) if named else dict(zip(ORDER, ORDER, strict=True))
    order = first if named else ORDER[: len(first)]
    if not named and len(first) not in (2, 4):
        raise DataError(f"{where}: line {kept[0][0]} has {len(first)} numbers, expected t, x, y, p or t, x")
    rows = kept[1:] if named else kept
    if not rows:
        raise DataError(f"{where}: holds no events")
    table = _parse(rows, len(order), where)
    columns: dict[str, NDArray[Any]] = {
        field: table[:, order.index(name)] for field, name in names.items() if name in order
    }

    def place(event: int) -> str:
        return f"event {event}, in line {rows[event][0]},"

    facts = {"format": "text", "columns": tuple(order)}
    return from_columns(where, columns, sensor, facts, seconds=True, named=named, place=place)


def _split(line: str) -> list[str]:
    return [word.strip("\"'") for word in _SEPARATORS.split(line.strip(",; \t"))]


def _parse(rows: list[tuple[int, str]], width: int, where: str) -> NDArray[Any]:
    """Numbers ``[M, width]``: int64, or float64 if any is written with a fraction or exponent."""
    lines = [line.translate(_TO_BLANK) for _, line in rows]
    kind = np.float64 if any(_FLOAT.search(line) for line in lines) else np.int64
    try:
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
