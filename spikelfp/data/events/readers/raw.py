"""``.raw``: the stream of Prophesee's cameras, in the encodings EVT 2, 2.1 and 3, after a header of text.

Header lines begin with ``%``: ``% evt 3.0``, or newer ``% format EVT3;height=720;width=1280``, and facts such as
``% geometry 1280x720``, ``% system_ID 48``; the last may be ``% end``. Words of 32 (EVT 2), 64 (EVT 2.1) or 16 bits
(EVT 3) follow, little-endian; with ``endianness=legacy`` EVT 2.1 has the upper half of a word first, each half
little-endian. Source: https://docs.prophesee.ai/stable/data/file_formats/raw.html; the encodings are in
https://docs.prophesee.ai/stable/data/encoding_formats/ as evt2.html, evt21.html and evt3.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.data.events.readers.base import (
    Place,
    Recording,
    Source,
    finish,
    pack,
    read_text_header,
    sensor_in,
    suffixes,
)
from spikelfp.errors import DataError

_HIGH_BITS, _LOW_BITS = 28, 6
_OFF, _ON, _TIME = 0x0, 0x1, 0x8


class Decoded(NamedTuple):
    """The decoded words of a recording.

    Attributes:
        events: in the order of the file.
        place: says where an event stands in the file.
        before_clock: number of events left out because they come before the first word of time.
    """

    events: Events
    place: Place
    before_clock: int


def _clock(is_time: NDArray[np.bool_], payload: NDArray[np.int64]) -> NDArray[np.int64]:
    """The time in µs, without its lowest 6 bits, at each word ``[N]``; -1 before the first word of time.

    payload: 28 bits of time from the words ``is_time``, which start again at 0 after 4.8 hours.
    """
    steps = np.diff(payload, prepend=payload[:1])
    half = 1 << (_HIGH_BITS - 1)
    turns = np.maximum(np.cumsum((steps < -half).astype(np.int64) - (steps > half)), 0)
    times = np.concatenate([[-1], (payload + (turns << _HIGH_BITS)) << _LOW_BITS])
    return times[np.cumsum(is_time)]


def _check_kinds(kinds: NDArray[Any], start: int, size: int, where: str) -> None:
    """Refuse the first word of a kind that EVT 2 and 2.1 do not have: damage, or another encoding."""
    reserved = ~np.isin(np.arange(16), (_OFF, _ON, _TIME, 0xA, 0xE, 0xF))[kinds]
    if reserved.any():
        first = int(np.argmax(reserved))
        raise _reserved_kind(int(kinds[first]), start + size * first, where)


def _reserved_kind(kind: int, byte: int, where: str) -> DataError:
    return DataError(f"{where}: the word at byte {byte} is of the reserved kind 0x{kind:x}: damaged or mislabelled")


def decode_evt2(words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None) -> Decoded:
    """Decode EVT 2, an event a word.

    ======== ============================ ==================================
    bits     CD_OFF (0x0), CD_ON (0x1)    EVT_TIME_HIGH (0x8)
    ======== ============================ ==================================
    31-28    kind                         kind
    27-22    time in µs, lowest 6 bits    time in µs, bits 33-6
    21-11    x                            (continued)
    10-0     y                            (continued)
    ======== ============================ ==================================

    EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED (0xf) are no events of pixels and are left out.

    Args:
        words: uint32 ``[N]``.
        start: byte at which they begin in ``where``.
        where: name of the file in messages.
        sensor: not used here.

    Raises:
        DataError: for a word of a reserved kind.
    """
    kinds = words >> 28
    _check_kinds(kinds, start, 4, where)
    is_time = kinds == _TIME
    high = _clock(is_time, (words[is_time] & 0xFFFFFFF).astype(np.int64))
    is_event = kinds <= 1
    kept = np.flatnonzero(is_event & (high >= 0))
    chosen = words[kept]
    events = pack(where, high[kept] + (chosen >> 22 & 0x3F), chosen >> 11 & 0x7FF, chosen & 0x7FF, kinds[kept])

    def place(event: int) -> str:
        return f"event {event}, at byte {start + 4 * int(kept[event])},"

    return Decoded(events, place, int(np.count_nonzero(is_event)) - len(kept))


def decode_evt21(words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None) -> Decoded:
    """Decode EVT 2.1, up to 32 events of one row and polarity a word; x rises within a word.

    ======== ============================ ==================================
    bits     EVT_NEG (0x0), EVT_POS (0x1) EVT_TIME_HIGH (0x8)
    ======== ============================ ==================================
    63-60    kind                         kind
    59-54    time in µs, lowest 6 bits    time in µs, bits 33-6 (in 59-32)
    53-43    x of the first pixel         (continued)
    42-32    y                            (continued)
    31-0     bit i: an event at x + i     unused
    ======== ============================ ==================================

    EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED (0xf) are left out.

    Args:
        words: uint64 ``[N]``.
        start: byte at which they begin in ``where``.
        where: name of the file in messages.
        sensor: not used here.

    Raises:
        DataError: for a word of a reserved kind.
    """
    upper = (words >> np.uint64(32)).astype(np.uint32)
    kinds = upper >> 28
    _check_kinds(kinds, start, 8, where)
    is_time = kinds == _TIME
    high = _clock(is_time, (upper[is_time] & 0xFFFFFFF).astype(np.int64))
    valid = (words & np.uint64(0xFFFFFFFF)).astype("<u4")
    valid[kinds > 1] = 0
    total = int(np.unpackbits(valid.view(np.uint8)).sum(dtype=np.int64))
    valid[high < 0] = 0
    used = np.flatnonzero(valid)
    pixels = np.unpackbits(valid[used].view(np.uint8), bitorder="little")
    row, column = np.divmod(np.flatnonzero(pixels), 32)
    origin = used[row]
    chosen = upper[origin]
    events = pack(
        where, high[origin] + (chosen >> 22 & 0x3F), (chosen >> 11 & 0x7FF) + column, chosen & 0x7FF, kinds[origin]
    )

    def place(event: int) -> str:
        return f"event {event}, in the word at byte {start + 8 * int(origin[event])},"

    return Decoded(events, place, total - len(events))


# EVT 3

_WIDEST = 1 << 11
_KIND, _VALUE = np.arange(1 << 16) >> 12, np.arange(1 << 16) & 0xFFF
_BITS = np.unpackbits(_VALUE.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
_RESERVED = 255
_EVENTS = np.select(
    [_KIND == 2, _KIND == 4, _KIND == 5, np.isin(_KIND, (1, 9, 11, 12, 13))],
    [1, _BITS.sum(axis=1, dtype=int), _BITS[:, 8:].sum(axis=1, dtype=int), _RESERVED],
    default=0,
).astype(np.uint8)
"""Events in each of the 65536 words, or :data:`_RESERVED`."""
_LOWEST = (_BITS[: 1 << 12, ::-1].argmax(axis=1)).astype(np.uint8)
"""Place of the lowest set bit of 12."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(words, events):
    """Events in ``words``, and the first word of a reserved kind, or -1."""
    total = 0
    for i in range(len(words)):
        found = events[words[i]]
        if found == _RESERVED:
            return total, i
        total += found
    return total, -1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decode(words, width, carry, lowest, t, x, y, p, until):
    """Fill ``t``, ``x``, ``y``, ``p``, up to the word of event ``until``, or to an ``x`` that is not below ``width``.

    Returns the number of events, the word at which it stopped (-1: it read all), and how many events it left out.
    """
    n = dropped = 0
    high, turns, low, carried, now = -1, 0, 0, 0, 0
    row = base = -1
    base_p = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        kind, value = word >> 12, word & 0xFFF
        if kind == 2:
            if high < 0 or row < 0:
                dropped += 1
                continue
            column = value & 0x7FF
            if column >= width:
                return n, i, dropped
            t[n], x[n], y[n], p[n] = now, column, row, value >> 11
            n += 1
        elif kind == 4 or kind == 5:
            length = 12 if kind == 4 else 8
            bits = value & ((1 << length) - 1)
            while bits:
                column = base + lowest[bits]
                bits &= bits - 1
                if high < 0 or row < 0 or base < 0:
                    dropped += 1
                    continue
                if column >= width:
                    return n, i, dropped
                t[n], x[n], y[n], p[n] = now, column, row, base_p
                n += 1
            if base >= 0:
                base += length
        elif kind == 0:
            row = value & 0x7FF
        elif kind == 3:
            base, base_p = value & 0x7FF, value >> 11
        elif kind == 6:
            carried += carry and value < low
            low = value
            now = (turns << 24) + (high + carried << 12) + low
        elif kind == 8:
            if high - value > 0x800:
                turns += 1
            elif value - high > 0x800 and turns > 0:
                turns -= 1
            if value != high and not carry:
                low = 0  # the new low bits follow
            high = value
            now = (turns << 24) + (high + carried << 12) + low
        if n > until:
            return n, i, dropped
    return n, -1, dropped


def decode_evt3(
    words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None, *, carry: bool = False
) -> Decoded:
    """Decode EVT 3, whose words hold only what has changed.

    ===== ============== =========================================================================
    kind  name           bits 11-0
    ===== ============== =========================================================================
    0x0   EVT_ADDR_Y     y (10-0) of what follows; bit 11: which camera, unused
    0x2   EVT_ADDR_X     an event at x (10-0) of polarity (11)
    0x3   VECT_BASE_X    x (10-0) and polarity (11) of the vectors that follow
    0x4   VECT_12        bit i: an event at x + i; x grows by 12
    0x5   VECT_8         as VECT_12, with bits 7-0; x grows by 8
    0x6   EVT_TIME_LOW   bits 11-0 of the time in µs
    0x8   EVT_TIME_HIGH  bits 23-12 of the time, which starts again at 0 after 16.8 s
    ===== ============== =========================================================================

    CONTINUED_4 (0x7), EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED_12 (0xf) are left out; other kinds are reserved.

    Args:
        words: uint16 ``[N]``.
        start: byte at which they begin in ``where``.
        where: name of the file in messages.
        sensor: events at an x outside of it are refused, if it is known.
        carry: add 4096 µs for good whenever EVT_TIME_LOW falls, as expelliarmus 1.1 does, on top of the EVT_TIME_HIGH
            that says so too. Times then agree with that package, and run at about twice their speed.

    Raises:
        DataError: for a word of a reserved kind, and an event outside of the sensor.
    """
    total, strange = _count(words, _EVENTS)
    if strange >= 0:
        raise _reserved_kind(int(words[strange]) >> 12, start + 2 * strange, where)
    width = sensor.width if sensor else _WIDEST
    events = np.zeros(total, EVENT)
    columns = tuple(events[name] for name in ("t", "x", "y", "p"))
    found, stopped, dropped = _decode(words, width, carry, _LOWEST, *columns, total)
    if stopped >= 0:
        raise DataError(
            f"{where}: event {found}, in the word at byte {start + 2 * stopped}, lies at an x outside the sensor's "
            f"{width} columns"
        )

    def place(event: int) -> str:
        _, word, _ = _decode(words, width, carry, _LOWEST, *columns, int(event))
        return f"event {event}, in the word at byte {start + 2 * word},"

    return Decoded(events[:found], place, dropped)


# The file

SENSORS = {
    "gen31": Sensor(640, 480, 2),
    "gen3": Sensor(640, 480, 2),
    "gen41": Sensor(1280, 720, 2),
    "gen4": Sensor(1280, 720, 2),
    "imx636": Sensor(1280, 720, 2),
    "imx646": Sensor(1280, 720, 2),
    "genx320": Sensor(320, 320, 2),
}
"""Sensors by the name that headers without a geometry have in ``plugin_name`` or ``sensor_name``."""

_Decode = Callable[[NDArray[np.unsignedinteger], int, str, Sensor | None], Decoded]
_ENCODINGS: dict[str, tuple[str, _Decode]] = {
    "2": ("<u4", decode_evt2),
    "2.1": ("<u8", decode_evt21),
    "3": ("<u2", decode_evt3),
}


@suffixes.register(".raw")
def read_raw(source: Source, sensor: Sensor | None) -> Recording:
    """Read a stream of EVT 2, 2.1 or 3; the header's geometry, or the sensor that it names, comes before ``sensor``.

    Events before the first word of time have no time and are left out, as cameras begin anywhere; ``facts`` counts them
    as ``before_clock``.

    Raises:
        DataError: for a file without header or of another encoding, a truncated one, words of reserved kinds,
            and as :func:`~.base.finish`.
    """
    where, data = source.where, source.data
    header = read_text_header(data, b"% ", last="end")
    if not header.lines:
        raise DataError(f"{where}: expected a Prophesee RAW, which begins with lines of '% ', found {data[:8]!r}")
    facts = header.facts()
    encoding, options = _encoding(facts, where)
    kind, decode = _ENCODINGS[encoding]
    rest = (len(data) - header.end) % np.dtype(kind).itemsize
    if rest:
        raise DataError(
            f"{where}: is truncated: the last whole word of EVT {encoding} ends at byte {len(data) - rest} of "
            f"{len(data)}"
        )
    words = np.frombuffer(data, kind, offset=header.end)
    order = options.get("endianness", "little")
    if order == "legacy" and encoding == "2.1":
        words = words << np.uint64(32) | words >> np.uint64(32)
    elif order != "little":
        raise DataError(
            f"{where}: words of endianness {order[:40]!r} are not read, only 'little' and, for EVT 2.1, 'legacy'"
        )
    own = sensor_in({**facts, **options}) or _named(facts)
    decoded = decode(words, header.end, where, own or sensor)
    facts = {**facts, "format": f"EVT {encoding}"}
    counted = {"before_clock": decoded.before_clock} if decoded.before_clock else {}
    return finish(where, decoded.events, sensor, {**facts, **counted}, place=decoded.place, own=own)


def _encoding(facts: dict[str, str], where: str) -> tuple[str, dict[str, str]]:
    """The version of the encoding, and the other options of the line ``format``."""
    name, *rest = facts.get("format", "").split(";")
    options = dict(part.strip().split("=", 1) for part in rest if "=" in part)
    version = name.strip().upper().removeprefix("EVT") or facts.get("evt", "")
    version = {"2.0": "2", "3.0": "3", "21": "2.1"}.get(version, version)
    if version not in _ENCODINGS:
        stated = facts.get("format") or facts.get("evt")
        says = f"says {stated[:40]!r}" if stated else "does not say how it is encoded"
        raise DataError(f"{where}: its header {says}; EVT 2, 2.1 and 3 are read")
    return version, options


def _named(facts: dict[str, str]) -> Sensor | None:
    text = f"{facts.get('plugin_name', '')} {facts.get('sensor_name', '')}".lower()
    return next((sensor for name, sensor in SENSORS.items() if name in text), None)
