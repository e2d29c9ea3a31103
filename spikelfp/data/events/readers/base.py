"""The parts that all readers share: sources of bytes, headers of text, columns, order of times, reading by suffix."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp import checks
from spikelfp.data.events.event import EVENT, Events, FileLayout, Sensor, check_stated
from spikelfp.data.events.readers.compact import blocks
from spikelfp.data.events.tally import count
from spikelfp.errors import DataError
from spikelfp.machine import available, gigabytes
from spikelfp.registry import Registry
from spikelfp.untrusted import ALWAYS, open_regular, read_regular

SLACK = 100_000
"""µs by which an event may come after a later one in its file and is still sorted in. Within a packet cameras mix
events a little; a jump further back is a clock that was reset, two recordings in one file, or a damaged time."""

LATEST = (1 << 62) - 1
"""Largest time: differences of two still fit into 64 bits."""

NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "col", "column", "channel", "unit", "units"),
    "y": ("y", "row"),
    "p": ("p", "pol", "polarity", "polarities", "on"),
}
"""Names of columns of events, in any case; ``t`` and ``x`` must be there."""

PLURALS = {"x": ("xs",), "y": ("ys",), "p": ("ps",)}
"""Names that count where there is none of :data:`NAMES` (E2VID, event_utils, evlib)."""

ORDER = ("t", "x", "y", "p")
"""Order of columns without names, from the left."""

BYTES_WHILE_READ = 48
"""Memory that an event of columns takes at most while it is read: 16 bytes as an event, and 14 in narrow columns, or,
out of order, another 16 and its places."""

MOST_EVENTS = 1 << 24
"""Events of columns that a file of any size may hold; they take 800 MB at most while they are read."""

MOST_A_BYTE = 1
"""Events of columns in a byte of a larger file: compressed ones take two bytes or more each."""

Place = Callable[[int], str]
"""Says where event ``i`` of the file stands: "event 12, at byte 76,"."""


class Source:
    """A recording that is not decoded yet: a file, or bytes in memory.

    Args:
        where: the name that messages begin with: the file, or the archive and the member of it.
        path: the file; ``None`` for bytes that come from elsewhere.
        data: the bytes, where there is no file.
        layout: what the user states about it.

    Raises:
        DataError: for a file that is missing, empty, unreadable, or no file but a folder, a device or a pipe.
    """

    def __init__(
        self, where: str, path: Path | None = None, data: bytes | None = None, layout: FileLayout | None = None
    ) -> None:
        self.where = where
        self.path = path
        self.layout = layout or FileLayout()
        if data is not None:
            self.data = data
            self.size = len(data)
        elif path is not None:
            with open_regular(path) as file:  # so that a missing permission is found here, not in another library
                self.size = os.fstat(file.fileno()).st_size
        if not self.size:
            raise DataError(f"{where}: is empty")

    @cached_property
    def data(self) -> bytes:
        """The whole content."""
        assert self.path is not None  # bytes are set by __init__
        data = read_regular(self.path)
        if len(data) != self.size:
            raise DataError(f"{self.where}: has changed from {self.size} to {len(data)} bytes while it was read")
        return data


class Recording(NamedTuple):
    """The content of one file.

    Attributes:
        events: ``[M]`` of dtype :data:`~spikelfp.data.events.event.EVENT`, at least one, sorted by time, with the times
            of the file in µs.
        sensor: of the file's header, else the one that the format always has, else the one given by the caller, else
            the smallest that holds the events.
        facts: content of the header; always ``format``, and ``disordered``, the number of events that were sorted in,
            if there were any; ``table`` and ``columns``, where these were chosen by the content.
        named: whether the sensor is that of the header or of the format.
    """

    events: Events
    sensor: Sensor
    facts: dict[str, Any]
    named: bool = False


Reader = Callable[[Source, Sensor | None], Recording]

suffixes: Registry[Reader] = Registry("suffix of event files")
"""Readers ``read(source, sensor) -> Recording`` by suffix, such as ``".raw"``, in lower case. Register one to have its
files read everywhere. It takes the content from ``source.data`` or ``source.path``, ends in :func:`finish`, and raises
nothing but DataError."""


def can_read(path: str | Path) -> bool:
    """Whether there is a reader for files of this suffix; the file itself is not opened.

    Args:
        path: of the file.

    Returns:
        True if :func:`read` knows the suffix.
    """
    return checks.path("a recording", path).suffix.lower() in suffixes


def read(path: str | Path, *, sensor: Sensor | None = None, layout: FileLayout | None = None) -> Recording:
    """Read a recording; the suffix of the file, in any case, says its format.

    Args:
        path: of the file.
        sensor: for files that do not say theirs; a file's own comes first.
        layout: of files of columns, where their content leaves a choice.

    Returns:
        Its events, sorted by time, its sensor and the facts of its header.

    Raises:
        DataError: for a file that is missing, empty, truncated, damaged, mislabelled or without events, for events
            outside the sensor and times out of order, and for a suffix that has no reader.
    """
    check_stated(sensor, layout)
    path = checks.path("a recording", path)
    return _read(Source(str(path), path, layout=layout), path.suffix, sensor)


def read_stated(path: str | Path, sensor: Sensor | None, layout: FileLayout | None = None) -> Recording:
    """Read a recording of the sensor that the user states, as :func:`read` does.

    Args:
        path: of the file.
        sensor: of the recording; ``None``: any.
        layout: of files of columns.

    Raises:
        DataError: as :func:`read`, and for a file that states another sensor.
    """
    found = read(path, sensor=sensor, layout=layout)
    if sensor not in (None, found.sensor):
        raise DataError(f"{path}: states a sensor of {found.sensor}, not of {sensor}: leave --sensor out")
    return found


def read_bytes(
    data: bytes, suffix: str, where: str, *, sensor: Sensor | None = None, layout: FileLayout | None = None
) -> Recording:
    """Read a recording from memory.

    Args:
        data: content of a file.
        suffix: of that file, which says its format.
        where: name that messages begin with.
        sensor: for files that do not say theirs.
        layout: of files of columns.

    Returns:
        The recording, as of :func:`read`.

    Raises:
        DataError: as :func:`read`.
    """
    return _read(Source(where, data=bytes(data), layout=layout), suffix, sensor)


def read_bin(data: bytes, where: str, *, sensor: Sensor | None = None) -> Recording:
    """Read the content of a ``.bin`` file, such as those of N-MNIST, from memory.

    Args:
        data: content of the file.
        where: name that messages begin with.
        sensor: of the recording; the format does not say it.

    Returns:
        The recording, as of :func:`read`.

    Raises:
        DataError: as :func:`read`.
    """
    return read_bytes(data, ".bin", where, sensor=sensor)


def _read(source: Source, suffix: str, sensor: Sensor | None) -> Recording:
    suffix = suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{source.where}: no reader for files that end in {suffix!r}: choose from {', '.join(suffixes)}"
        )
    try:
        with np.errstate(invalid="ignore"):  # damaged files hold signalling NaNs; any NaN is refused by name
            recording = suffixes[suffix](source, sensor)
    except MemoryError as error:
        raise DataError(f"{source.where}: its events do not fit into memory") from error
    count(source.where, recording.facts)
    return recording


# From columns of numbers to a recording


def places(start: int, step: int) -> Place:
    """Places of events of ``step`` bytes each, the first at byte ``start``."""
    return lambda event: f"event {event}, at byte {start + step * int(event)},"


def numbered(event: int) -> str:
    """Place of an event that has none of its own in the file."""
    return f"event {event}"


def pack(
    where: str,
    t: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any] | int = 0,
    p: NDArray[Any] | int = 0,
    place: Place = numbered,
) -> Events:
    """Pack columns of whole numbers into one array of events.

    Args:
        where: name of the file in messages.
        t: times in µs ``[M]``.
        x: columns or channels ``[M]``.
        y: rows ``[M]``, or one for all.
        p: polarities ``[M]``, 1 of ON, or one for all.
        place: says where an event stands in the file.

    Returns:
        The events ``[M]``, in the order given.

    Raises:
        DataError: for the first ``x`` or ``y`` that is no pixel of any sensor: below 0 or above 65535.
    """
    for name, values in (("x", x), ("y", y)):
        if isinstance(values, np.ndarray) and values.dtype.itemsize > 2:
            _check_pixels(values, name, where, place)
    events = np.zeros(len(t), EVENT)  # zeros between the fields too: equal events have equal bytes
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def _check_pixels(values: NDArray[Any], name: str, where: str, place: Place) -> None:
    """Refuse the first column or row that no sensor has."""
    outside = (values < 0) | (values > 0xFFFF)
    if bool(outside.any()):
        first = int(np.argmax(outside))
        raise DataError(f"{where}: {place(first)} has {name} = {values[first]}, expected 0 to 65535")


def finish(
    where: str,
    events: Events,
    sensor: Sensor | None,
    facts: dict[str, Any],
    slack: int | None = SLACK,
    place: Place = numbered,
    camera: bool = True,
    own: Sensor | None = None,
) -> Recording:
    """Check and sort the events of a file.

    Args:
        where: name of the file in messages.
        events: ``[M]``, in the order of the file.
        sensor: given by the caller; ``None``: the smallest that holds the events.
        facts: content of the header.
        slack: µs that an event may come after a later one and still be sorted in; ``None`` for any.
        place: says where an event stands in the file.
        camera: give a sensor that is found here two polarities, also if only one occurs.
        own: sensor of the header or of the format, which comes before the one given.

    Returns:
        The recording, its events sorted by time, those of equal times in the order of the file.

    Raises:
        DataError: for no events, an event outside the sensor, times out of order by more than ``slack``, a clock that
            starts again, and, without a sensor, for a few events far outside all others.
    """
    if len(events) == 0:
        raise DataError(f"{where}: holds no events")
    top = {name: int(events[name].max()) for name in ("x", "y", "p")}
    sensor = own or sensor
    if sensor is None:
        _check_strays(events, where, place)
        sensor = Sensor(top["x"] + 1, top["y"] + 1, 2 if camera or top["p"] else 1)
    for name, end in (("x", sensor.width), ("y", sensor.height), ("p", sensor.polarities)):
        if top[name] >= end:
            first = int(np.argmax(events[name] >= end))
            raise DataError(
                f"{where}: {place(first)} has {name} = {events[name][first]}, outside the sensor of {sensor} "
                f"(0 to {end - 1})"
            )
    events, disordered = in_order(events, where, slack, place)
    return Recording(events, sensor, {**facts, "disordered": disordered} if disordered else facts, own is not None)


_FEW = 1000
"""Number of events among which one may be a stray."""

_FAR = 256
"""Columns and rows that no stray is needed to explain."""


def _check_strays(events: Events, where: str, place: Place) -> None:
    """Refuse a few events at more than twice the column or row of all others, which would make the sensor.

    At most one event in :data:`_FEW`, and one at least, counts as few, in a recording of a hundred or more.
    """
    few = max(1, len(events) // _FEW)
    if len(events) < _FEW // 10:
        return
    for name in ("x", "y"):
        values = events[name]
        top = int(values.max())
        if top < _FAR:
            continue
        rest = int(np.partition(values, len(values) - 1 - few)[len(values) - 1 - few])
        if top >= 2 * (rest + 1):
            strays = np.flatnonzero(values >= 2 * (rest + 1))
            raise DataError(
                f"{where}: {place(int(strays[0]))} has {name} = {values[strays[0]]}, but {len(events) - len(strays):,} "
                f"of {len(events):,} events lie below {rest + 1}: damaged, or state the sensor (--sensor WIDTHxHEIGHT)"
            )


def in_order(events: Events, where: str, slack: int | None, place: Place) -> tuple[Events, int]:
    """Sort events by time, those of equal times in the order of the file.

    Args:
        events: ``[M]``, in the order of the file.
        where: name of the file in messages.
        slack: µs that an event may come after a later one; ``None`` for any.
        place: says where an event stands in the file.

    Returns:
        The sorted events, and how many came after a later one.

    Raises:
        DataError: for the first event that comes later than ``slack`` allows.
    """
    times = events["t"]
    if len(times) < 2 or not bool((times[1:] < times[:-1]).any()):
        return events, 0
    late = np.maximum.accumulate(times)
    late -= times
    if slack is not None and int(late.max()) > slack:
        first = int(np.argmax(late > slack))
        allowed = f"at most {slack} µs of disorder are sorted" if slack else "they must rise"
        raise DataError(
            f"{where}: {place(first)} is of {times[first]} µs, {late[first]} µs behind an earlier one; {allowed}: "
            "the clock was reset, the file is damaged, or its columns come in another order"
        )
    if slack is not None:
        _check_restart(times, late, where, place)
    disordered = int(np.count_nonzero(late))
    del late  # which is as large as the places of the events
    return events[np.argsort(times, kind="stable")], disordered


_AGAIN = 16
"""Events that a clock which starts again has at least, before and after it does."""

_MIXED = 100
"""µs at the beginning of a recording in which no disorder is taken for a clock that starts again."""


def _check_restart(times: NDArray[np.int64], late: NDArray[np.int64], where: str, place: Place) -> None:
    """Refuse a clock that starts again: a second recording in the file, which sorting would lay over the first.

    Cameras mix the events of neighbouring packets: a few come late, or packets that do not overlap change places. In a
    second recording many events in a row come late, among times that were there before. They go back by half of the
    time so far and are a twentieth as many as the events so far; or by a quarter, and are a quarter as many. They are
    themselves in order, for the most part.

    Args:
        times: int64 ``[M]``, in the order of the file.
        late: µs by which each is behind the latest before it, int64 ``[M]``.
        where: name of the file in messages.
        place: says where an event stands in the file.
    """
    edges = np.flatnonzero(np.diff((late > 0).astype(np.int8), prepend=np.int8(0), append=np.int8(0))).reshape(-1, 2)
    edges = edges[(edges[:, 1] - edges[:, 0] >= _AGAIN) & (edges[:, 0] >= _AGAIN)]
    if not len(edges):
        return
    starts, counts = edges[:, 0], edges[:, 1] - edges[:, 0]
    span, back = times[starts] + late[starts] - np.minimum.accumulate(times)[starts], late[starts]
    many = ((2 * back >= span) & (20 * counts >= starts)) | ((4 * back >= span) & (4 * counts >= starts))
    for start, stop in edges[many & (span >= _MIXED)]:
        before, again = times[:start], times[start:stop]
        ahead = np.count_nonzero(2 * (before - times[start]) >= late[start])  # behind one wrong time, all are late
        amid = np.count_nonzero((before >= again.min()) & (before <= again.max()))
        falls = np.count_nonzero(again[1:] < again[:-1])
        if amid >= _AGAIN and 4 * ahead >= _AGAIN and 20 * ahead >= start and 4 * falls <= len(again):
            raise DataError(
                f"{where}: {place(int(start))} is of {times[start]} µs, where the clock starts again after "
                f"{times[start] + late[start]} µs: two recordings in one file? Cut the file there"
            )


def unwrap(ticks: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Continue the times of a 32-bit counter that starts again at 0.

    Args:
        ticks: uint32 ``[M]``, in the order of the file.

    Returns:
        Times int64 ``[M]``. A step back by more than half of the range is a new start, a smaller one is disorder.
    """
    times = ticks.astype(np.int64)
    if len(times) > 1:
        steps = np.diff(times)
        if (np.abs(steps) > 1 << 31).any():
            turns = np.cumsum((steps < -(1 << 31)).astype(np.int64) - (steps > 1 << 31))
            times[1:] += turns << 32
    return times


# Named or numbered columns of arrays, tables and HDF5 groups


def choose(names: Iterable[str], where: str) -> dict[str, str]:
    """Choose the column of each field by its name.

    Args:
        names: of all columns.
        where: name of the file in messages.

    Returns:
        Names of columns by field: t, x and perhaps y, p.

    Raises:
        DataError: for no time or no x, or two columns for one field.
    """
    names = list(names)
    chosen: dict[str, str] = {}
    for field, known in NAMES.items():
        found = [name for name in names if name.lower() in known]
        found = found or [name for name in names if name.lower() in PLURALS.get(field, ())]
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
    return all(lower.intersection((*NAMES[field], *PLURALS.get(field, ()))) for field in ("t", "x"))


def check_count(events: int, packed: int, where: str) -> None:
    """Refuse more events than a file of ``packed`` bytes may hold, before memory is taken for them.

    Raises:
        DataError: for more than :data:`MOST_EVENTS` and more than :data:`MOST_A_BYTE` times the bytes, and for events
            that would not fit into the memory that is free.
    """
    if events > max(MOST_EVENTS, MOST_A_BYTE * packed):
        raise DataError(f"{where}: claims {events} events in a file of {packed} bytes: damaged, or made to fill memory")
    check_room(events * BYTES_WHILE_READ, f"{where}: its {events:,} events")


def check_room(needed: int, what: str) -> None:
    """Refuse content that does not fit into the memory that is free, before any is taken for it.

    Args:
        needed: bytes that it takes while it is read.
        what: the content, which the message begins with.

    Raises:
        DataError: with what it takes and what is free.
    """
    free = available(torch.device("cpu")) if needed > ALWAYS else None
    if free is not None and needed > free:
        raise DataError(
            f"{what} take up to {gigabytes(needed)} of memory while they are read, and {gigabytes(free)} are free: cut "
            "the recording into shorter files"
        )


def from_columns(
    where: str,
    columns: dict[str, NDArray[Any]],
    sensor: Sensor | None,
    facts: dict[str, Any],
    *,
    seconds: bool = False,
    named: bool = True,
    place: Place = numbered,
    own: Sensor | None = None,
) -> Recording:
    """Make a recording of columns t, x and perhaps y, p.

    Without ``y``, events lie on a line; if they then have one polarity, and no ``sensor`` of two is given, ``p`` is 0.

    Args:
        where: name of the file in messages.
        columns: ``[M]`` each. Times are µs; ``p`` is 0 and 1, or -1 and 1. Each is taken out, to free it, once it is
            packed.
        sensor: given by the caller.
        facts: content of the header.
        seconds: take times with a fraction for seconds, and round them to µs.
        named: whether the columns have names. Others must be in order of time: disorder is a sign that the columns
            come in another order.
        place: says where an event stands in the file.
        own: sensor that the file states, which comes before the one given.

    Returns:
        The checked and sorted recording.

    Raises:
        DataError: for columns of unequal lengths or more than one axis, values that are not whole numbers, another
            polarity, and as :func:`finish`.
    """
    lengths = {name: values.shape for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or len(columns["t"].shape) != 1:
        raise DataError(f"{where}: expected columns [M] of one length, found shapes {lengths}")
    line, known = "y" not in columns, own or sensor
    events = np.zeros(lengths["t"], EVENT)  # zeros between the fields too: equal events have equal bytes
    for name in [field for field in ("t", "p", "x", "y") if field in columns]:
        _fill(events[name], columns[name], name, where, place, seconds)
        del columns[name]
    p = events["p"]
    if line and (known is None or known.polarities == 1) and (p == p[:1]).all():
        p[:] = 0
    return finish(where, events, sensor, facts, SLACK if named else 0, place, camera=not line, own=own)


def _fill(out: NDArray[Any], values: NDArray[Any], name: str, where: str, place: Place, seconds: bool) -> None:
    """Copy a column into a field of events, block by block: what is checked is small."""
    parts = list(blocks(len(values)))
    scaled = name == "t" and seconds and _has_fractions(values)
    signed = name == "p" and any(bool((values[part] == -1).any()) for part in parts)
    hint = "; times are µs" if name == "t" and not seconds else ""
    for part in parts:
        block = values[part]
        where_in = partial(_shifted, place, part.start)
        if name == "p":
            out[part] = polarity(block, where, where_in, signed=signed)
            continue
        if scaled:
            with np.errstate(over="ignore"):  # what becomes infinite is refused below
                block = np.rint(block.astype(np.float64) * 1e6)
        block = _whole(block, name, where, where_in, hint)
        if name != "t":
            _check_pixels(block, name, where, where_in)
        out[part] = block


def _shifted(place: Place, start: int, event: int) -> str:
    return place(start + int(event))


def _has_fractions(values: NDArray[Any]) -> bool:
    """Whether all values are finite, and some are not whole."""
    if values.dtype.kind != "f":
        return False
    parts = [values[part] for part in blocks(len(values))]
    return all(np.isfinite(part).all() for part in parts) and any((part != np.floor(part)).any() for part in parts)


def polarity(
    values: NDArray[Any], where: str, place: Place = numbered, *, signed: bool | None = None
) -> NDArray[np.uint8]:
    """Polarities ``[M]`` of 0 and 1, or of -1 and 1, as 0 and 1.

    Args:
        values: ``[M]``.
        where: name of the file in messages.
        place: says where an event stands in the file.
        signed: whether OFF is -1 and not 0; ``None``: if any is -1.

    Raises:
        DataError: for another value, or both 0 and -1.
    """
    whole = _whole(values, "p", where, place)
    strange = (whole != 1) & (whole != 0) & (whole != -1)
    if (whole == -1).any() if signed is None else signed:
        strange |= whole == 0
    if strange.any():
        first = int(np.argmax(strange))
        raise DataError(f"{where}: {place(first)} has p = {whole[first]}, expected 0 and 1, or -1 and 1")
    return (whole == 1).astype(np.uint8)


def _whole(values: NDArray[Any], name: str, where: str, place: Place, hint: str = "") -> NDArray[np.int64]:
    """``values`` as int64, which they must be without loss."""
    if values.dtype == np.float16:  # in which the limit below would be infinite
        values = values.astype(np.float32)
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


# Headers of text before binary events: ``%`` of Prophesee's files, ``#`` of AEDAT


class TextHeader(NamedTuple):
    """Lines of text before binary events.

    Attributes:
        lines: without their mark and line end.
        end: the first byte after them.
    """

    lines: list[str]
    end: int

    def facts(self, separator: str = " ") -> dict[str, str]:
        """Values of the lines ``key value``, the last of each key; lines of XML (settings of jAER) are left out."""
        pairs = (line.partition(separator) for line in self.lines if "<" not in line)
        return {key.strip(): value.strip() for key, found, value in pairs if found and key.strip()}


_LONGEST_LINE = 1 << 16
"""Bytes of one line; jAER writes the settings of a chip into the header, but not in one line."""


def read_text_header(data: bytes, mark: bytes, last: str | None = None) -> TextHeader:
    """Read the lines of text at the beginning of a file.

    Binary events follow without a border, and may begin with the mark themselves; they are told apart by control
    characters, which text does not have.

    Args:
        data: the file.
        mark: beginning of each line.
        last: the line after which the header ends, if it has one.
    """
    lines: list[str] = []
    at = 0
    while data.startswith(mark, at):
        stop = data.find(b"\n", at, at + _LONGEST_LINE)
        if stop < 0:
            break
        line = data[at + len(mark) : stop].rstrip(b"\r")
        if any(byte < 32 and byte != 9 for byte in line):
            break
        lines.append(line.decode("utf-8", "replace").strip())
        at = stop + 1
        if lines[-1] == last:
            break
    return TextHeader(lines, at)


def sensor_in(values: dict[str, str]) -> Sensor | None:
    """The sensor of a header with ``Width`` and ``Height``, in any case, or ``geometry 1280x720``; else ``None``."""
    lower = {key.lower(): value for key, value in values.items()}
    width, height = lower.get("width", ""), lower.get("height", "")
    if match := re.fullmatch(r"(\d{1,6})\s*x\s*(\d{1,6})", lower.get("geometry", "")):
        width, height = match.groups()
    if not (re.fullmatch(r"\d{1,6}", width) and re.fullmatch(r"\d{1,6}", height)):
        return None
    fits = all(1 <= int(size) <= 1 << 16 for size in (width, height))
    return Sensor(int(width), int(height), 2) if fits else None
