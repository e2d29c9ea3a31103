"""AEDAT 4: the walk over its packets, which needs no other package, and reading through faery."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress

import numpy as np
import pytest
from source_files import shared_data

from spikelfp.data.events import Sensor
from spikelfp.data.events.readers import read, read_bytes, room
from spikelfp.data.events.readers.aedat4 import check_packets
from spikelfp.data.events.readers.frames import LZ4, ZSTANDARD, bound
from spikelfp.data.events.readers.source import Source
from spikelfp.errors import DataError

DESCRIPTION = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">capture</attr><attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">64</attr>
<attr key="sizeY" type="int">48</attr><attr key="source" type="string">x</attr></node></node></node></dv>"""


def header(compression, index):
    """A FlatBuffers table IOHeader with its fields in fixed places."""
    text = DESCRIPTION.encode()
    table = struct.pack("<I4s", 20, b"IOHE") + bytes(2) + struct.pack("<HHHHH", 10, 24, 4, 8, 16)
    table += struct.pack("<iiqI", 10, compression, index, 4) + struct.pack("<I", len(text)) + text + b"\0"
    return struct.pack("<I", len(table)) + table


def file(packets, compression=0, index=-1):
    body = b"".join(struct.pack("<II", 0, len(packet)) + packet for packet in packets)
    return b"#!AER-DAT4.0\r\n" + header(compression, index) + body


def walk(content):
    return check_packets(Source("here", data=content))


def lz4(*sizes, content=b"", largest=4):
    blocks = b"".join(struct.pack("<I", size) + bytes(size) for size in sizes)
    return LZ4 + bytes([0x60, largest << 4, 0]) + blocks + content + bytes(4)


def zstandard(*blocks):
    """Blocks as kind (0: raw, 1: one byte over and over, 2: compressed) and size."""
    content = b""
    for i, (kind, size) in enumerate(blocks):
        content += (size << 3 | kind << 1 | (i == len(blocks) - 1)).to_bytes(3, "little")
        content += bytes(1 if kind == 1 else size)
    return ZSTANDARD + bytes([0x00, 0x00]) + content


def test_bounds_of_frames():
    assert bound(lz4()) == 0
    assert bound(lz4(10, 1000)) == 2550 + 65_536
    assert bound(lz4(10, 100_000, largest=7)) == 2550 + (1 << 22)
    assert bound(lz4(10)[:-5]) is None
    assert bound(zstandard((0, 100), (1, 100_000), (2, 7))) == 100 + 100_000 + (1 << 17)
    assert bound(zstandard((0, 100), (2, 50))[:-1]) is None
    for content in (b"", b"neither", LZ4, ZSTANDARD, LZ4 + b"\x60\x00\x00" + bytes(9), zstandard((3, 1))):
        assert bound(content) is None


def test_packets_are_walked():
    assert walk(file([])) == 0
    assert walk(file([b"abc", b"", b"defg"])) == 3
    content = file([b"abc", b"defg"], compression=0)
    last = len(content) - 12
    for cut in (1, 4, 11):
        with pytest.raises(DataError, match=rf"is truncated: its last whole packet, of 1, ends at byte {last} of "):
            walk(content[:-cut])
    start = len(file([]))
    assert walk(file([b"abc"], index=start + 11) + b"the index of the packets") == 1
    with pytest.raises(
        DataError, match=r"of 1, ends at byte \d+ of \d+; its header puts the end of the packets at 9999"
    ):
        walk(file([b"abc"], index=9999))
    with pytest.raises(DataError, match="is damaged: its header puts the index of the packets at byte 5"):
        walk(file([b"abc"], index=5))


def test_headers_of_another_kind():
    content = file([b"abc"])
    for cut in (14, 17, 18, 100):
        with pytest.raises(DataError, match="is truncated in its header"):
            walk(content[:cut])
    with pytest.raises(DataError, match=r"expected AEDAT 4, which begins with b'#!AER-DAT4.0"):
        walk(content.replace(b"DAT4.0", b"DAT5.0"))
    with pytest.raises(DataError, match="its header is damaged: no FlatBuffers table"):
        walk(content[:18] + b"\xff\xff\xff\x7f" + content[22:])
    with pytest.raises(DataError, match="AEDAT 4 is read from files only; unpack it first"):
        read_bytes(content, ".aedat4", "here")


def test_what_would_fill_the_memory_is_refused(monkeypatch):
    packets = [zstandard(*[(1, 1 << 17)] * 3000)] * 2
    with pytest.raises(
        DataError, match=r"^here: claims \d+ bytes of content in a file of \d+: damaged, or made to fill"
    ):
        walk(file(packets, compression=3))
    monkeypatch.setattr(room, "ALWAYS", 10_000_000_000)
    assert walk(file(packets, compression=3)) == 2
    with pytest.raises(DataError, match=r"the packet at byte \d+ is damaged: no whole frame of LZ4 or Zstandard"):
        walk(file([b"nothing of the kind"], compression=1))


def test_without_faery(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faery", None)
    path = tmp_path / "x.aedat4"
    path.write_bytes(file([]))
    with pytest.raises(DataError, match=r"x\.aedat4: AEDAT 4 is read through faery: pip install 'spikelfp\[events\]'"):
        read(path)


def test_what_faery_writes_is_read(tmp_path):
    faery = pytest.importorskip("faery")
    random = np.random.default_rng(0)
    events = np.zeros(5000, faery.EVENTS_DTYPE)
    events["t"] = np.sort(random.integers(0, 100_000, 5000))
    events["x"], events["y"] = random.integers(0, 64, 5000), random.integers(0, 48, 5000)
    events["on"] = random.integers(0, 2, 5000)
    for compression in (None, faery.aedat.LZ4_DEFAULT, faery.aedat.ZSTD_DEFAULT):
        path = tmp_path / "x.aedat4"
        stream = faery.events_stream_from_array(events, (64, 48))
        stream.to_file(path, compression=compression)
        found = read(path, sensor=Sensor(9, 9, 2))
        assert found.sensor == Sensor(64, 48, 2)
        assert found.events[["t", "x", "y", "p"]].tolist() == events.tolist()
        content = path.read_bytes()
        for at in range(30, len(content), len(content) // 40):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
            with suppress(DataError):
                read(path)


def test_cut_samples_say_where(tmp_path):
    pytest.importorskip("faery")
    content = (shared_data("event_samples") / "event_samples/sample_davis346.aedat4").read_bytes()
    path = tmp_path / "cut.aedat4"
    for cut in (10, 1000, 600_000):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"cut\.aedat4: (expected|is truncated)") as error:
            read(path)
        assert str(cut) in str(error.value) or cut == 10
    for damage in range(3200, len(content), len(content) // 30):
        path.write_bytes(content[:damage] + b"\xff\x00\xff\xff" + content[damage + 4 :])
        with suppress(DataError):
            read(path)
