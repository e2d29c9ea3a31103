"""EVT 2: one event a word of 32 bits.

======== ============================ ==================================
bits     CD_OFF (0x0), CD_ON (0x1)    EVT_TIME_HIGH (0x8)
======== ============================ ==================================
31-28    kind                         kind
27-22    time in µs, lowest 6 bits    time in µs, bits 33-6
21-11    x                            (the same)
10-0     y                            (the same)
======== ============================ ==================================

EXT_TRIGGER (0xa), OTHERS (0xe) and CONTINUED (0xf) are no events of pixels and left out. Source:
https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.recording import pack
from spikelfp.data.events.readers.words import Decoded, check_kinds, clock

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
