"""LZ4 frames, unpacked.

A frame: the number 0x184D2204; flags (bit 4: blocks have checksums, bit 3: the size of the content follows, bit 0: the
number of a dictionary follows); the most that a block holds (bits 4-6 of a byte; 4: 64 KiB to 7: 4 MiB); a checksum of
these; then blocks behind their size (32 bits, little-endian; the top bit: not packed), and a size of 0.

A packed block: sequences of a byte with two counts (bits 4-7: bytes to copy from here; bits 0-3: bytes to copy from
what was unpacked before, less 4; 15 of either: bytes follow that add to it, up to the first below 255), those bytes,
and how far back (16 bits). The last sequence ends behind its own bytes.

Source: https://github.com/lz4/lz4/tree/dev/doc (``lz4_Frame_format.md``, ``lz4_Block_format.md``). Checksums are not
checked.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

MARK = b"\x04\x22\x4d\x18"
_LARGEST = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}
_PLAIN = 1 << 31
_MOST = 255
"""Bytes that a byte of a packed block may become."""


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _length(source, i, end, count):
    """``count`` and what the bytes at ``i`` add to it, and the place behind them; -1 if they do not end."""
    if count == 15:
        while True:
            if i >= end:
                return -1, i
            more = source[i]
            i += 1
            count += more
            if more < 255:
                break
    return count, i


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unpack(source, i, end, out, o, last):
    """Unpack the block of ``source`` from ``i`` to ``end`` into ``out`` from ``o``, which may fill it up to ``last``;
    returns the place behind what it wrote, or -1 for a damaged block."""
    while i < end:
        token = np.int64(source[i])
        count, i = _length(source, i + 1, end, token >> 4)
        if count < 0 or i + count > end or o + count > last:
            return -1
        for _ in range(count):
            out[o] = source[i]
            o += 1
            i += 1
        if i == end:
            return o
        if i + 2 > end:
            return -1
        back = np.int64(source[i]) | np.int64(source[i + 1]) << 8
        count, i = _length(source, i + 2, end, token & 15)
        if count < 0 or back == 0 or back > o or o + count + 4 > last:
            return -1
        for _ in range(count + 4):
            out[o] = out[o - back]
            o += 1
    return o


def blocks(frame: NDArray[np.uint8]) -> list[tuple[int, int, int, bool]] | None:
    """Of each block: where it begins and ends, what it holds at most, and whether it is packed.

    ``None`` for what is no whole frame, or one that needs a dictionary.
    """
    if len(frame) < 7 or frame[:4].tobytes() != MARK or frame[4] >> 6 != 1 or frame[4] & 1:
        return None
    largest = _LARGEST.get(int(frame[5]) >> 4 & 7)
    if largest is None:
        return None
    check = 4 if frame[4] & 0x10 else 0
    at = 7 + (8 if frame[4] & 0x08 else 0)
    found: list[tuple[int, int, int, bool]] = []
    while at + 4 <= len(frame):
        size = int.from_bytes(frame[at : at + 4].tobytes(), "little")
        if size == 0:
            return found
        packed, size = not size & _PLAIN, size & ~_PLAIN
        at += 4
        if at + size + check > len(frame):
            return None
        found.append((at, at + size, min(largest, _MOST * size) if packed else size, packed))
        at += size + check
    return None


def unpack(frame: NDArray[np.uint8], parts: list[tuple[int, int, int, bool]]) -> NDArray[np.uint8] | None:
    """The content of a ``frame`` with the :func:`blocks` ``parts``; ``None`` if it is damaged."""
    out = np.empty(sum(most for _, _, most, _ in parts), np.uint8)
    end = 0
    for start, stop, most, packed in parts:
        if packed:
            end = int(_unpack(frame, start, stop, out, end, end + most))
            if end < 0:
                return None
        else:
            out[end : end + most] = frame[start:stop]
            end += most
    return out[:end]
