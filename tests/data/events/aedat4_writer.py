"""Tiny writers of AEDAT 4 and its frames."""

from __future__ import annotations

import struct

import lz4.frame
import zstandard

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


def file(packets, compression=0, index=-1, stream=0, size=(64, 48)):
    body = b"".join(struct.pack("<II", stream, len(packet)) + packet for packet in packets)
    text = DESCRIPTION.replace(">64<", f">{size[0]}<").replace(">48<", f">{size[1]}<")
    return b"#!AER-DAT4.0\r\n" + header(compression, index, text) + body


def lz4_frame(content, **options):
    """One frame of LZ4."""
    return lz4.frame.compress(content, **options)


def zstandard_frame(content, **options):
    """One frame of Zstandard."""
    return zstandard.ZstdCompressor(**options).compress(content)


def zstandard_zeros(mebibytes):
    """A frame of zeros that does not say its size."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(mebibytes)) + compressor.flush()
