"""What the decoders of Prophesee's words share: what they return, and the clock of EVT 2 and 2.1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Events
from spikelfp.data.events.readers.recording import Place
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
