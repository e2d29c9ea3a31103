"""``.es``: DVS events of Event Stream 2.0.

======= =========================================================
bytes   meaning
======= =========================================================
0-11    ``Event Stream``
12-14   version: 2, 0, 0
15      kind of stream: 1 of DVS events
16-17   width
18-19   height
======= =========================================================

Then events of 5 bytes: bit 0 of the first is the polarity, 1 of ON, bits 1-7 are the µs since the event before; x and y
(from below) follow with 16 bits each, little-endian. In place of a first byte, 255 adds 127 µs and 254 does nothing.
Source: https://github.com/neuromorphic-paris/event_stream; the width of the fields is that of version 2.0.0 as the
tools of the same authors write it. Generic, ATIS, AMD, colour and liquid streams are not read.
"""

from __future__ import annotations

import struct

import numba
import numpy as np

from spikelfp.data.events.event import EVENT, Sensor
from spikelfp.data.events.readers.base import Recording, Source, finish, suffixes
from spikelfp.errors import DataError

_MARK = b"Event Stream"
_KINDS = ("generic", "DVS", "ATIS", "AMD", "colour", "liquid")
_DVS = 1
_HEADER = struct.Struct("<12s3BBHH")
_SIZE = 5


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decode(data, width, height, t, x, y, p, at):
    """Fill ``t``, ``x``, ``y``, ``p``, and ``at`` with the byte at which each event begins.

    Returns the number of events, and the place of the first byte that is no whole event on the sensor.
    """
    now = np.int64(0)
    i = n = 0
    while i < len(data):
        first = data[i]
        if first >= 254:
            now += 127 if first == 255 else 0
            i += 1
            continue
        if i + 5 > len(data):
            break
        now += first >> 1
        column, row = data[i + 1] | np.int64(data[i + 2]) << 8, data[i + 3] | np.int64(data[i + 4]) << 8
        if column >= width or row >= height:
            break
        t[n], x[n], y[n], p[n], at[n] = now, column, height - 1 - row, first & 1, i
        n += 1
        i += 5
    return n, i


@suffixes.register(".es")
def read_event_stream(source: Source, sensor: Sensor | None) -> Recording:
    """Read a stream of DVS events, with the sensor of the header and times from 0 of the file's clock.

    Raises:
        DataError: for a file of another format, version or kind of stream, a truncated one, and an event outside the
            sensor, with its byte.
    """
    where, data = source.where, source.data
    if not data.startswith(_MARK):
        raise DataError(f"{where}: expected an Event Stream, which begins with {_MARK.decode()!r}, found {data[:12]!r}")
    if len(data) > 15 and (data[12] != 2 or data[15] != _DVS):
        kind = _KINDS[data[15]] if data[15] < len(_KINDS) else str(data[15])
        version = ".".join(str(part) for part in data[12:15])
        raise DataError(f"{where}: holds {kind} events of Event Stream {version}; DVS events of 2.0 are read")
    if len(data) < _HEADER.size:
        raise DataError(f"{where}: is truncated in its header: {len(data)} of {_HEADER.size} bytes")
    *_, width, height = _HEADER.unpack_from(data)
    if not (width and height):
        raise DataError(f"{where}: its header says a sensor of {width} x {height} pixels")
    content = np.frombuffer(data, np.uint8, offset=_HEADER.size)
    events, at = np.zeros(len(content) // _SIZE, EVENT), np.empty(len(content) // _SIZE, np.int64)
    columns = (events[name] for name in ("t", "x", "y", "p"))
    found, read = _decode(content, width, height, *columns, at)
    stopped = _HEADER.size + int(read)
    if len(data) - stopped >= _SIZE:
        x, y = struct.unpack_from("<HH", data, stopped + 1)
        raise DataError(
            f"{where}: event {found}, at byte {stopped}, has x = {x} and y = {y} from below, outside the {width} x "
            f"{height} pixels of its header"
        )
    if stopped < len(data):
        raise DataError(f"{where}: is truncated: the last whole event ends at byte {stopped} of {len(data)}")

    def place(event: int) -> str:
        return f"event {event}, at byte {_HEADER.size + int(at[event])},"

    facts = {"format": "Event Stream 2.0", "width": width, "height": height}
    return finish(where, events[:found], sensor, facts, place=place, own=Sensor(width, height, 2))
