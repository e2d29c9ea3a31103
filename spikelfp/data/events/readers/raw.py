"""What the decoders of Prophesee's words share: what they return, and the clock of EVT 2 and 2.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.data.events.readers.base import Place, Recording, Source, finish, pack, read_header, size_in, suffixes
from spikelfp.errors import DataError

_HIGH_BITS, _LOW_BITS = 28, 6


class Decoded(NamedTuple):
    """events: as they come. place: where they stand. before_clock: events left out because no time came before them."""

    events: Events
    place: Place
    before_clock: int


def clock(is_time: NDArray[np.bool_], payload: NDArray[np.int64]) -> NDArray[np.int64]:
    """The time in µs, without its lowest 6 bits, that holds at each word; -1 before the first word of time.

    ``payload``: the bits of the words ``is_time``, 28 bits of time, which start again at 0 after 4.8 hours.
    """
    steps = np.diff(payload, prepend=payload[:1])
    half = 1 << (_HIGH_BITS - 1)
    turns = np.maximum(np.cumsum((steps < -half).astype(np.int64) - (steps > half)), 0)
    times = np.concatenate([[-1], (payload + (turns << _HIGH_BITS)) << _LOW_BITS])
    return times[np.cumsum(is_time)]


def check_kinds(kinds: NDArray[Any], known: tuple[int, ...], start: int, size: int, where: str) -> None:
    """Refuse the first word of a kind that the encoding does not have: the file is damaged or of another encoding."""
    strange = np.ones(16, np.bool_)
    strange[list(known)] = False
    unknown = strange[kinds]
    if unknown.any():
        first = int(np.argmax(unknown))
        refuse_kind(int(kinds[first]), start + size * first, where)


def refuse_kind(kind: int, byte: int, where: str) -> None:
    """The error for a word of an unknown kind."""
    raise DataError(f"{where}: the word at byte {byte} is of the reserved kind 0x{kind:x}: damaged or mislabelled")


_KINDS = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_TIME = 0x8
_SIZE = 4


def decode_evt2(words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None) -> Decoded:
    """The events of ``words`` uint32 ``[N]``, which begin at byte ``start`` of ``where``."""
    kinds = words >> 28
    check_kinds(kinds, _KINDS, start, _SIZE, where)
    is_time = kinds == _TIME
    high = clock(is_time, (words[is_time] & 0xFFFFFFF).astype(np.int64))
    is_event = kinds <= 1
    kept = np.flatnonzero(is_event & (high >= 0))
    chosen = words[kept]
    events = pack(where, high[kept] + (chosen >> 22 & 0x3F), chosen >> 11 & 0x7FF, chosen & 0x7FF, kinds[kept])

    def place(event: int) -> str:
        return f"event {event}, at byte {start + _SIZE * int(kept[event])},"

    return Decoded(events, place, int(np.count_nonzero(is_event)) - len(kept))


_evt21_KINDS = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_evt21_TIME = 0x8
_evt21_SIZE = 8


def decode_evt21(words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None) -> Decoded:
    """The events of ``words`` uint64 ``[N]``, which begin at byte ``start`` of ``where``; x rises within a word."""
    upper = (words >> np.uint64(32)).astype(np.uint32)
    kinds = upper >> 28
    check_kinds(kinds, _evt21_KINDS, start, _evt21_SIZE, where)
    is_time = kinds == _evt21_TIME
    high = clock(is_time, (upper[is_time] & 0xFFFFFFF).astype(np.int64))
    valid = (words & np.uint64(0xFFFFFFFF)).astype("<u4")
    valid[kinds > 1] = 0
    total = _bits(valid)
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
        return f"event {event}, in the word at byte {start + _evt21_SIZE * int(origin[event])},"

    return Decoded(events, place, total - len(events))


def _bits(words: NDArray[np.uint32]) -> int:
    """How many bits are set."""
    return int(np.unpackbits(words.view(np.uint8)).sum(dtype=np.int64))


_evt3_SIZE = 2
_WIDEST = 1 << 11


_KIND, _VALUE = np.arange(1 << 16) >> 12, np.arange(1 << 16) & 0xFFF
_BITS = np.unpackbits(_VALUE.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)
_RESERVED = 255
_EVENTS = np.select(
    [_KIND == 2, _KIND == 4, _KIND == 5, np.isin(_KIND, (1, 9, 11, 12, 13))],
    [1, _BITS.sum(axis=1, dtype=int), _BITS[:, 8:].sum(axis=1, dtype=int), _RESERVED],
    default=0,
).astype(np.uint8)
"""Events in each of the 65536 words, or that it is reserved."""
_LOWEST = (_BITS[: 1 << 12, ::-1].argmax(axis=1)).astype(np.uint8)
"""Place of the lowest bit that is set in 12."""


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
    """Fill ``t``, ``x``, ``y``, ``p``; returns how many events there are, the word behind the last that was read, and
    how many events were left out. Stops behind the word of event ``until``, and at an ``x`` not below ``width``."""
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
    """The events of ``words`` uint16 ``[N]``, which begin at byte ``start`` of ``where``.

    carry: add 4096 µs for good whenever EVT_TIME_LOW falls, as expelliarmus 1.1 does, on top of the EVT_TIME_HIGH that
    tells of the same. Its times then agree with that package's, and run at about twice their speed.
    """
    total, strange = _count(words, _EVENTS)
    if strange >= 0:
        refuse_kind(int(words[strange]) >> 12, start + _evt3_SIZE * strange, where)
    width = sensor.width if sensor else _WIDEST
    events = np.zeros(total, EVENT)
    columns = tuple(events[name] for name in ("t", "x", "y", "p"))
    found, stopped, dropped = _decode(words, width, carry, _LOWEST, *columns, total)
    if stopped >= 0:
        raise DataError(
            f"{where}: event {found}, in the word at byte {start + _evt3_SIZE * stopped}, lies at an x outside the sensor's "
            f"{width} columns"
        )

    def place(event: int) -> str:
        _, word, _ = _decode(words, width, carry, _LOWEST, *columns, int(event))
        return f"event {event}, in the word at byte {start + _evt3_SIZE * word},"

    return Decoded(events[:found], place, dropped)


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
    """The sensor is that of the header: its geometry, or the one of :data:`SENSORS` that it names.

    What stands in front of the first word of time has none and is left out, as cameras begin anywhere; ``facts`` counts
    those events as ``before_clock``.

    Raises:
        DataError: for a file without header or of another encoding, a truncated one, words that the encoding does not
            have, and as :func:`~.recording.finish`.
    """
    where, data = source.where, source.data
    header = read_header(data, b"% ", last="end")
    if not header.lines:
        raise DataError(f"{where}: expected a Prophesee RAW with lines of '% ' in front, found {data[:8]!r}")
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
            f"{where}: words of endianness {order[:40]!r} are not read, only 'little', and 'legacy' of EVT 2.1"
        )
    found = size_in({**facts, **options}) or _named(facts) or sensor
    decoded = decode(words, header.end, where, found)
    facts = {**facts, "format": f"EVT {encoding}"}
    counted = {"before_clock": decoded.before_clock} if decoded.before_clock else {}
    return finish(where, decoded.events, found, {**facts, **counted}, place=decoded.place)


def _encoding(facts: dict[str, str], where: str) -> tuple[str, dict[str, str]]:
    """The version of the encoding, and what else the line ``format`` says."""
    name, *rest = facts.get("format", "").split(";")
    options = dict(part.strip().split("=", 1) for part in rest if "=" in part)
    version = name.strip().upper().removeprefix("EVT") or facts.get("evt", "")
    version = {"2.0": "2", "3.0": "3", "21": "2.1"}.get(version, version)
    if version not in _ENCODINGS:
        said = facts.get("format") or facts.get("evt")
        says = f"says {said[:40]!r}" if said else "does not say how it is encoded"
        raise DataError(f"{where}: its header {says}; EVT 2, 2.1 and 3 are read")
    return version, options


def _named(facts: dict[str, str]) -> Sensor | None:
    text = f"{facts.get('plugin_name', '')} {facts.get('sensor_name', '')}".lower()
    return next((sensor for name, sensor in SENSORS.items() if name in text), None)
