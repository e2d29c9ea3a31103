"""Records: what a stream consists of, each with its length, its place in the stream, and checks of both.

A record is one CBOR item, the array ``[head, body, check]``::

    83                                   array of 3
    D8 46 50  <16 bytes>                 head: typed array (tag 70) of four uint32, little endian: bytes of the body,
                                         sequence number, check of the record before, check of the head
    <body>                               one CBOR item
    D8 46 44  <4 bytes>                  check: typed array of one uint32

The check of a record is the CRC-32 (polynomial 0x04C11DB7 reflected, as in zlib) of all its bytes before those of the
check itself; that of the head, of the head's first twelve bytes. The first record has the number 0 and 0 for the check
of the one before, and three bytes stand in front of it, ``D9 D9 F7``, CBOR's own mark of a CBOR file.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from spikelfp.errors import DataError

MAGIC = b"\xd9\xd9\xf7"
PREFIX, SUFFIX = b"\x83\xd8\x46\x50", b"\xd8\x46\x44"
_HEAD = struct.Struct("<IIII")
OPENING = len(PREFIX) + _HEAD.size
CLOSING = len(SUFFIX) + 4
OVERHEAD = OPENING + CLOSING
"""Bytes of a record beside its body."""

LONGEST = 2**32 - 1
"""Bytes of a body."""


@dataclass(frozen=True)
class Link:
    """What the next record must follow: its number, the check of the one before, and where it begins in the stream."""

    sequence: int = 0
    previous: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Record:
    """One record, its checks passed. size: in bytes, all included. after: what the next one must follow."""

    sequence: int
    offset: int
    size: int
    body: bytes
    after: Link


def write_record(body: bytes, link: Link) -> tuple[bytes, Link]:
    """The bytes of the record that follows ``link``, and what the next one must follow."""
    if len(body) > LONGEST:
        raise DataError(f"a record of {len(body)} bytes is longer than the {LONGEST} that a stream can hold")
    begin = struct.pack("<III", len(body), link.sequence, link.previous)
    covered = PREFIX + begin + struct.pack("<I", zlib.crc32(begin)) + body + SUFFIX
    check = zlib.crc32(covered)
    out = (b"" if link.sequence else MAGIC) + covered + struct.pack("<I", check)
    return out, Link(link.sequence + 1, check, link.offset + len(out))


def read_record(data: memoryview, link: Link) -> Record | None:
    """The record at the beginning of ``data`` that follows ``link``; ``None`` where ``data`` ends before it does.

    Raises :class:`~spikelfp.errors.DataError` as soon as a byte of it is wrong, whether or not all of it is there.
    """
    magic = MAGIC if link.sequence == 0 else b""
    _expect(data, magic + PREFIX, link)
    start = len(magic)
    if len(data) < start + OPENING:
        return None
    length, sequence, previous, check = _HEAD.unpack_from(data, start + len(PREFIX))
    if zlib.crc32(data[start + len(PREFIX) : start + len(PREFIX) + 12]) != check:
        raise DataError(f"{_where(link)} is damaged: its head does not match its checksum")
    _check_place(sequence, previous, link)
    end = start + OPENING + length
    if len(data) < end + CLOSING:
        return None
    (found,) = struct.unpack_from("<I", data, end + len(SUFFIX))
    if data[end : end + len(SUFFIX)] != SUFFIX or zlib.crc32(data[start : end + len(SUFFIX)]) != found:
        raise DataError(f"{_where(link)} is damaged: it does not match its checksum")
    size = end + CLOSING
    body = bytes(data[start + OPENING : end])
    return Record(sequence, link.offset, size, body, Link(sequence + 1, found, link.offset + size))


def _expect(data: memoryview, wanted: bytes, link: Link) -> None:
    have = bytes(data[: len(wanted)])
    if have == wanted[: len(have)]:
        return
    if link.sequence == 0:
        raise DataError(f"this is no stream of updates: it begins with {have.hex(' ')}, not with {wanted.hex(' ')}")
    raise DataError(f"{_where(link)} is damaged, or something else follows the stream: it begins with {have.hex(' ')}")


def _check_place(sequence: int, previous: int, link: Link) -> None:
    if sequence < link.sequence:
        raise DataError(
            f"frame {sequence} stands at byte {link.offset} where {link.sequence} belongs: twice, or out of order"
        )
    if sequence > link.sequence:
        last = f"to {sequence - 1} are" if sequence - 1 > link.sequence else "is"
        raise DataError(f"frame {link.sequence} {last} missing: {sequence} stands at byte {link.offset}")
    if previous != link.previous:
        raise DataError(f"{_where(link)} belongs to another stream: it does not follow the record before it")


def _where(link: Link) -> str:
    return f"frame {link.sequence} at byte {link.offset}" if link.sequence else "the header of the stream"
