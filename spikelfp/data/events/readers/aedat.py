"""``.aedat``: the address-event files of jAER and cAER, versions 1.0, 2.0, 3.0 and 3.1.

The first line says the version: ``#!AER-DAT2.0``. Files of version 4 end in ``.aedat4`` and are another format
(:mod:`.aedat4`). Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/ with the pages
aedat-2.0.html and aedat-3.1.html.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    Recording,
    Source,
    finish,
    pack,
    places,
    read_text_header,
    suffixes,
    unwrap,
)
from spikelfp.errors import DataError

_MARK = b"#!AER-DAT"


@suffixes.register(".aedat")
def read_aedat(source: Source, sensor: Sensor | None) -> Recording:
    """Read AEDAT 1 to 3; the chip (1, 2) or source (3) in the header says the sensor.

    Raises:
        DataError: for a file without the line of its version or of another one, and as :func:`read_aedat2`
            and :func:`read_aedat3`.
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


# AEDAT 1.0 and 2.0, of jAER


class AddressLayout(NamedTuple):
    """Positions of the fields in an address.

    Attributes:
        sensor: of the chip.
        x: lowest bit of the column, counted from the right.
        y: lowest bit of the row, counted from below.
        p: bit of the polarity.
        x_mask: largest column.
        y_mask: largest row.
        on: polarity bit of an ON event.
        no_pixel: bits of which one is set if the address is no pixel (an image, motion, a pin).
    """

    sensor: Sensor
    x: int
    y: int
    p: int
    x_mask: int
    y_mask: int
    on: int
    no_pixel: int


def _davis(width: int, height: int) -> AddressLayout:
    return AddressLayout(Sensor(width, height, 2), 12, 22, 11, 0x3FF, 0x1FF, 1, 1 << 31 | 1 << 10)


DVS128 = AddressLayout(Sensor(128, 128, 2), 1, 8, 0, 0x7F, 0x7F, 0, 0xFFFF8000)
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
    """Read AEDAT 1.0 or 2.0: addresses with times.

    After the header, big-endian records of an address (32 bits; 16 in version 1.0) and a time in µs (32 bits, which
    starts again at 0 after 71.6 minutes). The meaning of an address depends on the chip, which the header line
    ``# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C`` names:

    ========== ================================ ======================================
    field      DVS128                           DAVIS (240, 346, 640)
    ========== ================================ ======================================
    x          bits 1-7, from the right         bits 12-21, from the right
    y          bits 8-14, from below            bits 22-30, from below
    polarity   bit 0, 0 of ON                   bit 11, 1 of ON
    no pixel   any of bits 15-31                bit 31 (image, motion), bit 10 (pin)
    ========== ================================ ======================================

    The sides that x and y count from, and the polarity of the DVS128 (the documentation says the opposite), are those
    of jAER's ``DVS128.java`` and ``DavisBaseCamera.java``. A file that names no chip is of the chip that has the given
    ``sensor``. Without one, it is taken for

    * a DVS128, if no address has more than 15 bits, as files of that camera from before 2014 name none;
    * a DAVIS346, if v2e wrote it and an event lies outside of the 240 x 180 pixels of the only other size it writes;
    * a DAVIS640, if an event lies outside of 346 x 260 pixels.

    Addresses of a cochlea, which has no rows, are not taken for a camera's. If ``sensor`` is a line, the addresses are
    the channels, whatever the chip.

    Args:
        source: the file.
        sensor: of a file that does not name its chip.
        version: "1.0" or "2.0".

    Raises:
        DataError: for a truncated file, a chip whose addresses are not known, and as :func:`~.base.finish`.
    """
    where, data = source.where, source.data
    header = read_text_header(data, b"#")
    if not header.lines:
        raise DataError(f"{where}: the line of its AEDAT version does not end; the file is truncated or damaged")
    kind = _RECORDS[version]
    rest = (len(data) - header.end) % kind.itemsize
    if rest:
        raise DataError(
            f"{where}: is truncated: the last whole event ends at byte {len(data) - rest} of {len(data)} (events of "
            f"{kind.itemsize} bytes after a header of {header.end})"
        )
    records = np.frombuffer(data, kind, offset=header.end)
    address = records["address"].astype(np.uint32)
    facts: dict[str, Any] = {**header.facts(":"), "format": f"AEDAT {version}"}
    if sensor is not None and sensor.is_line:
        facts["format"] += ", addresses as channels"
        byte = places(header.end, kind.itemsize)
        return finish(where, pack(where, unwrap(records["t"]), address, place=byte), sensor, facts, place=byte)
    layout, named = _layout(facts.get("AEChip"), header.lines, address, sensor, where)
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
    own = layout.sensor if named else None
    return finish(where, pack(where, times, x, y, p, place), layout.sensor, facts, place=place, own=own)


class Guess(NamedTuple):
    """The layout of a file's addresses, and whether the file itself says it."""

    layout: AddressLayout
    named: bool


def _layout(
    chip: str | None, lines: list[str], address: NDArray[np.uint32], sensor: Sensor | None, where: str
) -> Guess:
    """Choose the layout of addresses by the chip, the sensor that the user states, or the addresses themselves."""
    if chip is not None:
        name = chip.rsplit(".", 1)[-1].lower()
        found = next((layout for start, layout in LAYOUTS.items() if name.startswith(start)), None)
        if found is None:
            hint = _channels_hint(address) if "cochlea" in name else ""
            raise DataError(
                f"{where}: is of the chip {chip[-60:]!r}; addresses of {', '.join(LAYOUTS)} are known{hint}"
            )
        return Guess(found, True)
    largest = int(address.max(initial=0))
    if sensor is not None:
        found = next((layout for layout in LAYOUTS.values() if layout.sensor == sensor), None)
        if found is None:
            raise DataError(
                f"{where}: names no chip ('# AEChip:'), and none has the sensor {sensor}; known: {_sizes()}"
            )
        if found is DVS128 and largest > 0xFFFF:
            number = np.count_nonzero(address > 0xFFFF)
            raise DataError(
                f"{where}: {number:,} of {len(address):,} addresses have more bits than those of the {sensor} stated: "
                f"it is of a larger sensor; known: {_sizes()}"
            )
        return Guess(found, False)
    if largest <= 0xFFFF:
        pixels = address[address < 1 << 15]
        if len(pixels) >= _ENOUGH and len(np.unique(pixels >> 8)) <= _ROWS and len(np.unique(pixels & 0xFF)) > _ROWS:
            raise DataError(
                f"{where}: names no chip ('# AEChip:'), and its addresses, up to {largest}, have at most {_ROWS} rows: "
                f"of a line of channels, such as a cochlea, and of no camera{_channels_hint(address)}; of a camera, "
                "state its size, --sensor 128x128"
            )
        return Guess(DVS128, True)
    pixels = address[(address & np.uint32(LAYOUTS["davis640"].no_pixel)) == 0]
    width, height = (int((pixels >> bit & mask).max(initial=0)) + 1 for bit, mask in ((12, 0x3FF), (22, 0x1FF)))
    by_v2e = any("in v2e" in line for line in lines)  # which writes 240 x 180 and 346 x 260 pixels
    fits = [
        layout
        for layout in (LAYOUTS["davis240"], LAYOUTS["davis346"], LAYOUTS["davis640"])
        if width <= layout.sensor.width and height <= layout.sensor.height
        if not (by_v2e and layout is LAYOUTS["davis640"])
    ]
    if bool((pixels & 0x3FF).any()) or not fits:
        raise DataError(
            f"{where}: names no chip ('# AEChip:'), and its addresses, up to {largest:#x}, are of no known chip; "
            f"read are {_sizes()}"
        )
    if len(fits) > 1:
        options = ", ".join(f"--sensor {each.sensor.width}x{each.sensor.height}" for each in fits)
        raise DataError(
            f"{where}: names no chip ('# AEChip:'); its events take {width} x {height} pixels, counted from the far "
            f"corner: state the sensor, one of {options}"
        )
    return Guess(fits[0], True)


_ENOUGH, _ROWS = 32, 4
"""So many events in so few rows are of no camera."""


def _sizes() -> str:
    return "; ".join(dict.fromkeys(str(layout.sensor) for layout in LAYOUTS.values()))


def _channels_hint(address: NDArray[np.uint32]) -> str:
    largest = int(address.max(initial=0))
    return f": --sensor {largest + 1} reads the addresses as channels" if largest < 1 << 16 else ""


# AEDAT 3.0 and 3.1, of cAER

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
    """Read AEDAT 3.0 or 3.1: packets of events of one kind, from one source each. DVS128 Gesture has 3.1.

    Header lines begin with ``#``, such as ``#Source 1: DVS128``; in 3.1 the last is ``#!END-HEADER``. Packets follow,
    little-endian, with 28 bytes before their events:

    ======= =================================================================================
    bytes   meaning
    ======= =================================================================================
    0-1     kind of its events, 1 of polarity events
    2-3     source
    4-7     bytes of an event, 8
    8-11    place of the time in an event, 4
    12-15   overflows of the time: µs are ``overflows · 2^31 + time``
    16-19   capacity: events that there is space for, and as many are in the file
    20-23   number: events that are used
    24-27   valid ones among them
    ======= =================================================================================

    A polarity event is a word (bit 0: valid; bit 1: polarity, 1 of ON; bits 2-16: y; bits 17-31: x) and a time (32
    bits). In 3.1 y counts from above, in 3.0 from below. Other kinds of events, and invalid ones, are left out.

    Args:
        source: the file.
        sensor: of a file that does not say its source.
        version: "3.0" or "3.1".

    Raises:
        DataError: for a truncated or inconsistent packet, a header without end, and as :func:`~.base.finish`.
    """
    where, data = source.where, source.data
    header = read_text_header(data, b"#", last="!END-HEADER")
    if version == "3.1" and "!END-HEADER" not in header.lines:
        raise DataError(f"{where}: its header has no line '#!END-HEADER': truncated or damaged")
    facts: dict[str, Any] = {**header.facts(":"), "format": f"AEDAT {version}"}
    own = _source_sensor(facts)
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
        size = own or sensor
        if size is None:
            raise DataError(
                f"{where}: AEDAT 3.0 counts rows from below, and its source is not known: state its sensor "
                "(--sensor WIDTHxHEIGHT)"
            )
        y = size.height - 1 - y
    return finish(where, pack(where, t, x, y, word >> 1 & 1, place), sensor, facts, place=place, own=own)


def _packet(data: bytes, at: int, where: str) -> tuple[int, int, int]:
    """The number of polarity events in the packet at byte ``at``, the overflows of their times, and its end."""
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


def _source_sensor(facts: dict[str, Any]) -> Sensor | None:
    """The sensor of the first source that is known."""
    for key, value in facts.items():
        if re.fullmatch(r"Source \d+", key):
            for name, sensor in SENSORS.items():
                if str(value).lower().startswith(name):
                    return sensor
    return None
