"""``.bin``: recordings of the ATIS, as published with N-MNIST and N-Caltech101.

Without a header, 5 bytes (40 bits, big-endian) an event:

====== ====================================
bits   meaning
====== ====================================
39-32  x
31-24  y
23     polarity, 1 of ON
22-0   time in µs
====== ====================================

An event with ``y = 240``, a row that the ATIS (304 x 240) does not have, says that the clock has overflown: it adds
2^13 µs to all events that follow. Source: G. Orchard et al., Converting static image datasets to
spiking neuromorphic datasets using saccades, 2015, with the functions in Matlab and Python published beside the data.
"""

from __future__ import annotations

import numpy as np

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import Place, Recording, Source, finish, pack, places, suffixes
from spikelfp.errors import DataError

OVERFLOW_ROW = 240
OVERFLOW_TIME = 1 << 13
_SIZE = 5


@suffixes.register(".bin")
def read_atis(source: Source, sensor: Sensor | None) -> Recording:
    """Read a recording of the ATIS, with times up to 8.4 s.

    The files do not say the sensor: N-MNIST is 34 x 34, N-Caltech101 differs in each.

    Raises:
        DataError: for a length that is no multiple of 5 bytes, and as :func:`~.base.finish`.
    """
    rest = source.size % _SIZE
    if rest:
        raise DataError(
            f"{source.where}: {source.size} bytes are no multiple of {_SIZE}: truncated, the last whole event ends at "
            f"byte {source.size - rest}, or no .bin of N-MNIST's kind"
        )
    x, y, high, middle, low = np.frombuffer(source.data, np.uint8).reshape(-1, _SIZE).T
    t = (high & 0x7F).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    p = high >> 7
    facts: dict[str, object] = {"format": "ATIS bin"}
    place: Place = places(0, _SIZE)
    overflow = y == OVERFLOW_ROW
    if overflow.any():
        t += np.cumsum(overflow) * OVERFLOW_TIME
        kept = np.flatnonzero(~overflow)
        t, x, y, p = t[kept], x[kept], y[kept], p[kept]
        facts["overflows"] = int(len(overflow) - len(kept))
        place = lambda event: f"event {event}, at byte {_SIZE * int(kept[event])},"  # noqa: E731
    return finish(source.where, pack(source.where, t, x, y, p), sensor, facts, place=place)
