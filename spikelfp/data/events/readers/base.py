"""What all readers share: where bytes come from, headers of text, columns, order of time, and reading by suffix."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.errors import DataError
from spikelfp.registry import Registry
from spikelfp.untrusted import open_regular, read_regular


class Source:
    """A recording that is not decoded yet.

    Attributes:
        where: the name that opens every message: the file, or the archive and the member of it.
        path: the file; ``None`` of bytes that come from elsewhere.

    Raises:
        DataError: for a file that is missing, empty, unreadable, or no file but a folder, a device or a pipe.
    """

    def __init__(self, where: str, path: Path | None = None, data: bytes | None = None) -> None:
        self.where = where
        self.path = path
        if data is not None:
            self.data = data
            self.size = len(data)
        elif path is not None:
            self.size = _size(path)
        if not self.size:
            raise DataError(f"{where}: is empty")

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        assert self.path is not None  # bytes are set by __init__
        data = read_regular(self.path)
        if len(data) != self.size:
            raise DataError(f"{self.where}: has changed from {self.size} to {len(data)} bytes while it was read")
        return data


def _size(path: Path) -> int:
    with open_regular(path) as file:  # a permission is missing here rather than in another library
        return os.fstat(file.fileno()).st_size


SLACK = 100_000
"""µs by which an event may lie behind an earlier time of its file and is still sorted in. Within a packet cameras mix
events a little; a jump further back is a clock that was reset, two recordings in one file, or a damaged time."""


def unwrap(ticks: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Times of a counter of 32 bits that starts again at 0, as int64: a step back by more than half of its range is
    taken as that, a smaller one as disorder."""
    times = ticks.astype(np.int64)
    if len(times) > 1:
        steps = np.diff(times)
        if (np.abs(steps) > 1 << 31).any():
            turns = np.cumsum((steps < -(1 << 31)).astype(np.int64) - (steps > 1 << 31))
            times[1:] += turns << 32
    return times


def in_order(events: Events, where: str, slack: int | None, place: Callable[[int], str]) -> tuple[Events, int]:
    """``events`` sorted by time, equal times as they come, and how many lay behind an earlier time.

    slack: µs that an event may lie behind; ``None`` for any. place: says where event ``i`` stands in the file.

    Raises:
        DataError: for the first event that lies further behind.
    """
    times = events["t"]
    if len(times) < 2 or not bool((times[1:] < times[:-1]).any()):
        return events, 0
    latest = np.maximum.accumulate(times)
    behind = latest - times
    if slack is not None and int(behind.max()) > slack:
        first = int(np.argmax(behind > slack))
        allowed = f"at most {slack} µs of disorder are sorted" if slack else "they must rise"
        raise DataError(
            f"{where}: {place(first)} is of {times[first]} µs, {behind[first]} µs behind an earlier one; {allowed}: "
            "the clock was reset, the file is damaged, or its columns come in another order"
        )
    return events[np.argsort(times, kind="stable")], int(np.count_nonzero(behind))


Place = Callable[[int], str]
"""Says where event ``i`` of the file stands: "event 12, at byte 76,"."""


class Recording(NamedTuple):
    """The content of one file.

    events: ``[M]`` of dtype :data:`~spikelfp.data.events.event.EVENT`, at least one, sorted by time, times as in the
    file. sensor: that they lie on: of the file's header, else the known one of the format, else the one handed in, else
    the smallest that holds the events. facts: what the header says; always ``format``, and ``disordered``, the number
    of events that were sorted in, if there were any.
    """

    events: Events
    sensor: Sensor
    facts: dict[str, Any]


def places(start: int, step: int) -> Place:
    """Of events of ``step`` bytes each, the first at byte ``start``."""
    return lambda event: f"event {event}, at byte {start + step * int(event)},"


def numbered(event: int) -> str:
    """Of events that have no place of their own in the file."""
    return f"event {event}"


def pack(
    where: str,
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any] | int = 0,
    p: NDArray[Any] | int = 0,
    place: Place = numbered,
) -> Events:
    """Columns of whole numbers as one array of events.

    Raises:
        DataError: for the first ``x`` or ``y`` that is no pixel of any sensor: below 0 or above 65535.
    """
    for name, values in (("x", x), ("y", y)):
        if isinstance(values, np.ndarray) and values.dtype.itemsize > 2 and len(values):
            outside = (values < 0) | (values > 0xFFFF)
            if bool(outside.any()):
                first = int(np.argmax(outside))
                raise DataError(f"{where}: {place(first)} has {name} = {values[first]}, expected 0 to 65535")
    events = np.zeros(len(t), EVENT)  # zeros between the fields too: equal events have equal bytes
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def finish(
    where: str,
    events: Events,
    sensor: Sensor | None,
    facts: dict[str, Any],
    slack: int | None = SLACK,
    place: Place = numbered,
    camera: bool = True,
) -> Recording:
    """The recording of ``events`` as they come in the file.

    sensor: of the file or handed in; ``None``: the smallest that holds them, of two polarities if it is a ``camera``.
    slack: see :func:`~spikelfp.data.events.readers.base.in_order`.

    Raises:
        DataError: for no events, an event outside the sensor, or times out of order by more than ``slack``.
    """
    if len(events) == 0:
        raise DataError(f"{where}: holds no events")
    top = {name: int(events[name].max()) for name in ("x", "y", "p")}
    if sensor is None:
        sensor = Sensor(top["x"] + 1, top["y"] + 1, 2 if camera or top["p"] else 1)
    for name, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        if top[name] >= end:
            first = int(np.argmax(events[name] >= end))
            raise DataError(
                f"{where}: {place(first)} has {name} = {events[name][first]}, outside the sensor of {sensor} "
                f"(0 to {end - 1})"
            )
    events, disordered = in_order(events, where, slack, place)
    return Recording(events, sensor, {**facts, "disordered": disordered} if disordered else facts)


NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "col", "column", "channel", "unit", "units"),
    "y": ("y", "row"),
    "p": ("p", "pol", "polarity", "polarities", "on"),
}
"""What the columns may be called, in any case; ``t`` and ``x`` must be there."""

ORDER = ("t", "x", "y", "p")
"""What columns without names are, from the left."""


LATEST = (1 << 62) - 1
"""Largest time: differences of two still fit into 64 bits."""


def choose(names: Iterable[str], where: str) -> dict[str, str]:
    """Which of ``names`` is which field.

    Raises:
        DataError: for no time or no x, or two columns for one field.
    """
    names = list(names)
    chosen: dict[str, str] = {}
    for field, known in NAMES.items():
        found = [name for name in names if name.lower() in known]
        if len(found) > 1:
            both = " and ".join(repr(name[:40]) for name in found)
            raise DataError(f"{where}: {both} may both be the {field} of events; keep one")
        if found:
            chosen[field] = found[0]
    missing = [field for field in ("t", "x") if field not in chosen]
    if missing:
        expected = "; ".join(f"{field}: {', '.join(NAMES[field])}" for field in missing)
        there = [name[:40] for name in names[:10]]
        raise DataError(f"{where}: no column {' and '.join(missing)} among {there} (may be called {expected})")
    return chosen


def is_events(names: Iterable[str]) -> bool:
    """Whether columns of these ``names`` can be events."""
    lower = {name.lower() for name in names}
    return all(lower.intersection(NAMES[field]) for field in ("t", "x"))


def from_columns(
    where: str,
    columns: Mapping[str, NDArray[Any]],
    sensor: Sensor | None,
    facts: dict[str, Any],
    *,
    seconds: bool = False,
    named: bool = True,
    place: Place = numbered,
) -> Recording:
    """The recording of ``columns`` ``[M]`` named t, x and perhaps y, p.

    Times are µs; with ``seconds``, times with a fraction are taken for seconds and rounded to µs. ``p`` is 0 and 1, or
    -1 and 1. Without ``y``, events lie on a line; if they then have one polarity, and no ``sensor`` of two is handed
    in, ``p`` is 0. Columns that are not ``named`` must be in order of time, as any others are a sign of another order.

    Raises:
        DataError: for columns of unequal lengths or more than one axis, values that are not whole numbers, another
            polarity, and as :func:`~.recording.finish`.
    """
    lengths = {name: values.shape for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or len(columns["t"].shape) != 1:
        raise DataError(f"{where}: expected columns [M] of one length, found shapes {lengths}")
    t = _times(columns["t"], where, seconds, place)
    x = _whole(columns["x"], "x", where, place)
    y = _whole(columns["y"], "y", where, place) if "y" in columns else 0
    p = polarity(columns["p"], where, place) if "p" in columns else 0
    line = "y" not in columns
    if line and isinstance(p, np.ndarray) and (sensor is None or sensor.polarities == 1) and (p == p[:1]).all():
        p = 0
    slack = SLACK if named else 0
    return finish(where, pack(where, t, x, y, p, place), sensor, facts, slack, place, camera=not line)


def polarity(values: NDArray[Any], where: str, place: Place = numbered) -> NDArray[np.uint8]:
    """``values`` of 0 and 1, or of -1 and 1, as 0 and 1."""
    whole = _whole(values, "p", where, place)
    strange = (whole != 1) & (whole != 0) & (whole != -1)
    if bool((whole == -1).any()):
        strange |= whole == 0
    if strange.any():
        first = int(np.argmax(strange))
        raise DataError(f"{where}: {place(first)} has p = {whole[first]}, expected 0 and 1, or -1 and 1")
    return (whole == 1).astype(np.uint8)


def _times(values: NDArray[Any], where: str, seconds: bool, place: Place) -> NDArray[np.int64]:
    if seconds and values.dtype.kind == "f" and np.isfinite(values).all() and (values != np.floor(values)).any():
        values = np.rint(values.astype(np.float64) * 1e6)
    hint = "; times are µs" if not seconds else ""
    return _whole(values, "t", where, place, hint)


def _whole(values: NDArray[Any], name: str, where: str, place: Place, hint: str = "") -> NDArray[np.int64]:
    """``values`` as int64, which they must be without loss."""
    kind = values.dtype.kind
    if kind == "b" or (kind in "iu" and values.dtype.itemsize < 8):
        return values.astype(np.int64)
    if kind not in "iuf":
        raise DataError(f"{where}: {name} is of type {values.dtype}, expected numbers")
    if kind == "f":
        bad = ~(np.abs(values) <= 2.0**62) | (values != np.floor(values))
    else:
        bad = (values > LATEST) | (values < -LATEST) if kind == "i" else values > LATEST
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(f"{where}: {place(first)} has {name} = {values[first]}, expected a whole number{hint}")
    return values.astype(np.int64)


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


Reader = Callable[[Source, Sensor | None], Recording]

suffixes: Registry[Reader] = Registry("suffix of event files")
"""Readers ``read(source, sensor) -> Recording`` by suffix, such as ``".raw"``, in lower case. Register one to have its
files read everywhere; it takes the content from ``source.data`` or ``source.path``, ends in :func:`~.recording.finish`,
and raises nothing but DataError."""


def can_read(path: str | Path) -> bool:
    """Whether there is a reader for files of this suffix; the file itself is not looked at."""
    return Path(path).suffix.lower() in suffixes


def read(path: str | Path, *, sensor: Sensor | None = None) -> Recording:
    """The recording in the file ``path``; its suffix, in any case, says the format.

    sensor: for files that do not say theirs; a file's own comes first.

    Raises:
        DataError: for a file that is missing, empty, truncated, damaged, mislabelled or without events, for events
            outside the sensor and times out of order, and for a suffix that has no reader.
    """
    path = Path(path)
    return _read(Source(str(path), path), path.suffix, sensor)


def read_bytes(data: bytes, suffix: str, where: str, *, sensor: Sensor | None = None) -> Recording:
    """The recording in ``data``, the content of a file of this ``suffix``; ``where`` opens the messages.

    Raises:
        DataError: as :func:`read`.
    """
    return _read(Source(where, data=bytes(data)), suffix, sensor)


def read_bin(data: bytes, where: str, *, sensor: Sensor | None = None) -> Recording:
    """The recording in ``data``, the content of a ``.bin`` file such as those of N-MNIST; see :func:`read_bytes`."""
    return read_bytes(data, ".bin", where, sensor=sensor)


def _read(source: Source, suffix: str, sensor: Sensor | None) -> Recording:
    suffix = suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{source.where}: no reader for files that end in {suffix!r}: choose from {', '.join(suffixes)}"
        )
    try:
        return suffixes[suffix](source, sensor)
    except MemoryError as error:
        raise DataError(f"{source.where}: its events do not fit into memory") from error
