"""Tiny writers of AEDAT 4 and of the frames in it."""

from __future__ import annotations

import struct

LZ4, ZSTANDARD = b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
DESCRIPTION = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">capture</attr><attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">64</attr>
<attr key="sizeY" type="int">48</attr><attr key="source" type="string">x</attr></node></node></node></dv>"""


def header(compression, index, text=DESCRIPTION):
    """A FlatBuffers table with three fields in fixed places."""
    table = struct.pack("<I4s", 20, b"IOHE") + bytes(2) + struct.pack("<HHHHH", 10, 24, 4, 8, 16)
    table += struct.pack("<iiqI", 10, compression, index, 4)
    table += struct.pack("<I", len(text)) + text.encode() + b"\0"
    return struct.pack("<I", len(table)) + table


def packet(events):
    """The size, and a table whose only field is a vector of events."""
    table = struct.pack("<I4sHHH", 16, b"EVTS", 6, 8, 4) + bytes(2) + struct.pack("<iII", 8, 4, len(events))
    table += b"".join(struct.pack("<qhhB3x", *event) for event in events)
    return struct.pack("<I", len(table)) + table


def file(packets, compression=0, index=-1, stream=0):
    body = b"".join(struct.pack("<II", stream, len(packet)) + packet for packet in packets)
    return b"#!AER-DAT4.0\r\n" + header(compression, index) + body


def lz4_frame(content, sizes=(), largest=4, packed=True):
    """Blocks of one sequence without a match each, so nothing is packed really; or blocks that say so."""
    blocks, at = b"", 0
    for size in [*sizes, len(content) - sum(sizes)]:
        piece, at = content[at : at + size], at + size
        count = min(15, size) << 4
        more = b"" if size < 15 else b"\xff" * ((size - 15) // 255) + bytes([(size - 15) % 255])
        block = bytes([count]) + more + piece if packed else piece
        blocks += struct.pack("<I", len(block) | (0 if packed else 1 << 31)) + block
    return LZ4 + bytes([0x60, largest << 4, 0]) + blocks + bytes(4)


def zstandard(*blocks):
    """Blocks as kind (0: raw, 1: one byte over and over, 2: compressed) and size."""
    content = b""
    for i, (kind, size) in enumerate(blocks):
        content += (size << 3 | kind << 1 | (i == len(blocks) - 1)).to_bytes(3, "little")
        content += bytes(1 if kind == 1 else size)
    return ZSTANDARD + bytes([0x00, 0x00]) + content
