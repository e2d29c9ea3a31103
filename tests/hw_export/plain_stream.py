"""A decoder of update streams written from docs/update-stream.md alone, byte by byte, with nothing of the package.

It returns the image after every record, as lists of whole numbers, and trusts nothing: any deviation is an
``AssertionError``.
"""

from __future__ import annotations

import hashlib
from typing import Any

WIDTHS = {64: (1, False), 69: (2, False), 70: (4, False), 72: (1, True), 77: (2, True), 78: (4, True)}


def crc32(data: bytes) -> int:
    """Bit by bit, reflected polynomial EDB88320."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def item(data: bytes, at: int) -> tuple[Any, int]:
    """One CBOR item at byte ``at``, and where it ends; tagged items as ``(tag, value)``, floats as their bytes."""
    kind, short = data[at] >> 5, data[at] & 31
    at += 1
    if kind == 7:
        return (None, at) if short == 22 else (data[at : at + 8], at + 8)
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(short, 0)
    number = int.from_bytes(data[at : at + size], "big") if size else short
    at += size
    if kind == 0:
        return number, at
    if kind == 1:
        return -1 - number, at
    if kind in (2, 3):
        text = data[at : at + number]
        assert len(text) == number
        return (text if kind == 2 else text.decode()), at + number
    if kind == 6:
        value, at = item(data, at)
        return (number, value), at
    found = []
    for _ in range(number * (2 if kind == 5 else 1)):
        value, at = item(data, at)
        found.append(value)
    return (dict(zip(found[::2], found[1::2], strict=True)) if kind == 5 else found), at


def numbers(tagged: tuple[int, bytes]) -> list[int]:
    """The elements of a typed array."""
    width, signed = WIDTHS[tagged[0]]
    parts = range(0, len(tagged[1]), width)
    return [int.from_bytes(tagged[1][i : i + width], "little", signed=signed) for i in parts]


def gaps_of(packed: Any) -> list[int]:
    if isinstance(packed, tuple):
        return numbers(packed)
    found, value, shift = [], 0, 0
    for byte in packed:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value, shift = 0, 0
    assert shift == 0
    return found


def values_of(packed: Any, bits: int, count: int) -> list[int]:
    if isinstance(packed, tuple):
        return numbers(packed)
    found = [byte >> shift & (1 << bits) - 1 for byte in packed for shift in range(0, 8, bits)]
    return [value - (1 << bits) if value >> bits - 1 else value for value in found[:count]]


def decode(data: bytes) -> list[tuple[int, list[list[int]]]]:
    """``(step, the integers of every parameter)`` after the header and after every frame."""
    assert data[:3] == b"\xd9\xd9\xf7"
    at, sequence, previous = 3, 0, 0
    states: list[tuple[int, list[list[int]]]] = []
    table: list[Any] = []
    while at < len(data):
        start = at
        assert data[at : at + 4] == b"\x83\xd8\x46\x50"
        length, number, before, check = numbers((70, data[at + 4 : at + 20]))
        assert crc32(data[at + 4 : at + 16]) == check
        assert (number, before) == (sequence, previous)
        body, end = item(data, at + 20)
        assert end == at + 20 + length
        assert data[end : end + 3] == b"\xd8\x46\x44"
        previous = int.from_bytes(data[end + 3 : end + 7], "little")
        assert crc32(data[start : end + 3]) == previous
        at, sequence = end + 7, sequence + 1
        if body[0] == 0:
            assert body[1]["version"] == 1
            table = body[1]["parameters"]
            states.append((body[1]["step"], [numbers(array) for array in body[1]["base"]]))
        elif body[0] == 1:
            image = [list(values) for values in states[-1][1]]
            for parameter, gaps, values in body[2:]:
                place = 0
                counts = gaps_of(gaps)
                for gap, value in zip(counts, values_of(values, table[parameter][2], len(counts)), strict=True):
                    place += gap
                    image[parameter][place] = value
                    place += 1
            states.append((body[1], image))
    return states


def digest(entries: list[bytes], image: list[list[int]], widths: list[int]) -> bytes:
    """SHA-256 over encoded table entries and integers."""
    parts = zip(entries, image, widths, strict=True)
    return hashlib.sha256(
        b"".join(entry + b"".join(v.to_bytes(w, "little", signed=True) for v in values) for entry, values, w in parts)
    ).digest()
