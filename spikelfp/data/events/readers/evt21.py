"""EVT 2.1: up to 32 events of one row and polarity a word of 64 bits.

======== ============================ ==================================
bits     EVT_NEG (0x0), EVT_POS (0x1) EVT_TIME_HIGH (0x8)
======== ============================ ==================================
63-60    kind                         kind
59-54    time in µs, lowest 6 bits    time in µs, bits 33-6 (in 59-32)
53-43    x of the first pixel         (the same)
42-32    y                            (the same)
31-0     bit i: an event at x + i     unused
======== ============================ ==================================

EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED (0xf) are left out. Source:
https://docs.prophesee.ai/stable/data/encoding_formats/evt21.html.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.recording import pack
from spikelfp.data.events.readers.words import Decoded, check_kinds, clock

_KINDS = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_TIME = 0x8
_SIZE = 8


def decode_evt21(words: NDArray[np.unsignedinteger], start: int, where: str, sensor: Sensor | None) -> Decoded:
    """The events of ``words`` uint64 ``[N]``, which begin at byte ``start`` of ``where``; x rises within a word."""
    upper = (words >> np.uint64(32)).astype(np.uint32)
    kinds = upper >> 28
    check_kinds(kinds, _KINDS, start, _SIZE, where)
    is_time = kinds == _TIME
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
        return f"event {event}, in the word at byte {start + _SIZE * int(origin[event])},"

    return Decoded(events, place, total - len(events))


def _bits(words: NDArray[np.uint32]) -> int:
    """How many bits are set."""
    return int(np.unpackbits(words.view(np.uint8)).sum(dtype=np.int64))
