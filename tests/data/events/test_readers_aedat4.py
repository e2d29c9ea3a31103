"""AEDAT 4: its header and packets, LZ4 in our own code, and Zstandard through faery."""

from __future__ import annotations

import struct
import subprocess
from contextlib import suppress

import numpy as np
import pytest
from aedat4_writer import DESCRIPTION, ZSTANDARD, file, header, lz4_frame, packet, zstandard
from source_files import shared_data

from spikelfp.data.events import Sensor
from spikelfp.data.events.readers import aedat4, faery_process, lz4, read, read_bytes
from spikelfp.data.events.readers.flatbuffers import Table
from spikelfp.data.events.readers.zstandard import bound
from spikelfp.errors import DataError
from spikelfp.untrusted import bounds

EVENTS = [(5, 3, 1, 1), (70, 0, 2, 0), (5000, 63, 47, 1)]


def tuples(found):
    return found.events[["t", "x", "y", "p"]].tolist()


@pytest.mark.parametrize("compression", [0, 1, 2])
def test_events(compression):
    pack = (lambda content: content) if compression == 0 else lz4_frame
    content = file([pack(packet(EVENTS[:2])), pack(packet([])), pack(packet(EVENTS[2:]))], compression)
    found = read_bytes(content, ".aedat4", "here", sensor=Sensor(9, 9, 2))
    assert tuples(found) == EVENTS
    assert found.sensor == Sensor(64, 48, 2)
    assert found.facts["streams"] == {0: "EVTS"}
    outside = file([pack(packet(EVENTS)), pack(packet([(5001, 5, 48, 1)]))], compression)
    with pytest.raises(
        DataError, match=r"here: event 3, in the packet at byte \d+, has y = 48, outside the sensor of 64 x 48"
    ):
        read_bytes(outside, ".aedat4", "here")
    for event, text in (
        ((5, -1, 2, 1), "has x = 65535"),
        ((5, 1, 2, 7), "has p = 7"),
        ((-(2**63), 1, 2, 1), "damaged"),
    ):
        with pytest.raises(DataError, match=text):
            read_bytes(file([pack(packet([event]))], compression), ".aedat4", "here")
    with pytest.raises(DataError, match="here: holds no events"):
        read_bytes(file([], compression), ".aedat4", "here")


def test_cuts_say_where():
    packets = [packet(EVENTS), packet(EVENTS[:1])]
    content = file(packets)
    last = len(content) - len(packets[1]) - 8
    for cut in (1, 4, len(packets[1]) + 7):
        with pytest.raises(DataError, match=rf"is truncated: its last whole packet, of 1, ends at byte {last} of "):
            read_bytes(content[:-cut], ".aedat4", "here")
    start = len(file([]))
    with_index = file(packets[:1], index=start + 8 + len(packets[0])) + b"the index of the packets"
    assert tuples(read_bytes(with_index, ".aedat4", "here")) == EVENTS
    with pytest.raises(
        DataError, match=r"of 1, ends at byte \d+ of \d+; its header puts the end of the packets at 9999"
    ):
        read_bytes(file(packets[:1], index=9999), ".aedat4", "here")


def test_damage_is_told():
    content = file([packet(EVENTS)])
    for cut in (14, 17, 18, 100):
        with pytest.raises(DataError, match="is truncated in its header"):
            read_bytes(content[:cut], ".aedat4", "here")
    for damaged, text in (
        (content.replace(b"DAT4.0", b"DAT5.0"), "expected AEDAT 4, which begins with b'#!AER-DAT4.0"),
        (content[:18] + b"\xff\xff\xff\x7f" + content[22:], "its header is damaged .byte 2147483647"),
        (content.replace(b"<node", b"<!ode"), "its XML has definitions"),
        (content.replace(b"</dv>", b"</vd>"), "its header is damaged .no XML"),
        (content.replace(b"EVTS</attr", b"FRME</attr"), r"has no stream of events \(EVTS\); its streams: FRME"),
        (file([packet(EVENTS)], index=5), "compression 0, index of packets at byte 5"),
        (file([packet(EVENTS)], compression=9), "compression 9, index"),
        (file([b"nothing"], compression=1), r"the packet at byte \d+ is damaged \(no whole frame of LZ4\)"),
        (file([b"nothing"], compression=3), r"the packet at byte \d+ is damaged: no whole frame of Zstandard"),
        (file([packet(EVENTS)[:-1]]), r"the packet at byte \d+ is damaged \(a vector ends at byte"),
        (file([b""]), r"the packet at byte \d+ is damaged"),
    ):
        with pytest.raises(DataError, match=f"^here: .*{text}" if not text.startswith("expected") else text):
            read_bytes(damaged, ".aedat4", "here")
    with pytest.raises(ValueError, match="byte 400"):
        Table(memoryview(struct.pack("<I", 400)))


def test_what_would_fill_the_memory_is_refused(monkeypatch, tmp_path):
    zeros = lz4.MARK + bytes([0x60, 0x70, 0]) + (struct.pack("<I", 20_000) + bytes(20_000)) * 100 + bytes(4)
    bomb = zstandard(*[(1, 1 << 17)] * 3000)
    for content in (file([zeros], 1), file([bomb] * 2, 3)):
        with pytest.raises(
            DataError, match=r"^here: claims \d+ bytes of content in a file of \d+: damaged, or made to f"
        ):
            read_bytes(content, ".aedat4", "here")
    monkeypatch.setattr(bounds, "ALWAYS", 10_000_000_000)
    with pytest.raises(DataError, match="here: AEDAT 4 packed with Zstandard is read from files only; unpack it first"):
        read_bytes(file([bomb] * 2, 3), ".aedat4", "here")


def test_bounds_of_zstandard():
    assert bound(zstandard((0, 100), (1, 100_000), (2, 7))) == 100 + 100_000 + (1 << 17)
    for content in (b"", b"neither", ZSTANDARD, zstandard((3, 1)), zstandard((0, 100), (2, 50))[:-1]):
        assert bound(content) is None


def test_zstandard_without_faery(tmp_path, monkeypatch):
    monkeypatch.setattr(faery_process.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "x.aedat4"
    path.write_bytes(file([zstandard((0, 5))], 3))
    with pytest.raises(
        DataError, match=r"x\.aedat4: is packed with Zstandard, read through faery: pip install 'spikelfp\[eve"
    ):
        read(path)


def test_a_process_of_faery_that_dies(tmp_path, monkeypatch):
    pytest.importorskip("faery")
    path = tmp_path / "x.aedat4"
    path.write_bytes(file([zstandard((0, 5))], 3))
    with pytest.raises(DataError, match=r"x\.aedat4: is damaged: faery cannot read it \("):
        read(path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -6, b"", b"panicked"))
    with pytest.raises(DataError, match=r"x\.aedat4: is damaged: faery cannot read it \(it ended with -6\)"):
        read(path)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_faery_writes(tmp_path, compression):
    faery = pytest.importorskip("faery")
    random = np.random.default_rng(0)
    events = np.zeros(5000, faery.EVENTS_DTYPE)
    events["t"] = np.sort(random.integers(0, 100_000, 5000))
    events["x"], events["y"] = random.integers(0, 8, 5000), random.integers(0, 48, 5000)
    events["on"] = random.integers(0, 2, 5000)
    path = tmp_path / "x.aedat4"
    faery.events_stream_from_array(events, (64, 48)).to_file(path, compression=(compression, 3))
    found = read(path, sensor=Sensor(9, 9, 2))
    assert found.sensor == Sensor(64, 48, 2)
    assert tuples(found) == events.tolist()


def test_samples_with_damage(tmp_path):
    content = (shared_data("event_samples") / "event_samples/sample_davis346.aedat4").read_bytes()
    for cut in (1000, 600_000):
        with pytest.raises(DataError, match=rf"here: is truncated.* of {cut}"):
            read_bytes(content[:cut], ".aedat4", "here")
    for damage in range(3200, len(content), len(content) // 30):
        with suppress(DataError):
            read_bytes(content[:damage] + b"\xff\x00\xff\xff" + content[damage + 4 :], ".aedat4", "here")


def test_the_stream_that_is_read():
    """The lowest number of those of events; other streams are passed over."""
    two = DESCRIPTION.replace('name="0"', 'name="7"').replace("EVTS", "FRME")
    both = DESCRIPTION.replace("</node></dv>", two[two.index('<node name="7"') :])
    frames = struct.pack("<II", 7, 3) + b"abc"
    content = (
        b"#!AER-DAT4.0\r\n" + header(0, -1, both) + frames + struct.pack("<II", 0, len(packet(EVENTS))) + packet(EVENTS)
    )
    found = read_bytes(content, ".aedat4", "here")
    assert tuples(found) == EVENTS
    assert found.facts["streams"] == {0: "EVTS", 7: "FRME"}
    assert aedat4.read_header(content, "here").compression == "none"
