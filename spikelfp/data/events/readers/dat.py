"""``.dat``: decoded events of Prophesee's cameras (ATIS and later), versions 1 and 2.

Lines of text that begin with ``%``, such as ``% Version 2``, ``% Width 304``; one byte for the kind of events (0: "2d",
12: "CD", of the same layout); one for their size, 8; then little-endian words of 32 bits, the time in µs (which starts
again at 0 after 71.6 minutes) and an address:

========== =============== ================
field      version 2       before
========== =============== ================
x          bits 0-13       bits 0-8
y          bits 14-27      bits 9-16
polarity   bit 28          bit 17
========== =============== ================

Source: https://docs.prophesee.ai/stable/data/file_formats/dat.html, and for files before version 2 Prophesee's
``load_atis_data.m``. N-CARS and the automotive data sets are of version 2.
"""

from __future__ import annotations

import numpy as np

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.base import (
    Recording,
    Source,
    finish,
    pack,
    places,
    read_text_header,
    sensor_in,
    suffixes,
    unwrap,
)
from spikelfp.errors import DataError

_KINDS = {0: "2d", 12: "CD"}
_SIZE = 8


@suffixes.register(".dat")
def read_dat(source: Source, sensor: Sensor | None) -> Recording:
    """Read a DAT of version 1 or 2; a sensor in the header comes before ``sensor``.

    Raises:
        DataError: for a file without header, events of another kind, size or version, a truncated one, and as
            :func:`~.base.finish`.
    """
    where, data = source.where, source.data
    header = read_text_header(data, b"%")
    if not header.lines:
        raise DataError(f"{where}: expected a Prophesee DAT, which begins with lines of '%', found {data[:8]!r}")
    values = header.facts()
    version = values.get("Version", "1")
    if version not in ("0", "1", "2"):
        raise DataError(f"{where}: expected a DAT of version 1 or 2, its header says {version[:40]!r}")
    start = header.end + 2
    if len(data) < start:
        raise DataError(f"{where}: is truncated in its header: {len(data)} bytes, expected kind and size of its events")
    kind, size = data[header.end : start]
    if kind not in _KINDS or size != _SIZE:
        raise DataError(
            f"{where}: byte {header.end} says events of kind {kind} and {size} bytes; kinds 0 (2d) and 12 (CD) of "
            f"{_SIZE} bytes are read"
        )
    rest = (len(data) - start) % _SIZE
    if rest:
        raise DataError(f"{where}: is truncated: the last whole event ends at byte {len(data) - rest} of {len(data)}")
    words = np.frombuffer(data, "<u4", offset=start).reshape(-1, 2)
    address, place = words[:, 1], places(start, _SIZE)
    if version == "2":
        x, y, p = address & 0x3FFF, address >> 14 & 0x3FFF, address >> 28 & 1
    else:
        x, y, p = address & 0x1FF, address >> 9 & 0xFF, address >> 17 & 1
    facts = {**values, "format": f"DAT {version} {_KINDS[kind]}"}
    return finish(where, pack(where, unwrap(words[:, 0]), x, y, p), sensor, facts, place=place, own=sensor_in(values))
