"""The fast decoders against writers of their formats and against decoders that go event by event."""

from __future__ import annotations

from functools import partial

import event_writers as write
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import event_files as slow

from spikelfp.data.events import EVENT, Sensor
from spikelfp.data.events.readers import read_bin, read_bytes
from spikelfp.data.events.readers.raw import decode_evt3
from spikelfp.errors import DataError

CAMERA = Sensor(1280, 720, 2)
FEW = settings(max_examples=25, deadline=None)


def tuples(events):
    return [(int(t), int(x), int(y), int(p)) for t, x, y, p in events[["t", "x", "y", "p"]].tolist()]


def in_order(events):
    return sorted(events, key=lambda event: event[0])  # a stable sort


def body(content, marks=b"%#"):
    """The bytes behind the lines of a header."""
    while content[:1] and content[:1] in (marks[:1], marks[1:]):
        content = content[content.index(b"\n") + 1 :]
    return content


@FEW
@given(write.event_lists(304, 240, 2**23 - 1, gap=200_000).map(lambda e: [(t, x % 256, y, p) for t, x, y, p in e]))
def test_atis_bin(events):
    found = read_bin(write.atis_bin(events), "here")
    assert found.events.dtype == EVENT
    assert tuples(found.events) == events == slow.atis_bin(write.atis_bin(events))
    assert (found.sensor.width, found.sensor.height) == (max(e[1] for e in events) + 1, max(e[2] for e in events) + 1)


@FEW
@given(
    st.lists(
        st.tuples(st.integers(0, 90_000), st.integers(0, 255), st.integers(0, 255), st.integers(0, 1)), max_size=30
    )
)
def test_atis_bin_with_overflows_and_small_disorder(events):
    content = write.atis_bin([*events, (5, 6, 240, 0), (5, 6, 7, 1)])
    expected = in_order(slow.atis_bin(content))
    assert expected[-1][0] >= 2**13
    assert tuples(read_bytes(content, ".bin", "here").events) == expected


@FEW
@given(write.event_lists(65536, 1, 2**23 - 1, gap=200_000), st.randoms())
def test_bs1_in_any_order(events, random):
    random.shuffle(events)
    content = write.bs1(events)
    found = read_bytes(content, ".bs1", "here")
    signs = {event[3] for event in events}
    expected = in_order(slow.bs1(content))
    assert tuples(found.events) == (expected if len(signs) == 2 else [(t, x, y, 0) for t, x, y, _ in expected])
    assert found.sensor == Sensor(max(e[1] for e in events) + 1, 1, len(signs) if len(signs) == 2 else 1)


@pytest.mark.parametrize(("version", "size"), [(2, (1280, 720)), (1, (304, 240))])
@FEW
@given(data=st.data())
def test_dat(version, size, data):
    events = data.draw(write.event_lists(*size, 2**40, gap=2**31 - 1))
    content = write.dat(events, version, size)
    found = read_bytes(content, ".dat", "here")
    assert tuples(found.events) == events == slow.dat(body(content)[2:], version)  # the clock of 32 bits turns
    assert found.sensor == Sensor(*size, 2)


WRITERS = {
    "2": (write.evt2_words, slow.evt2),
    "2.1": (write.evt21_words, slow.evt21),
    "3": (write.evt3_words, slow.evt3),
}


@pytest.mark.parametrize("encoding", WRITERS)
@FEW
@given(data=st.data())
def test_raw(encoding, data):
    events = data.draw(write.event_lists(1280, 720, 2**36, gap=2**22 if encoding == "3" else 2**33 - 2**7))
    writer, decoder = WRITERS[encoding]
    shift = events[0][0] // 2**24 * 2**24 if encoding == "3" else events[0][0] // 2**34 * 2**34  # turns before: unknown
    events = [(t - shift, x, y, p) for t, x, y, p in events]
    header = f"% format EVT{encoding};height=720;width=1280\n% end\n"
    content = write.raw(writer(events), encoding, header)
    found = read_bytes(content, ".raw", "here")
    assert found.sensor == CAMERA
    assert tuples(found.events) == events == decoder(content[len(write.PROPHESEE + header) :])


@FEW
@given(write.event_lists(1280, 720, 2**24 - 1))
def test_evt3_vectors(events):
    content = write.raw(write.evt3_words(events, vectors=True), "3")
    assert tuples(read_bytes(content, ".raw", "here", sensor=CAMERA).events) == events


@pytest.mark.parametrize("encoding", WRITERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_words(encoding, data):
    """Words of all kinds in any sequence, as after a lost buffer: what is decoded is what the slow decoder finds."""
    width = {"2": 32, "2.1": 64, "3": 16}[encoding]
    kinds = [0, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15] if encoding == "3" else [0, 1, 8, 10, 14, 15]
    word = st.tuples(st.sampled_from(kinds), st.integers(0, 2 ** (width - 4) - 1))
    content = data.draw(st.lists(word.map(lambda pair: pair[0] << (width - 4) | pair[1]), min_size=1, max_size=60))
    header = f"% evt {encoding}\n% end\n"
    file = write.raw(content, encoding, header)
    expected = WRITERS[encoding][1](file[len(write.PROPHESEE + header) :])
    times = np.array([event[0] for event in expected] or [0])
    disorder = int((np.maximum.accumulate(times) - times).max())
    read = partial(read_bytes, file, ".raw", "here", sensor=Sensor(2048, 2048, 2))
    if expected and disorder <= 100_000 and all(event[1] < 2048 for event in expected):
        assert tuples(read().events) == in_order(expected)
    else:
        with pytest.raises(DataError, match=r"^here: (event \d+, .*(outside the sensor|µs behind)|holds no events)"):
            read()


@FEW
@given(write.event_lists(640, 480, 2**22))
def test_evt21_of_the_older_byte_order(events):
    swapped = [word >> 32 | (word & 0xFFFFFFFF) << 32 for word in write.evt21_words(events)]
    content = write.raw(swapped, "2.1", "% format EVT21;endianness=legacy;height=480;width=640\n")
    assert tuples(read_bytes(content, ".raw", "here").events) == events


def test_what_stands_before_the_clock_is_left_out_and_counted():
    events = [(70, 5, 6, 1), (80, 7, 8, 0)]
    for encoding, lost in (("2", 1 << 28), ("2.1", 0x7 | 1 << 60), ("3", 2 << 12)):
        words = [lost, *WRITERS[encoding][0](events)]
        found = read_bytes(write.raw(words, encoding), ".raw", "here")
        assert tuples(found.events) == events
        assert found.facts["before_clock"] == (3 if encoding == "2.1" else 1)


def test_evt3_low_time_that_falls_back():
    """EVT_TIME_LOW alone is no turn of the clock, unless asked for: expelliarmus takes each fall for one."""
    words = np.array([0x8001, 0x6010, 0x0005, 0x2001, 0x600A, 0x2002, 0x8002, 0x6000, 0x2003], "<u2")
    times = lambda **how: decode_evt3(words, 0, "here", CAMERA, **how).events["t"].tolist()  # noqa: E731
    assert times() == [0x1010, 0x100A, 0x2000]
    assert times(carry=True) == [0x1010, 0x200A, 0x4000]


@pytest.mark.parametrize(
    ("chip", "size"), [("DVS128", (128, 128)), ("DAVIS240C", (240, 180)), ("Davis346B", (346, 260))]
)
@FEW
@given(data=st.data())
def test_aedat2(chip, size, data):
    events = data.draw(write.event_lists(*size, 2**40, gap=2**31 - 1))
    special = (0x8000 if chip == "DVS128" else 0x400).to_bytes(4, "big") + events[0][0].to_bytes(4, "big")
    content = write.aedat2(events, chip, extra=special)
    found = read_bytes(content, ".aedat", "here")
    assert tuples(found.events) == events == slow.aedat2(body(content), chip)
    assert found.sensor == Sensor(*size, 2)
    assert found.facts["no_pixel"] == 1


@FEW
@given(write.event_lists(128, 128, 2**31))
def test_aedat2_without_a_chip_and_aedat1(events):
    for content in (write.aedat2(events, chip=None), write.aedat2(events, version="1.0")):
        found = read_bytes(content, ".aedat", "here")
        assert tuples(found.events) == events
        assert found.sensor == Sensor(128, 128, 2)


@FEW
@given(write.event_lists(128, 128, 2**31 - 1), st.integers(0, 39), st.integers(0, 3))
def test_aedat3(events, cut, room):
    events = [(t, x, y, p) for t, x, y, p in events]
    packets = [
        write.aedat3_packet([(0, 0, 0, 0)] * 2, kind=0),
        write.aedat3_packet(events[:cut], room=room),
        write.aedat3_packet(events[:1], valid=0),
        write.aedat3_packet(events[cut:], room=room),
    ]
    content = write.aedat3(packets)
    found = read_bytes(content, ".aedat", "here")
    assert tuples(found.events) == events == slow.aedat3(body(content))
    assert found.facts["invalid"] == 1
    assert found.sensor == Sensor(128, 128, 2)


def test_records_that_begin_like_a_line_of_the_header():
    """The first byte of an address can be a '#', and of a word a '%'."""
    for y in range(116, 120):
        content = write.aedat2([(5, 200, y, 1), (10, 1, 2, 0)], "Davis346B")
        assert content[content.index(b"Davis346B\r\n") + 11] == ord("#")
        assert tuples(read_bytes(content, ".aedat", "here").events) == [(5, 200, y, 1), (10, 1, 2, 0)]
    content = write.raw([0x0025, 0x8001, 0x6000, 0x2003], "3")
    assert tuples(read_bytes(content, ".raw", "here").events) == [(4096, 3, 0x25, 0)]


def test_aedat3_overflow_of_time_and_rows_from_below():
    packets = [write.aedat3_packet([(2**31 - 1, 1, 2, 1)]), write.aedat3_packet([(3, 1, 2, 1)], overflow=1)]
    found = read_bytes(write.aedat3(packets), ".aedat", "here")
    assert tuples(found.events) == [(2**31 - 1, 1, 2, 1), (2**31 + 3, 1, 2, 1)]
    found = read_bytes(write.aedat3(packets, "3.0", "DAVIS240C"), ".aedat", "here")
    assert tuples(found.events) == [(2**31 - 1, 1, 177, 1), (2**31 + 3, 1, 177, 1)]


@FEW
@given(write.event_lists(320, 240, 2**22, gap=1000), st.integers(0, 5))
def test_event_stream(events, resets):
    content = write.event_stream(events, 320, 240) + b"\xfe" * resets
    found = read_bytes(content, ".es", "here")
    assert tuples(found.events) == events == slow.event_stream(content[20:], 240)
    assert found.sensor == Sensor(320, 240, 2)
