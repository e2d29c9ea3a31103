"""Arrays of whole numbers in CBOR: gap-coded indices, and values in as few bits as they need.

Typed arrays are those of RFC 8746, little endian: byte strings with a tag that tells the type of the elements. Two
forms have no tag of their own and are plain byte strings: gaps as LEB128 numbers, and values of 2 or 4 bits.
"""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
from numpy.typing import NDArray

from spikelfp.errors import DataError

Ints = NDArray[np.int64]

UINT8, UINT16, UINT32, SINT8, SINT16, SINT32, FLOAT64 = 64, 69, 70, 72, 77, 78, 86
"""Tags of RFC 8746."""

TYPES = {UINT8: "u1", UINT16: "<u2", UINT32: "<u4", SINT8: "i1", SINT16: "<i2", SINT32: "<i4", FLOAT64: "<f8"}
TAGS = {1: SINT8, 2: SINT16, 4: SINT32}
"""Of signed integers, by their bytes."""

_SEVENS = 1 << np.arange(7, 35, 7)
"""From each of these on, a LEB128 number takes a byte more."""

VALUE_BITS = (2, 4, 8, 16, 32)
"""Widths a value may be stored in."""


def typed(array: NDArray[Any], tag: int) -> cbor2.CBORTag:
    """``array`` as the typed array of ``tag``."""
    return cbor2.CBORTag(tag, np.ascontiguousarray(array, TYPES[tag]).tobytes())


def untyped(item: Any, tags: tuple[int, ...], what: str) -> NDArray[Any]:
    """The elements of a typed array with one of ``tags``, as a view of its bytes; ``what`` names it in errors."""
    if not isinstance(item, cbor2.CBORTag) or item.tag not in tags or not isinstance(item.value, bytes):
        raise DataError(f"{what} is no typed array of the tags {', '.join(map(str, tags))}")
    kind = np.dtype(TYPES[item.tag])
    if len(item.value) % kind.itemsize:
        raise DataError(f"{what} has {len(item.value)} bytes, no multiple of {kind.itemsize}")
    return np.frombuffer(item.value, kind)


def pack_indices(indices: Ints) -> cbor2.CBORTag | bytes:
    """Rising ``indices`` as gaps ``i₀, i₁ − i₀ − 1, i₂ − i₁ − 1, …``, in the shortest of four forms.

    LEB128 (seven bits a byte, the lowest first, bit 7 set in all but the last byte of a number), or a typed array of
    uint8, uint16 or uint32; of two equally short ones the first in this order.
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
    """The indices of :func:`pack_indices`, rising, all below ``size``; at least one."""
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
    """``values`` in two's complement: a typed array for 8, 16 and 32 bits, else ``8 / bits`` of them in a byte.

    The first of these is in the lowest bits; what is left of the last byte is 0.
    """
    if bits >= 8:
        return typed(values, TAGS[bits // 8])
    per_byte = 8 // bits
    padded = np.zeros(-(-len(values) // per_byte) * per_byte, np.uint8)
    padded[: len(values)] = values.astype(np.int8).view(np.uint8) & (1 << bits) - 1
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8))


def unpack_values(item: Any, bits: int, count: int, what: str) -> NDArray[np.int32]:
    """The ``count`` values of :func:`pack_values`."""
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
    """Numbers of at most five bytes, each in its shortest form."""
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
