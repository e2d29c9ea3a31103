"""AEDAT 1.0 and 2.0: what jAER writes, addresses with times.

Lines of text that begin with ``#``, then big-endian records of an address (32 bits; 16 in version 1.0) and a time in µs
(32 bits, which starts again at 0 after 71.6 minutes). What an address means depends on the chip, which the line
``# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C`` names:

========== ================================ ======================================
field      DVS128                           DAVIS (240, 346, 640)
========== ================================ ======================================
x          bits 1-7, from the right         bits 12-21, from the right
y          bits 8-14, from below            bits 22-30, from below
polarity   bit 0, 0 of ON                   bit 11, 1 of ON
no pixel   any of bits 15-31                bit 31 (image, motion), bit 10 (pin)
========== ================================ ======================================

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-2.0.html, and for the sides that
x and y count from and the polarity of the DVS128 (of which that page says the opposite) jAER's ``DVS128.java`` and
``DavisBaseCamera.java``.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import Recording, Source, finish, pack, read_header, suffixes, unwrap
from spikelfp.errors import DataError


class Layout(NamedTuple):
    """Where the fields of an address stand: lowest bit and how many values; ``on`` is the bit of an ON event."""

    sensor: Sensor
    x: int
    y: int
    p: int
    x_mask: int
    y_mask: int
    on: int
    no_pixel: int


def _davis(width: int, height: int) -> Layout:
    return Layout(Sensor(width, height, 2), 12, 22, 11, 0x3FF, 0x1FF, 1, 1 << 31 | 1 << 10)


DVS128 = Layout(Sensor(128, 128, 2), 1, 8, 0, 0x7F, 0x7F, 0, 0xFFFF8000)
LAYOUTS = {
    "dvs128": DVS128,
    "tmpdiff128": DVS128,
    "davis240": _davis(240, 180),
    "sbret10": _davis(240, 180),
    "davis346": _davis(346, 260),
    "davis640": _davis(640, 480),
}
"""Layouts by how the class of a chip begins in the header, in lower case."""

_RECORDS = {"1.0": np.dtype([("address", ">u2"), ("t", ">u4")]), "2.0": np.dtype([("address", ">u4"), ("t", ">u4")])}


def read_aedat2(source: Source, sensor: Sensor | None, version: str) -> Recording:
    """A file that does not name its chip is of the chip with the ``sensor`` handed in; without one it is taken for a
    DVS128 if no address has more than 16 bits, as files of that camera from before 2014 do not name it.

    Raises:
        DataError: for a truncated file, a chip whose addresses are not known, and as :func:`~.recording.finish`.
    """
    where, data = source.where, source.data
    header = read_header(data, b"#")
    if not header.lines:
        raise DataError(f"{where}: the line of its AEDAT version does not end; the file is truncated or damaged")
    kind = _RECORDS[version]
    rest = (len(data) - header.end) % kind.itemsize
    if rest:
        raise DataError(
            f"{where}: is truncated: the last whole event ends at byte {len(data) - rest} of {len(data)} (events of "
            f"{kind.itemsize} bytes behind a header of {header.end})"
        )
    records = np.frombuffer(data, kind, offset=header.end)
    address = records["address"].astype(np.uint32)
    facts: dict[str, Any] = {**header.facts(":"), "format": f"AEDAT {version}"}
    layout = _layout(facts.get("AEChip"), address, sensor, where)
    kept = np.flatnonzero((address & np.uint32(layout.no_pixel)) == 0)
    if len(kept) < len(address):
        facts["no_pixel"] = len(address) - len(kept)

    def place(event: int) -> str:
        return f"event {event}, at byte {header.end + kind.itemsize * int(kept[event])},"

    chosen = address[kept].astype(np.int64)
    x = layout.sensor.width - 1 - (chosen >> layout.x & layout.x_mask)
    y = layout.sensor.height - 1 - (chosen >> layout.y & layout.y_mask)
    p = (chosen >> layout.p & 1) == layout.on
    times = unwrap(records["t"])[kept]
    return finish(where, pack(where, times, x, y, p, place), layout.sensor, facts, place=place)


def _layout(chip: str | None, address: NDArray[np.uint32], sensor: Sensor | None, where: str) -> Layout:
    if chip is not None:
        name = chip.rsplit(".", 1)[-1].lower()
        found = next((layout for start, layout in LAYOUTS.items() if name.startswith(start)), None)
        if found is None:
            raise DataError(f"{where}: is of the chip {chip[-60:]!r}; addresses of {', '.join(LAYOUTS)} are known")
        return found
    if sensor is not None:
        found = next((layout for layout in LAYOUTS.values() if layout.sensor == sensor), None)
        if found is None:
            sizes = "; ".join(dict.fromkeys(str(layout.sensor) for layout in LAYOUTS.values()))
            raise DataError(f"{where}: names no chip ('# AEChip:'), and none has the sensor {sensor}; known: {sizes}")
        return found
    if len(address) and int(address.max()) > 0xFFFF:
        raise DataError(f"{where}: names no chip (line '# AEChip:'); hand in its sensor, such as Sensor(240, 180, 2)")
    return DVS128


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


_MARK = b"#!AER-DAT"


@suffixes.register(".aedat")
def read_aedat(source: Source, sensor: Sensor | None) -> Recording:
    """Of version 1 and 2 the sensor is that of the header's chip, of version 3 that of its source.

    Raises:
        DataError: for a file without the line of its version or of another one, and as the readers of each.
    """
    start = source.data[:32]
    if not start.startswith(_MARK):
        raise DataError(f"{source.where}: expected AEDAT, which begins with '#!AER-DAT', found {start[:9]!r}")
    version = start[len(_MARK) :].split(b"\n")[0].strip().decode("latin-1")
    if version in ("1.0", "2.0"):
        return read_aedat2(source, sensor, version)
    if version in ("3.0", "3.1"):
        return read_aedat3(source, sensor, version)
    if version.startswith("4"):
        raise DataError(f"{source.where}: is of AEDAT version {version}; rename it to end in .aedat4 and it is read")
    raise DataError(f"{source.where}: is of AEDAT version {version!r}; 1.0, 2.0, 3.0 and 3.1 are read")
