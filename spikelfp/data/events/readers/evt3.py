"""EVT 3: words of 16 bits, each only what has changed.

===== ============== =========================================================================
kind  name           bits 11-0
===== ============== =========================================================================
0x0   EVT_ADDR_Y     y (10-0) of what follows; bit 11: which camera, unused
0x2   EVT_ADDR_X     an event at x (10-0) of polarity (11)
0x3   VECT_BASE_X    x (10-0) and polarity (11) of the vectors that follow
0x4   VECT_12        bit i: an event at x + i; x grows by 12
0x5   VECT_8         the same with bits 7-0; x grows by 8
0x6   EVT_TIME_LOW   bits 11-0 of the time in µs
0x8   EVT_TIME_HIGH  bits 23-12 of the time, which starts again at 0 after 16.8 s
===== ============== =========================================================================

CONTINUED_4 (0x7), EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED_12 (0xf) are left out; the rest is reserved. Source:
https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Sensor
from spikelfp.data.events.readers.words import Decoded, refuse_kind
from spikelfp.errors import DataError

_SIZE = 2
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
        refuse_kind(int(words[strange]) >> 12, start + _SIZE * strange, where)
    width = sensor.width if sensor else _WIDEST
    events = np.zeros(total, EVENT)
    columns = tuple(events[name] for name in ("t", "x", "y", "p"))
    found, stopped, dropped = _decode(words, width, carry, _LOWEST, *columns, total)
    if stopped >= 0:
        raise DataError(
            f"{where}: event {found}, in the word at byte {start + _SIZE * stopped}, lies at an x outside the sensor's "
            f"{width} columns"
        )

    def place(event: int) -> str:
        _, word, _ = _decode(words, width, carry, _LOWEST, *columns, int(event))
        return f"event {event}, in the word at byte {start + _SIZE * word},"

    return Decoded(events[:found], place, dropped)
