"""Bytes of a stream of updates: records with checksums, checks of a CBOR body, and arrays of whole numbers.

docs/update-stream.md specifies the format. A record is one CBOR item, the array ``[head, body, check]``::

    83                                   array of 3
    D8 46 50  <16 bytes>                 head: typed array (tag 70) of four uint32, little endian: bytes of the body,
                                         sequence number, check of the record before, check of the head
    <body>                               one CBOR item
    D8 46 44  <4 bytes>                  check: typed array of one uint32

Checks are CRC-32 (polynomial 0x04C11DB7 reflected, as in zlib). The check of the head covers its first twelve bytes,
the check of the record all bytes of the record before it. The first record has the number 0, and 0 as the check of the
record before; three bytes precede it, ``D9 D9 F7``, CBOR's own mark of a CBOR file.

cbor2 encodes and decodes the bodies. :func:`check_items` looks at a body first, because a decoder reserves what a
body claims to hold.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError

# Records

MAGIC = b"\xd9\xd9\xf7"
PREFIX, SUFFIX = b"\x83\xd8\x46\x50", b"\xd8\x46\x44"
_HEAD = struct.Struct("<IIII")
OPENING = len(PREFIX) + _HEAD.size
CLOSING = len(SUFFIX) + 4
OVERHEAD = OPENING + CLOSING
"""Bytes of a record without its body."""

LONGEST = 2**32 - 1
"""Most bytes of a body."""


@dataclass(frozen=True)
class Link:
    """Place between two records, which ties the next record to the one before.

    Attributes:
        sequence: number of the next record, from 0.
        previous: check of the record before, 0 for the first record.
        offset: byte of the stream at which the next record begins.
    """

    sequence: int = 0
    previous: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Record:
    """Record whose checks have passed.

    Attributes:
        sequence: number of the record, from 0.
        offset: byte of the stream at which it begins.
        size: all its bytes.
        body: its content, one CBOR item.
        after: place of the next record.
    """

    sequence: int
    offset: int
    size: int
    body: bytes
    after: Link


def write_record(body: bytes, link: Link) -> tuple[bytes, Link]:
    """Encode the record at the place ``link``.

    Args:
        body: one CBOR item.
        link: place of the record.

    Returns:
        Bytes of the record, and the place of the next one.

    Raises:
        DataError: for a body of more than :data:`LONGEST` bytes.
    """
    if len(body) > LONGEST:
        raise DataError(f"a record of {len(body)} bytes is longer than the {LONGEST} that a stream can hold")
    begin = struct.pack("<III", len(body), link.sequence, link.previous)
    covered = PREFIX + begin + struct.pack("<I", zlib.crc32(begin)) + body + SUFFIX
    check = zlib.crc32(covered)
    out = (b"" if link.sequence else MAGIC) + covered + struct.pack("<I", check)
    return out, Link(link.sequence + 1, check, link.offset + len(out))


def read_record(data: memoryview, link: Link) -> Record | None:
    """Read the record with which ``data`` begins.

    Args:
        data: bytes of the stream from ``link.offset`` on.
        link: place of the record.

    Returns:
        The record, or ``None`` while some of its bytes are missing.

    Raises:
        DataError: at the first wrong byte, also of a record that is not complete.
    """
    magic = MAGIC if link.sequence == 0 else b""
    _expect(data, magic + PREFIX, link)
    start = len(magic)
    if len(data) < start + OPENING:
        return None
    length, sequence, previous, check = _HEAD.unpack_from(data, start + len(PREFIX))
    if zlib.crc32(data[start + len(PREFIX) : start + len(PREFIX) + 12]) != check:
        raise DataError(f"{_where(link)} is damaged: its head does not match its checksum")
    if sequence < link.sequence:
        raise DataError(
            f"frame {sequence} stands at byte {link.offset} where {link.sequence} belongs: twice, or out of order"
        )
    if sequence > link.sequence:
        last = f"to {sequence - 1} are" if sequence - 1 > link.sequence else "is"
        raise DataError(f"frame {link.sequence} {last} missing: {sequence} stands at byte {link.offset}")
    if previous != link.previous:
        raise DataError(f"{_where(link)} belongs to another stream: it does not follow the record before it")
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


def _where(link: Link) -> str:
    return f"frame {link.sequence} at byte {link.offset}" if link.sequence else "the header of the stream"


# Checks of a body before it is decoded

DEEPEST = 8
"""Most arrays and maps within each other; a header has four."""

MOST_ITEMS = 1 << 20
"""Most items of a body; an array of numbers is one."""

_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)


def check_items(body: bytes) -> None:
    """Check that every item lies within the body and has a type that streams use (RFC 8949, section 3).

    A decoder takes what the heads of items claim: an array of 2⁶⁰ elements, a text that is referred to a thousand times
    (tags 25 and 29), a fraction with an exponent of a million digits. Streams have none of these.

    Args:
        body: one CBOR item.

    Raises:
        DataError: for an item that claims more bytes than follow, has another tag or no definite length, for more than
            :data:`DEEPEST` levels and for more than :data:`MOST_ITEMS` items.
    """
    at, left = 0, [1]
    for number in range(MOST_ITEMS):
        while left and left[-1] == 0:
            left.pop()
        if not left:
            return
        if at >= len(body):
            raise DataError("its content ends within an item: damaged")
        left[-1] -= 1
        kind, value = body[at] >> 5, body[at] & 31
        at += 1
        if value in _WIDTHS:
            width = _WIDTHS[value]
            value = int.from_bytes(body[at : at + width], "big")
            at += width
        elif value > 27:
            raise DataError(f"item {number} of its content has no definite length")
        if kind in (_BYTES, _TEXT):
            at += value
        elif kind == _TAG:
            if value not in TYPES:
                raise DataError(f"item {number} of its content has the tag {value}, which streams do not have")
            left.append(1)
        elif kind in (_ARRAY, _MAP):
            left.append(value * (2 if kind == _MAP else 1))
        if at > len(body) or left[-1] > len(body) - at:
            raise DataError(f"item {number} of its content claims more than the {len(body)} bytes there are: damaged")
        if len(left) > DEEPEST:
            raise DataError(f"items of its content lie more than {DEEPEST} deep: made to fill the memory")
    raise DataError(f"its content has more than {MOST_ITEMS} items: made to fill the memory")


# Arrays of whole numbers: typed arrays of RFC 8746, little endian, where the tag of a byte string tells the type of the
# elements. Gaps as LEB128 numbers and values of 2 or 4 bits have no tag and are plain byte strings.

Ints = NDArray[np.int64]

UINT8, UINT16, UINT32, SINT8, SINT16, SINT32, FLOAT64 = 64, 69, 70, 72, 77, 78, 86
"""Tags of typed arrays (RFC 8746, section 2.1)."""

TYPES = {UINT8: "u1", UINT16: "<u2", UINT32: "<u4", SINT8: "i1", SINT16: "<i2", SINT32: "<i4", FLOAT64: "<f8"}
TAGS = {1: SINT8, 2: SINT16, 4: SINT32}
"""Tag of an array of signed integers, by the bytes of an element."""

_SEVENS = 1 << np.arange(7, 35, 7)
"""Smallest number that takes 2, 3, 4 and 5 bytes as LEB128."""

VALUE_BITS = (2, 4, 8, 16, 32)
"""Bits in which a value may be stored."""


def typed(array: NDArray[Any], tag: int) -> cbor2.CBORTag:
    """Encode an array as the typed array of ``tag``."""
    return cbor2.CBORTag(tag, np.ascontiguousarray(array, TYPES[tag]).tobytes())


def untyped(item: Any, tags: tuple[int, ...], what: str) -> NDArray[Any]:
    """Decode a typed array.

    Args:
        item: decoded CBOR item.
        tags: those that are allowed here.
        what: name of the array in errors.

    Returns:
        The elements, a view of the bytes.

    Raises:
        DataError: for anything but a typed array of one of ``tags``.
    """
    if not isinstance(item, cbor2.CBORTag) or item.tag not in tags or not isinstance(item.value, bytes):
        raise DataError(f"{what} is no typed array of the tags {', '.join(map(str, tags))}")
    kind = np.dtype(TYPES[item.tag])
    if len(item.value) % kind.itemsize:
        raise DataError(f"{what} has {len(item.value)} bytes, no multiple of {kind.itemsize}")
    return np.frombuffer(item.value, kind)


def pack_indices(indices: Ints) -> cbor2.CBORTag | bytes:
    """Encode rising indices as gaps ``i₀, i₁ − i₀ − 1, i₂ − i₁ − 1, …``, in the shortest of four forms.

    The forms are LEB128 (seven bits a byte, the lowest first, bit 7 set in all but the last byte of a number) and typed
    arrays of uint8, uint16 and uint32. Of two forms of one length the first in this order is taken.

    Args:
        indices: int64 ``[N]``, strictly rising, from 0.

    Returns:
        A byte string of LEB128 numbers, or a typed array.

    Raises:
        DataError: for a gap of 2³² or more.
    """
    gaps = np.diff(indices, prepend=-1) - 1
    lengths = 1 + (gaps[:, None] >= _SEVENS).sum(1)
    least = int(lengths.sum())
    largest = int(gaps.max(initial=0))
    for tag, limit in ((UINT8, 1 << 8), (UINT16, 1 << 16), (UINT32, 1 << 32)):
        if largest < limit:
            size = len(gaps) * np.dtype(TYPES[tag]).itemsize
            # the tag takes two bytes more than a plain byte string
            return typed(gaps, tag) if size + 2 < least else _leb128(gaps, lengths)
    raise DataError(f"an index of {int(indices[-1])} is more than a stream can hold")


def unpack_indices(item: Any, size: int, what: str) -> Ints:
    """Decode the indices of :func:`pack_indices`.

    Args:
        item: decoded CBOR item.
        size: elements of the parameter.
        what: name of the indices in errors.

    Returns:
        int64 ``[N]``, strictly rising, all below ``size``, ``N ≥ 1``.

    Raises:
        DataError: for another form, no indices, and an index of ``size`` or more.
    """
    gaps = _from_leb128(item, what) if isinstance(item, bytes) else untyped(item, (UINT8, UINT16, UINT32), what)
    if not len(gaps):
        raise DataError(f"{what} are empty")
    if int(gaps.max()) >= size or len(gaps) > size:
        raise DataError(f"{what} lie beyond the {size} elements of the parameter")
    indices = np.cumsum(gaps.astype(np.int64) + 1) - 1  # at most size · size: no overflow below 2^31 elements
    if int(indices[-1]) >= size:
        raise DataError(f"{what} go up to {int(indices[-1])}, the parameter has {size} elements")
    return indices


def pack_values(values: NDArray[Any], bits: int) -> cbor2.CBORTag | bytes:
    """Encode values in two's complement.

    Values of 8, 16 and 32 bits become a typed array. Of values of 2 and 4 bits, ``8 / bits`` share a byte: the first in
    the lowest bits, unused bits of the last byte 0.

    Args:
        values: whole numbers ``[N]`` that fit in ``bits``.
        bits: one of :data:`VALUE_BITS`.
    """
    if bits >= 8:
        return typed(values, TAGS[bits // 8])
    per_byte = 8 // bits
    padded = np.zeros(-(-len(values) // per_byte) * per_byte, np.uint8)
    padded[: len(values)] = values.astype(np.int8).view(np.uint8) & (1 << bits) - 1
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8))


def unpack_values(item: Any, bits: int, count: int, what: str) -> NDArray[np.int32]:
    """Decode the values of :func:`pack_values`.

    Args:
        item: decoded CBOR item.
        bits: of a value.
        count: values expected.
        what: name of the values in errors.

    Returns:
        int32 ``[count]``.

    Raises:
        DataError: for another form and another number of values.
    """
    if bits >= 8:
        values = untyped(item, (TAGS[bits // 8],), what).astype(np.int32)
    else:
        values = _from_bits(item, bits, count, what)
    if len(values) != count:
        raise DataError(f"{what}: {len(values)} of them, expected {count}")
    return values


def _from_bits(item: Any, bits: int, count: int, what: str) -> NDArray[np.int32]:
    per_byte = 8 // bits
    if not isinstance(item, bytes) or len(item) != -(-count // per_byte):
        raise DataError(f"{what} are no byte string of {count} values of {bits} bits")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = ((np.frombuffer(item, np.uint8)[:, None] >> shifts) & (1 << bits) - 1).reshape(-1).astype(np.int32)
    if parts[count:].any():
        raise DataError(f"{what}: the unused bits of the last byte are not 0")
    sign = 1 << bits - 1
    return (parts[:count] ^ sign) - sign


def _leb128(gaps: Ints, lengths: Ints) -> bytes:
    ends = np.cumsum(lengths)
    out = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        more = np.where(lengths[has] > place + 1, 0x80, 0)
        out[(ends - lengths)[has] + place] = gaps[has] >> 7 * place & 0x7F | more
    return out.tobytes()


def _from_leb128(data: bytes, what: str) -> Ints:
    """Decode numbers of at most five bytes, each in its shortest form."""
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return np.zeros(0, np.int64)
    last = np.flatnonzero(raw < 0x80)
    if not len(last) or last[-1] != len(raw) - 1:
        raise DataError(f"{what}: the last LEB128 number is cut off")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 5:
        raise DataError(f"{what}: a LEB128 number of {int(lengths.max())} bytes, at most 5 are allowed")
    if (raw[last[lengths > 1]] == 0).any():
        raise DataError(f"{what}: a LEB128 number that is longer than it needs to be")
    gaps = np.zeros(len(last), np.int64)
    for place in range(int(lengths.max())):
        has = lengths > place
        gaps[has] |= (raw[first[has] + place].astype(np.int64) & 0x7F) << 7 * place
    return gaps
