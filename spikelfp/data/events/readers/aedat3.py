"""AEDAT 3.0 and 3.1: what cAER writes, packets of events of one kind. DVS128 Gesture has 3.1.

Lines of text that begin with ``#``, such as ``#Source 1: DVS128``; in 3.1 the last is ``#!END-HEADER``. Then packets,
little-endian, each behind 28 bytes:

======= =================================================================================
bytes   meaning
======= =================================================================================
0-1     kind of its events, 1 of polarity events
2-3     source
4-7     bytes of an event, 8
8-11    where in an event its time stands, 4
12-15   overflows of the time: µs are ``overflows · 2^31 + time``
16-19   capacity: events that there is room for, and as many are in the file
20-23   number: events that are used
24-27   valid ones among them
======= =================================================================================

A polarity event is a word (bit 0: valid; bit 1: polarity, 1 of ON; bits 2-16: y; bits 17-31: x) and a time (32 bits).
In 3.1 y counts from above, in 3.0 from below. Other kinds of events, and those not valid, are left out. Source:
https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.header import read_header
from spikelfp.data.events.readers.recording import Recording, finish, pack
from spikelfp.data.events.readers.source import Source
from spikelfp.errors import DataError

SENSORS = {
    "dvs128": Sensor(128, 128, 2),
    "edvs": Sensor(128, 128, 2),
    "davis240": Sensor(240, 180, 2),
    "davis346": Sensor(346, 260, 2),
    "davis640": Sensor(640, 480, 2),
}
"""Sensors by how a source begins in the header, in lower case."""

_HEADER = struct.Struct("<hhiiiiii")
_POLARITY = 1
_EVENT = np.dtype([("word", "<u4"), ("t", "<u4")])


def read_aedat3(source: Source, sensor: Sensor | None, version: str) -> Recording:
    """The valid polarity events of all packets and sources.

    Raises:
        DataError: for a truncated or inconsistent packet, a header without end, and as :func:`~.recording.finish`.
    """
    where, data = source.where, source.data
    header = read_header(data, b"#", last="!END-HEADER")
    if version == "3.1" and "!END-HEADER" not in header.lines:
        raise DataError(f"{where}: its header has no line '#!END-HEADER': truncated or damaged")
    facts: dict[str, Any] = {**header.facts(":"), "format": f"AEDAT {version}"}
    found = _sensor(facts) or sensor
    words, starts, turns = [np.empty(0, _EVENT)], [0], [0]
    at = header.end
    while at < len(data):
        number, overflows, end = _packet(data, at, where)
        if number:
            words.append(np.frombuffer(data, _EVENT, number, at + _HEADER.size))
            starts.append(at + _HEADER.size)
            turns.append(overflows)
        at = end
    counts = [len(each) for each in words]
    every = np.concatenate(words)
    kept = np.flatnonzero(every["word"] & 1)
    if len(kept) < len(every):
        facts["invalid"] = len(every) - len(kept)
    first = np.cumsum([0, *counts])

    def place(event: int) -> str:
        packet = int(np.searchsorted(first, kept[event], side="right")) - 1
        byte = starts[packet] + _EVENT.itemsize * (int(kept[event]) - int(first[packet]))
        return f"event {event}, at byte {byte},"

    word = every["word"][kept].astype(np.int64)
    t = (np.repeat(np.array(turns, np.int64) << 31, counts) + every["t"])[kept]
    x, y = word >> 17, word >> 2 & 0x7FFF
    if version == "3.0":
        if found is None:
            raise DataError(f"{where}: AEDAT 3.0 counts rows from below; hand in its sensor, its source is not known")
        y = found.height - 1 - y
    return finish(where, pack(where, t, x, y, word >> 1 & 1, place), found, facts, place=place)


def _packet(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    """Of the packet at byte ``at``: its polarity events, overflows of their times, and the byte behind it."""
    if len(data) - at < _HEADER.size:
        raise DataError(f"{where}: is truncated: the last whole packet ends at byte {at} of {len(data)}")
    kind, _, size, offset, overflows, capacity, number, _ = _HEADER.unpack_from(data, at)
    if kind < 0 or size <= 0 or not 0 <= number <= capacity or overflows < 0:
        raise DataError(
            f"{where}: the packet at byte {at} is damaged: kind {kind}, {number} of {capacity} events of {size} bytes, "
            f"{overflows} overflows"
        )
    if kind == _POLARITY and (size != _EVENT.itemsize or offset != 4):
        raise DataError(
            f"{where}: the packet at byte {at} has polarity events of {size} bytes with their time at {offset}, "
            "expected 8 and 4"
        )
    end = at + _HEADER.size + capacity * size
    if end > len(data):
        raise DataError(
            f"{where}: is truncated: the last whole packet ends at byte {at} of {len(data)}, the next needs {end}"
        )
    return number if kind == _POLARITY else 0, overflows, end


def _sensor(facts: dict[str, Any]) -> Sensor | None:
    """The sensor of the first source that is known."""
    for key, value in facts.items():
        if re.fullmatch(r"Source \d+", key):
            for name, sensor in SENSORS.items():
                if str(value).lower().startswith(name):
                    return sensor
    return None
