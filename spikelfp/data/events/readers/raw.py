"""``.raw``: what Prophesee's cameras send, in the encodings EVT 2, 2.1 and 3, behind a header of text.

Lines that begin with ``%``: ``% evt 3.0``, or newer ``% format EVT3;height=720;width=1280``, and facts such as
``% geometry 1280x720``, ``% system_ID 48``; the last may be ``% end``. Then words of 32 (EVT 2), 64 (EVT 2.1) or 16
bits (EVT 3), little-endian; ``endianness=legacy`` of EVT 2.1 has the upper half of a word first, each half
little-endian. Source: https://docs.prophesee.ai/stable/data/file_formats/raw.html.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import Sensor
from spikelfp.data.events.readers.evt2 import decode_evt2
from spikelfp.data.events.readers.evt3 import decode_evt3
from spikelfp.data.events.readers.evt21 import decode_evt21
from spikelfp.data.events.readers.header import read_header, size_in
from spikelfp.data.events.readers.recording import Recording, finish
from spikelfp.data.events.readers.source import Source
from spikelfp.data.events.readers.table import suffixes
from spikelfp.data.events.readers.words import Decoded
from spikelfp.errors import DataError

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
