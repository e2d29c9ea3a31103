"""The streams of an AEDAT 4 file, from the XML in its header.

A node ``outInfo`` holds a node for each stream, called by its number, with an attribute ``typeIdentifier`` (EVTS of
events, FRME of images, IMUS, TRIG) and a node ``info`` with the attributes ``sizeX`` and ``sizeY``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.data.events.readers import lz4, zstandard
from spikelfp.data.events.readers.base import LATEST, Recording, Source, finish, suffixes
from spikelfp.data.events.readers.faery_process import unpack_with_faery
from spikelfp.data.events.readers.flatbuffers import Table
from spikelfp.errors import DataError
from spikelfp.untrusted import check_size


class Stream(NamedTuple):
    """kind: four letters. sensor: of events and images, if it is told."""

    kind: str
    sensor: Sensor | None


def streams(text: bytes) -> dict[int, Stream]:
    """The streams by their number.

    Raises:
        ValueError: for text that is no such XML, or defines entities.
    """
    if b"<!" in text:
        raise ValueError("its XML has definitions")
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"no XML: {error}") from error
    found = {}
    for node in root.iterfind("./node[@name='outInfo']/node"):
        name = node.get("name", "")
        if name.isascii() and name.isdigit() and len(name) < 10:
            info = node.find("./node[@name='info']")
            sizes = [_attribute(info, key) for key in ("sizeX", "sizeY")] if info is not None else []
            found[int(name)] = Stream(_attribute(node, "typeIdentifier"), _sensor(sizes))
    return found


def _attribute(node: ElementTree.Element, key: str) -> str:
    return next((each.text or "" for each in node.iterfind("./attr") if each.get("key") == key), "").strip()


def _sensor(sizes: list[str]) -> Sensor | None:
    if len(sizes) == 2 and all(size.isascii() and size.isdigit() and len(size) < 6 for size in sizes):
        width, height = map(int, sizes)
        if 1 <= width <= 1 << 16 and 1 <= height <= 1 << 16:
            return Sensor(width, height, 2)
    return None


_MARK = b"#!AER-DAT4.0\r\n"
_USED = 13
"""Bytes of an event that mean something; what the file has in the rest is not kept."""
_PLAIN, _LZ4, _ZSTANDARD = "none", "LZ4", "Zstandard"
_COMPRESSIONS = (_PLAIN, _LZ4, _LZ4, _ZSTANDARD, _ZSTANDARD)


class Header(NamedTuple):
    """compression: of the packets. behind: first byte behind them, or -1. streams: by number. end: first packet."""

    compression: str
    behind: int
    streams: dict[int, Stream]
    end: int


@suffixes.register(".aedat4")
def read_aedat4(source: Source, sensor: Sensor | None) -> Recording:
    """The events of the stream of events with the lowest number; ``facts["streams"]`` says what all streams are.

    Raises:
        DataError: for a truncated or damaged file, one without a stream of events, one packed with Zstandard when faery
            is not there, and as :func:`~.recording.finish`.
    """
    where, data = source.where, source.data
    header = read_header(data, where)
    chosen = min((number for number, each in header.streams.items() if each.kind == "EVTS"), default=None)
    if chosen is None:
        kinds = ", ".join(each.kind for each in header.streams.values()) or "none"
        raise DataError(f"{where}: has no stream of events (EVTS); its streams: {kinds}")
    packets = walk(data, header, chosen, where)
    facts: dict[str, Any] = {
        "format": "AEDAT 4.0",
        "compression": header.compression,
        "stream": chosen,
        "streams": {number: each.kind for number, each in header.streams.items()},
    }
    if header.compression == _ZSTANDARD:
        path = source.file("AEDAT 4 packed with Zstandard")
        parts = [unpack_with_faery(Path(path), chosen, where)]
    else:
        parts = [_events(data, start, end, header.compression, where) for start, end in packets]
    first = np.cumsum([0, *map(len, parts)])

    def place(event: int) -> str:
        if header.compression == _ZSTANDARD:
            return f"event {event}"
        return (
            f"event {event}, in the packet at byte {packets[int(np.searchsorted(first, event, 'right')) - 1][0] - 8},"
        )

    events = np.concatenate([np.empty(0, np.uint8), *(part.view(np.uint8) for part in parts)]).view(EVENT)
    events.view(np.uint8).reshape(-1, EVENT.itemsize)[:, _USED:] = 0
    strange = (events["t"] > LATEST) | (events["t"] < -LATEST)
    if strange.any():
        number = int(np.argmax(strange))
        raise DataError(f"{where}: {place(number)} is of {events['t'][number]} µs: damaged")
    return finish(where, events, header.streams[chosen].sensor or sensor, facts, place=place)


def read_header(data: bytes, where: str) -> Header:
    """What stands in front of the packets."""
    if not data.startswith(_MARK):
        raise DataError(f"{where}: expected AEDAT 4, which begins with {_MARK!r}, found {data[:14]!r}")
    at = len(_MARK) + 4
    end = at + int.from_bytes(data[at - 4 : at], "little")
    if len(data) < end:
        raise DataError(f"{where}: is truncated in its header, which ends at byte {end} of {len(data)}")
    try:
        table = Table(memoryview(data)[at:end])
        compression, index = table.number(0, "<i", 0), table.number(1, "<q", -1)
        described = streams(bytes(table.vector(2, 1)))
    except ValueError as error:
        raise DataError(f"{where}: its header is damaged ({' '.join(str(error).split())[:200]})") from error
    if not 0 <= compression < len(_COMPRESSIONS) or not (index == -1 or index >= end):
        raise DataError(f"{where}: its header is damaged: compression {compression}, index of packets at byte {index}")
    return Header(_COMPRESSIONS[compression], index, described, end)


def walk(data: bytes, header: Header, stream: int, where: str) -> list[tuple[int, int]]:
    """Where the packets of ``stream`` begin and end, without their 8 bytes in front.

    Raises:
        DataError: for a file that ends within a packet, with the byte at which the last whole one ends.
    """
    found, count, at = [], 0, header.end
    stop = len(data) if header.behind == -1 else header.behind
    unpacked = 0
    while at < stop:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > min(stop, len(data)):
            index = "" if header.behind == -1 else f"; its header puts the end of the packets at {header.behind}"
            raise DataError(
                f"{where}: is truncated: its last whole packet, of {count}, ends at byte {at} of {len(data)}{index}"
            )
        if int.from_bytes(data[at : at + 4], "little") == stream:
            found.append((at + 8, end))
        if header.compression == _ZSTANDARD:  # faery unpacks those of all streams
            most = zstandard.bound(data[at + 8 : end])
            if most is None:
                raise DataError(f"{where}: the packet at byte {at} is damaged: no whole frame of Zstandard")
            unpacked += most
            check_size(unpacked, len(data), where)
        count, at = count + 1, end
    return found


def _events(data: bytes, start: int, end: int, compression: str, where: str) -> Events:
    """The events of the packet from ``start`` to ``end``."""
    content: NDArray[np.uint8] | None = np.frombuffer(data, np.uint8, end - start, start)
    if compression == _LZ4:
        assert content is not None
        parts = lz4.blocks(content)
        if parts is not None:
            check_size(sum(most for _, _, most, _ in parts), len(data), where)
        content = None if parts is None else lz4.unpack(content, parts)
    try:
        if content is None:
            raise ValueError("no whole frame of LZ4")
        vector = Table(content.data[4:]).vector(0, EVENT.itemsize)
    except ValueError as error:
        raise DataError(f"{where}: the packet at byte {start - 8} is damaged ({error})") from error
    return np.frombuffer(vector, EVENT)
