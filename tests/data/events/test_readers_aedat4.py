"""AEDAT 4: its header and packets, and frames of LZ4 and Zstandard."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
import pytest
from aedat4_writer import DESCRIPTION, file, header, lz4_frame, packet, zstandard_frame, zstandard_zeros
from hypothesis import given, settings
from hypothesis import strategies as st
from source_files import shared_data

from spikelfp.data.events import FileLayout, Sensor
from spikelfp.data.events.readers import aedat4, read, read_bytes
from spikelfp.errors import DataError
from spikelfp.untrusted import ALWAYS

PACKS = [lambda content: content, lz4_frame, lz4_frame, zstandard_frame, zstandard_frame]
EVENTS = [(5, 3, 1, 1), (70, 0, 2, 0), (5000, 63, 47, 1)]


def tuples(found):
    return found.events[["t", "x", "y", "p"]].tolist()


@pytest.mark.parametrize("compression", range(5))
def test_events(compression):
    pack = PACKS[compression]
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
        (content[:18] + b"\xff\xff\xff\x7f" + content[22:], r"its header is damaged \(.*offset 2147483647"),
        (content.replace(b"<node", b"<!ode"), "its XML has definitions"),
        (content.replace(b"</dv>", b"</vd>"), "its header is damaged .no XML"),
        (content.replace(b"EVTS</attr", b"FRME</attr"), r"has no stream of events \(EVTS\); its streams: FRME"),
        (file([packet(EVENTS)], index=5), "compression 0, index of packets at byte 5"),
        (file([packet(EVENTS)], compression=9), "compression 9, index"),
        (file([b"nothing"], compression=1), r"the packet at byte \d+ is damaged \(LZ4F_getFrameInfo failed"),
        (file([b"nothing"], compression=3), r"the packet at byte \d+ is damaged \(error when determining content"),
        (file([lz4_frame(packet(EVENTS))[:-1]], compression=1), r"\d+ is damaged \(its frame is truncated\)"),
        (file([zstandard_frame(packet(EVENTS))[:-1]], compression=3), r"\d+ is damaged \(its frame is truncated\)"),
        (file([packet(EVENTS)[:-1]]), r"the packet at byte \d+ is damaged \(a vector ends at byte"),
        (file([b""]), r"the packet at byte \d+ is damaged"),
    ):
        with pytest.raises(DataError, match=f"^here: .*{text}" if not text.startswith("expected") else text):
            read_bytes(damaged, ".aedat4", "here")


@pytest.mark.parametrize("codec", ["LZ4", "Zstandard"])
def test_what_would_fill_the_memory_is_refused(codec, monkeypatch):
    """Frames that say their size before anything is decompressed, others after at most 16 MiB more than the bound."""
    number, zeros = (1, bytes(ALWAYS + 1)) if codec == "LZ4" else (3, bytes(ALWAYS + 1))
    said = PACKS[number](zeros)
    silent = lz4_frame(zeros, store_size=False) if codec == "LZ4" else zstandard_zeros((ALWAYS >> 20) + 1)
    own = aedat4._codec(codec)
    made = []

    class Counted:
        def __init__(self):
            self.own, self.bytes = own.decompressor(), 0
            made.append(self)

        def decompress(self, piece):
            found = self.own.decompress(piece)
            assert len(found) <= 17 << 20
            self.bytes += len(found)
            return found

        @property
        def eof(self):
            return self.own.eof

    monkeypatch.setattr(aedat4, "_codec", lambda compression: own._replace(decompressor=Counted))
    for frame, most in ((said, 0), (silent, ALWAYS + (17 << 20))):
        made.clear()
        with pytest.raises(
            DataError, match=r"^here: claims \d+ bytes of content in a file of \d+: damaged, or made to f"
        ):
            read_bytes(file([frame], number), ".aedat4", "here")
        assert sum(each.bytes for each in made) <= most


def test_packets_share_one_bound():
    table = struct.pack("<I4sHHH", 16, b"EVTS", 6, 8, 4) + bytes(2) + struct.pack("<iII", 8, 4, 0)
    whole = zstandard_frame(struct.pack("<I", len(table)) + table + bytes((ALWAYS >> 1) + 1))
    with pytest.raises(DataError, match="holds no events"):
        read_bytes(file([whole], 3), ".aedat4", "here")
    with pytest.raises(DataError, match="here: claims"):
        read_bytes(file([whole, whole], 3), ".aedat4", "here")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([1, 3]), st.data())
def test_damaged_frames(number, data):
    """A frame with a byte changed is refused, or holds events of the sensor; no other error."""
    frame = bytearray(PACKS[number](packet(EVENTS * 20)))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del frame[data.draw(st.integers(1, len(frame))) :]
    with suppress(DataError):
        found = read_bytes(file([bytes(frame)], number), ".aedat4", "here")
        assert found.events["x"].max() < 64


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
    other = content.replace(b"FRME", b"EVTS").replace(
        frames, struct.pack("<II", 7, len(packet(EVENTS[:2]))) + packet(EVENTS[:2])
    )
    assert tuples(read_bytes(other, ".aedat4", "here")) == EVENTS
    assert tuples(read_bytes(other, ".aedat4", "here", layout=FileLayout(table="7"))) == EVENTS[:2]
    with pytest.raises(DataError, match=r"has no stream '7' of events; its streams of events: \[0\]"):
        read_bytes(content, ".aedat4", "here", layout=FileLayout(table="7"))
