"""``.aedat4``: the recordings of DV and dv-processing.

The line ``#!AER-DAT4.0``; 32 bits with the size of a FlatBuffers table, the header: how packets are compressed, the
byte at which their index begins (-1: none, the recording was broken off) and, in XML, which streams there are. Packets
follow: the number of the stream and the size (32 bits each, little-endian), then a frame of LZ4 or Zstandard, or plain
bytes. Their content is the size of a FlatBuffers table (32 bits) and the table. That of an event packet has one vector,
16 bytes an event:

====== =========================
bytes  meaning
====== =========================
0-7    time in µs
8-9    x
10-11  y
12     polarity, 1 of ON
====== =========================

Source: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html. Frames are decompressed
by the packages ``lz4`` and ``zstandard``, a few bytes at a time, so that one made to fill the memory is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

import lz4.frame
import numpy as np
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

from spikelfp.data.events.event import EVENT, Events, Sensor
from spikelfp.data.events.readers.base import LATEST, Recording, Source, finish, suffixes
from spikelfp.errors import DataError
from spikelfp.terminal import first_line
from spikelfp.untrusted import check_size, most

_MARK = b"#!AER-DAT4.0\r\n"
_USED = 13
"""Bytes of an event that hold its fields; the rest are padding and are set to 0."""

_COMPRESSIONS = ("none", "LZ4", "LZ4", "Zstandard", "Zstandard")
_DAMAGE = (ValueError, TypeError, struct.error)  # flatbuffers answers a place before the content with a TypeError


class Codec(NamedTuple):
    """A way to decompress packets.

    Attributes:
        decompressor: makes an object for one frame, with ``decompress(bytes)`` and ``eof``.
        claimed: bytes that a frame says it decompresses to, at most 0 if it does not say it.
        step: bytes to decompress at a time; they become at most 16 MiB.
        error: raised for damaged frames.
    """

    decompressor: Callable[[], Any]
    claimed: Callable[[memoryview], int]
    step: int
    error: type[Exception]


def _codec(compression: str) -> Codec | None:
    """The way to decompress the packets of a file, ``None`` if they are not compressed."""
    if compression == "LZ4":
        return Codec(
            lz4.frame.LZ4FrameDecompressor,
            lambda frame: int(lz4.frame.get_frame_info(frame)["content_size"]),
            1 << 16,
            RuntimeError,
        )
    if compression == "Zstandard":
        import zstandard  # a tenth of a second, which programs that read no such file need not wait for

        decompressor = zstandard.ZstdDecompressor
        return Codec(lambda: decompressor().decompressobj(), zstandard.frame_content_size, 1 << 9, zstandard.ZstdError)
    return None


class Stream(NamedTuple):
    """A stream of an AEDAT 4 file.

    Attributes:
        kind: four letters, such as EVTS of events, FRME of images.
        sensor: of events and images, if the file says it.
    """

    kind: str
    sensor: Sensor | None


class PacketHeader(NamedTuple):
    """The header of an AEDAT 4 file.

    Attributes:
        compression: of the packets: none, LZ4 or Zstandard.
        packets_end: first byte after the packets, or -1.
        streams: by their number.
        end: byte at which the packets begin.
    """

    compression: str
    packets_end: int
    streams: dict[int, Stream]
    end: int


@suffixes.register(".aedat4")
def read_aedat4(source: Source, sensor: Sensor | None) -> Recording:
    """Read the event stream with the lowest number, or that of the table that the user states.

    ``facts["streams"]`` lists the kinds of all streams.

    Raises:
        DataError: for a truncated or damaged file, one without a stream of events, one that decompresses to too much,
            and as :func:`~.base.finish`.
    """
    where, data = source.where, source.data
    header = read_header(data, where)
    of_events = sorted(number for number, each in header.streams.items() if each.kind == "EVTS")
    stated = source.layout.table
    if stated is not None and stated not in map(str, of_events):
        raise DataError(f"{where}: has no stream {stated[:40]!r} of events; its streams of events: {of_events}")
    chosen = int(stated) if stated is not None else next(iter(of_events), None)
    if chosen is None:
        kinds = ", ".join(each.kind for each in header.streams.values()) or "none"
        raise DataError(f"{where}: has no stream of events (EVTS); its streams: {kinds}")
    packets = _packets(data, header, chosen, where)
    parts, left, codec = [], most(len(data)), _codec(header.compression)
    for start, end in packets:
        content = memoryview(data)[start:end]
        try:
            if codec is not None:
                content = memoryview(_decompressed(content, codec, left, len(data), where))
                left -= len(content)
            parts.append(np.frombuffer(_vector(_table(content[4:]), 0, EVENT.itemsize), EVENT))
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(f"{where}: the packet at byte {start - 8} is damaged ({first_line(error)})") from error
    first = np.cumsum([0, *map(len, parts)])

    def place(event: int) -> str:
        packet = packets[int(np.searchsorted(first, event, "right")) - 1]
        return f"event {event}, in the packet at byte {packet[0] - 8},"

    events: Events = np.concatenate([np.empty(0, np.uint8), *(part.view(np.uint8) for part in parts)]).view(EVENT)
    events.view(np.uint8).reshape(-1, EVENT.itemsize)[:, _USED:] = 0
    strange = (events["t"] > LATEST) | (events["t"] < -LATEST)
    if strange.any():
        number = int(np.argmax(strange))
        raise DataError(f"{where}: {place(number)} is of {events['t'][number]} µs: damaged")
    facts: dict[str, Any] = {
        "format": "AEDAT 4.0",
        "compression": header.compression,
        "stream": chosen,
        "streams": {number: each.kind for number, each in header.streams.items()},
    }
    return finish(where, events, sensor, facts, place=place, own=header.streams[chosen].sensor)


def read_header(data: bytes, where: str) -> PacketHeader:
    """Read the header, which ends where the packets begin.

    Raises:
        DataError: for another format, and a truncated or damaged header.
    """
    if not data.startswith(_MARK):
        raise DataError(f"{where}: expected AEDAT 4, which begins with {_MARK!r}, found {data[:14]!r}")
    at = len(_MARK) + 4
    end = at + int.from_bytes(data[at - 4 : at], "little")
    if len(data) < end:
        raise DataError(f"{where}: is truncated in its header, which ends at byte {end} of {len(data)}")
    try:
        table = _table(memoryview(data)[at:end])
        compression = table.GetSlot(4, 0, number_types.Int32Flags)
        index = table.GetSlot(6, -1, number_types.Int64Flags)
        streams = _streams(bytes(_vector(table, 2, 1)))
    except _DAMAGE as error:
        raise DataError(f"{where}: its header is damaged ({first_line(error)})") from error
    if not 0 <= compression < len(_COMPRESSIONS) or not (index == -1 or index >= end):
        raise DataError(f"{where}: its header is damaged: compression {compression}, index of packets at byte {index}")
    return PacketHeader(_COMPRESSIONS[compression], index, streams, end)


def _streams(text: bytes) -> dict[int, Stream]:
    """The streams by their number, from the XML in the header.

    A node ``outInfo`` holds a node for each stream, named by its number, with an attribute ``typeIdentifier`` and a
    node ``info`` with the attributes ``sizeX`` and ``sizeY``.
    """
    if b"<!" in text:
        raise ValueError("its XML has definitions")  # of entities, which can grow without end
    try:
        root = ElementTree.fromstring(text.rstrip(b"\0"))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"no XML: {error}") from error

    def attribute(node: ElementTree.Element, key: str) -> str:
        return next((each.text or "" for each in node.iterfind("./attr") if each.get("key") == key), "").strip()

    def number(text: str) -> int:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1

    found = {}
    for node in root.iterfind("./node[@name='outInfo']/node"):
        if (stream := number(node.get("name", ""))) >= 0:
            info = node.find("./node[@name='info']")
            width, height = (0 if info is None else number(attribute(info, key)) for key in ("sizeX", "sizeY"))
            fits = 1 <= width <= 1 << 16 and 1 <= height <= 1 << 16
            found[stream] = Stream(attribute(node, "typeIdentifier"), Sensor(width, height, 2) if fits else None)
    return found


def _packets(data: bytes, header: PacketHeader, stream: int, where: str) -> list[tuple[int, int]]:
    """The first byte of each packet of ``stream`` and the one after it, without the 8 bytes before its content."""
    found, count, at = [], 0, header.end
    stop = len(data) if header.packets_end == -1 else header.packets_end
    while at < stop:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > min(stop, len(data)):
            index = (
                "" if header.packets_end == -1 else f"; its header puts the end of the packets at {header.packets_end}"
            )
            raise DataError(
                f"{where}: is truncated: its last whole packet, of {count}, ends at byte {at} of {len(data)}{index}"
            )
        if int.from_bytes(data[at : at + 4], "little") == stream:
            found.append((at + 8, end))
        count, at = count + 1, end
    return found


def _decompressed(frame: memoryview, codec: Codec, left: int, packed: int, where: str) -> bytearray:
    """The content of a frame in a file of ``packed`` bytes, of which ``left`` bytes more may be decompressed."""
    content, decompressor = bytearray(), codec.decompressor()
    try:
        check_size(most(packed) - left + max(0, codec.claimed(frame)), packed, where)
        for at in range(0, len(frame), codec.step):
            content += decompressor.decompress(frame[at : at + codec.step])
            check_size(most(packed) - left + len(content), packed, where)
            if decompressor.eof:
                if getattr(decompressor, "unused_data", None) or any(frame[at + codec.step :]):
                    raise ValueError("something follows its frame")
                return content
    except codec.error as error:
        raise ValueError(first_line(error)) from None
    raise ValueError("its frame is truncated")


def _table(content: memoryview) -> Table:
    """The root table of FlatBuffers ``content``; reading outside of it raises one of :data:`_DAMAGE`."""
    return Table(content, encode.Get(packer.uoffset, content, 0))


def _vector(table: Table, slot: int, size: int) -> memoryview:
    """The bytes of the vector in field ``slot``, of elements of ``size`` bytes; none if the field is left out."""
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return table.Bytes[:0]
    start = table.Vector(offset)
    end = start + table.VectorLen(offset) * size
    if end > len(table.Bytes):
        raise ValueError(f"a vector ends at byte {end} of {len(table.Bytes)}")
    return table.Bytes[start:end]
