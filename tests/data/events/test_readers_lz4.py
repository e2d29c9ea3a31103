"""LZ4 frames against an unpacker that goes byte by byte."""

from __future__ import annotations

import struct

import numpy as np
from aedat4_writer import lz4_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.data.events.readers import lz4


def unpacked(frame):
    array = np.frombuffer(frame, np.uint8)
    parts = lz4.blocks(array)
    content = None if parts is None else lz4.unpack(array, parts)
    return None if content is None else content.tobytes()


def slowly(block, before=b""):
    """An LZ4 block, byte by byte."""
    out, i = bytearray(before), 0
    while i < len(block):
        token, i = block[i], i + 1
        counts = [token >> 4, token & 15]
        for which in (0, 1):
            if counts[which] == 15:
                while block[i] == 255:
                    counts[which] += 255
                    i += 1
                counts[which] += block[i]
                i += 1
            if which == 0:
                out += block[i : i + counts[0]]
                i += counts[0]
                if i == len(block):
                    return bytes(out[len(before) :])
                back = block[i] | block[i + 1] << 8
                i += 2
        for _ in range(counts[1] + 4):
            out.append(out[-back])
    return bytes(out[len(before) :])


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=700), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_lz4_of_literals(content, sizes, packed):
    sizes = sizes if sum(sizes) <= len(content) else ()
    assert unpacked(lz4_frame(content, sizes, packed=packed)) == content


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(1, 30), st.integers(4, 600)), max_size=6),
    st.binary(max_size=9),
)
def test_lz4_with_matches(sequences, end):
    block, length = b"", 0
    for literals, back, count in sequences:
        length += len(literals)
        if not length:
            continue
        more = [
            b"" if n < 15 else b"\xff" * ((n - 15) // 255) + bytes([(n - 15) % 255]) for n in (len(literals), count - 4)
        ]
        block += bytes([min(15, len(literals)) << 4 | min(15, count - 4)]) + more[0] + literals
        block += struct.pack("<H", min(back, length)) + more[1]
        length += count
    block += bytes([len(end) << 4]) + end
    frame = lz4.MARK + bytes([0x60, 0x70, 0]) + struct.pack("<I", len(block)) + block + bytes(4)
    assert unpacked(frame) == slowly(block)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_lz4_of_anything(block):
    """Damaged blocks are told, and nothing is read or written outside of the arrays."""
    frame = lz4.MARK + bytes([0x60, 0x40, 0]) + struct.pack("<I", len(block)) + block + bytes(4)
    try:
        expected = slowly(block)
    except IndexError:
        expected = None
    found = unpacked(frame)
    assert found is None or found == expected


def test_lz4_frames_that_are_refused():
    frame = lz4_frame(b"content")
    assert unpacked(frame[:4] + bytes([0x60 | 0x08]) + frame[5:7] + bytes(8) + frame[7:]) == b"content"  # with its size
    for damaged in (
        b"",
        frame[:6],
        frame[:-5],
        b"x" + frame[1:],
        frame[:4] + b"\x61" + frame[5:],
        frame[:5] + b"\0" + frame[6:],
    ):
        assert unpacked(damaged) is None
