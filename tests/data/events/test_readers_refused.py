"""Files that are missing, cut, mislabelled or inconsistent: one line that says which file, what is wrong, and where."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from functools import partial

import event_writers as write
import numpy as np
import pytest

from spikelfp.data.events import Sensor
from spikelfp.data.events.readers import Recording, can_read, finish, pack, read, read_bin, read_bytes, suffixes
from spikelfp.errors import DataError

EVENTS = [(5, 3, 1, 1), (70, 0, 2, 0), (5000, 3, 0, 1)]
GOOD = {
    ".bin": write.atis_bin(EVENTS),
    ".bs1": write.bs1(EVENTS),
    ".dat": write.dat(EVENTS),
    ".raw": write.raw(write.evt3_words(EVENTS), "3"),
    ".aedat": write.aedat2(EVENTS),
    ".es": write.event_stream(EVENTS, 320, 240),
}
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10\x08\x02\0\0\0"


def refused(content, suffix, text, **more):
    with pytest.raises(DataError, match=text) as error:
        read_bytes(content, suffix, "here", **more)
    assert str(error.value).startswith("here: ")
    assert "\n" not in str(error.value)


def test_suffixes():
    known = ".aedat, .aedat4, .bin, .bs1, .csv, .dat, .es, .h5, .hdf5, .mat, .npy, .npz, .raw, .txt"
    assert ", ".join(suffixes) == known
    assert can_read("a/b.RAW")
    assert not can_read("a/b.png")
    refused(b"x", ".png", rf"^here: no reader for files that end in '\.png': choose from {known}$")


def test_readers_can_be_added(monkeypatch):
    monkeypatch.setattr(suffixes, "_entries", dict(suffixes._entries))

    @suffixes.register(".one")
    def read_one(source, sensor):
        return finish(source.where, pack(source.where, np.array([len(source.data)]), np.array([1])), sensor, {})

    assert can_read("x.one")
    assert isinstance(read_bytes(b"abc", ".ONE", "here"), Recording)


def test_files(tmp_path):
    with pytest.raises(DataError, match=r"missing\.bin: cannot be read \(No such file"):
        read(tmp_path / "missing.bin")
    (tmp_path / "folder.raw").mkdir()
    with pytest.raises(DataError, match=r"folder\.raw: cannot be read \(Is a directory"):
        read(tmp_path / "folder.raw")
    for suffix in suffixes:
        (tmp_path / f"nothing{suffix}").touch()
        with pytest.raises(DataError, match=rf"nothing{suffix}: is empty"):
            read(tmp_path / f"nothing{suffix}")
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / "nul\0.bin"))
    os.symlink("/dev/zero", tmp_path / "zero.bin")
    with pytest.raises(DataError, match=r"zero\.bin: cannot be read \(no file but a device"):
        read(tmp_path / "zero.bin")


@pytest.mark.parametrize("suffix", GOOD)
def test_every_cut_is_refused_or_ends_between_two_events(suffix):
    """What is left of a file in front of a cut is never other events than those of the whole."""
    content = GOOD[suffix]
    read_part = partial(read_bytes, suffix=suffix, where="here", sensor=Sensor(128, 128, 2))
    whole = read_part(content).events.tolist()
    lengths = set()
    for cut in range(1, len(content)):
        with suppress(DataError):
            found = read_part(content[:cut]).events.tolist()
            assert found == whole[: len(found)]
            lengths.add(len(found))
    assert lengths <= {1, 2, 3}
    assert 3 not in lengths or suffix == ".es"


@pytest.mark.parametrize("suffix", [*(each for each in suffixes if each not in (".bin", ".bs1")), ".aedat4"])
def test_files_of_another_kind(suffix, tmp_path):
    path = tmp_path / f"picture{suffix}"
    for content in (PNG, pickle.dumps([1, 2, 3]), bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"picture{suffix}: ") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_places_of_cuts():
    refused(GOOD[".bin"][:-2], ".bin", "13 bytes are no multiple of 5: truncated, the last whole event ends at byte 10")
    refused(GOOD[".bs1"][:-4], ".bs1", "11 bytes are no multiple of 5: truncated, the last whole spike ends at byte 10")
    refused(GOOD[".dat"][:-3], ".dat", r"is truncated: the last whole event ends at byte 30 of 35")
    refused(GOOD[".dat"][:13], ".dat", "is truncated in its header")
    refused(GOOD[".raw"][:-1], ".raw", r"is truncated: the last whole word of EVT 3 ends at byte \d+ of \d+")
    refused(GOOD[".aedat"][:-1], ".aedat", r"is truncated: the last whole event ends at byte \d+ of \d+ \(events of 8 ")
    refused(GOOD[".es"][:-1], ".es", "is truncated: the last whole event ends at byte")
    refused(GOOD[".es"][:17], ".es", "is truncated in its header: 17 of 20 bytes")
    packets = [write.aedat3_packet(EVENTS), write.aedat3_packet(EVENTS)]
    content = write.aedat3(packets)
    end = len(content) - len(packets[1])
    refused(content[:-1], ".aedat", rf"the last whole packet ends at byte {end} of {len(content) - 1}, the next needs")
    refused(content[: end + 9], ".aedat", rf"the last whole packet ends at byte {end} of {end + 9}")


def test_events_outside_the_sensor_say_where():
    small = Sensor(2, 2, 2)
    refused(
        GOOD[".bin"],
        ".bin",
        r"event 0, at byte 0, has x = 3, outside the sensor of 2 x 2 pixels, 2 polarities \(0 to 1",
        sensor=small,
    )
    refused(GOOD[".bin"], ".bin", "has p = 1, outside the sensor", sensor=Sensor(9, 9, 1))
    refused(write.dat(EVENTS, size=(4, 2)), ".dat", r"event 1, at byte 43, has y = 2, outside the sensor of 4 x 2")
    for encoding, words in (("2", write.evt2_words), ("2.1", write.evt21_words), ("3", write.evt3_words)):
        content = write.raw(words(EVENTS), encoding, f"% evt {encoding}\n% geometry 3x3\n")
        refused(content, ".raw", r"event 0, (at|in the word at) byte \d+,.* x")
        content = write.raw(words(EVENTS), encoding, f"% evt {encoding}\n% geometry 9x2\n")
        refused(content, ".raw", r"event 1, (at|in the word at) byte \d+, has y = 2")
    content = write.event_stream([(1, 3, 1, 1), (2, 9, 0, 1), (3, 1, 1, 1)], 4, 4)
    refused(content, ".es", "event 1, at byte 25, has x = 9 and y = 3 from below, outside the 4 x 4 pixels")
    outside = write.aedat2([(5, -200, 3, 1)], "DAVIS240C")
    refused(outside, ".aedat", r"event 0, at byte 108, has x = -200, expected 0 to 65535")
    refused(
        write.aedat3([write.aedat3_packet([(1, 128, 0, 0)])]), ".aedat", r"event 0, at byte \d+, has x = 128, outside"
    )


def test_times_far_out_of_order_are_refused_and_near_ones_sorted():
    near = [(200_000, 1, 1, 1), (100_000, 2, 2, 0), (100_000, 3, 3, 0), (200_000, 4, 4, 1)]
    far = [(200_001, 1, 1, 1), (100_000, 2, 2, 0)]
    for suffix, writer in ((".bin", write.atis_bin), (".dat", write.dat), (".aedat", write.aedat2)):
        found = read_bytes(writer(near), suffix, "here")
        assert found.events["x"].tolist() == [2, 3, 1, 4]
        assert found.facts["disordered"] == 2
        refused(
            writer(far), suffix, r"event 1, at byte \d+, is of 100000 µs, 100001 µs behind an earlier one; at most 10"
        )
    refused(write.raw(write.evt2_words(far), "2"), ".raw", r"event 1, at byte \d+, is of 100000 µs, 100001 µs behind")
    refused(write.raw(write.evt3_words(far), "3"), ".raw", r"event 1, in the word at byte \d+, is of 100000 µs")
    refused(write.aedat3([write.aedat3_packet(far)]), ".aedat", r"event 1, at byte \d+, is of 100000 µs")
    assert read_bytes(write.bs1(far), ".bs1", "here").events["t"].tolist() == [100_000, 200_001]


def test_no_events():
    refused(write.dat([]), ".dat", "holds no events")
    refused(write.raw([], "3"), ".raw", "holds no events")
    refused(write.raw([0x8001, 0x6002, 5], "3"), ".raw", "holds no events")
    refused(write.aedat2([]), ".aedat", "holds no events")
    refused(write.aedat3([]), ".aedat", "holds no events")
    refused(write.aedat3([write.aedat3_packet([(1, 1, 1, 1)], valid=0)]), ".aedat", "holds no events")
    refused(write.event_stream([], 4, 4), ".es", "holds no events")
    refused(bytes([1, 240, 0, 0, 0]), ".bin", "holds no events")


def test_headers():
    words = write.evt3_words(EVENTS)
    refused(GOOD[".bin"], ".dat", "expected a Prophesee DAT, which begins with lines of '%', found")
    refused(write.dat(EVENTS, kind=14), ".dat", "byte 12 says events of kind 14 and 8 bytes; kinds 0")
    refused(
        GOOD[".dat"].replace(b"Version 2", b"Version 7"),
        ".dat",
        "expected a DAT of version 1 or 2, its header says '7'",
    )
    refused(GOOD[".bin"], ".raw", "expected a Prophesee RAW, which begins with lines of '% '")
    refused(write.raw(words, "3", ""), ".raw", "its header does not say how it is encoded; EVT 2, 2.1 and 3 are read")
    refused(write.raw(words, "3", "% evt 4.0\n"), ".raw", "its header says '4.0'")
    refused(write.raw(words, "3", "% format AER;width=3\n"), ".raw", "its header says 'AER;width=3'")
    refused(write.raw(words, "3", "% format EVT3;endianness=big\n"), ".raw", "words of endianness 'big' are not read")
    refused(
        write.raw([0x8001, 0x1000], "3"), ".raw", r"the word at byte \d+ is of the reserved kind 0x1: damaged or misl"
    )
    refused(write.raw([0x8 << 28, 0x2 << 28], "2"), ".raw", "is of the reserved kind 0x2")
    refused(write.raw([0x8 << 60, 0xB << 60], "2.1"), ".raw", "is of the reserved kind 0xb")
    refused(GOOD[".bin"], ".aedat", "expected AEDAT, which begins with '#!AER-DAT', found")
    refused(b"#!AER-DAT4.0\r\nxyz", ".aedat", "of AEDAT version 4.0; rename it to end in .aedat4 and it is read")
    refused(b"#!AER-DAT7.0\r\nxyz", ".aedat", "of AEDAT version '7.0'; 1.0, 2.0, 3.0 and 3.1 are read")
    refused(
        write.aedat2(EVENTS).replace(b"DVS128", b"CochleaAMS1c"),
        ".aedat",
        "is of the chip .*CochleaAMS1c'; addresses of",
    )
    davis = write.aedat2(EVENTS, "DAVIS240C").replace(b"# AEChip", b"# Nothing")
    refused(davis, ".aedat", r"names no chip \('?line|names no chip")
    refused(davis, ".aedat", "none has the sensor 9 x 9 pixels", sensor=Sensor(9, 9, 2))
    assert read_bytes(davis, ".aedat", "here", sensor=Sensor(240, 180, 2)).events["x"].tolist() == [3, 0, 3]
    refused(write.aedat3([], "3.1").replace(b"#!END-HEADER\r\n", b""), ".aedat", "has no line '#!END-HEADER'")
    refused(
        write.aedat3([write.aedat3_packet(EVENTS)], "3.0", "Other"),
        ".aedat",
        "counts rows from below, and its source is not known: state",
    )
    for change, text in (
        (
            struct.pack("<hhiiiiii", 1, 1, 16, 4, 0, 1, 1, 1) + bytes(16),
            "polarity events of 16 bytes with their time at 4",
        ),
        (struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 1, 2, 1) + bytes(16), "is damaged: kind 1, 2 of 1 events of 8 bytes"),
        (struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 2**31 - 1, 1, 1), "is truncated: the last whole packet ends at byte"),
        (struct.pack("<hhiiiiii", 1, 1, 0, 4, 0, 5, 5, 5), "is damaged"),
    ):
        refused(write.aedat3([change]), ".aedat", text)
    refused(write.event_stream(EVENTS, 0, 240), ".es", "its header says a sensor of 0 x 240 pixels")
    refused(write.event_stream(EVENTS, 320, 240, kind=9), ".es", "holds 9 events of Event Stream 2.0.0")


def test_sensors_of_headers_come_first():
    assert read_bytes(write.dat(EVENTS, size=(304, 240)), ".dat", "here", sensor=Sensor(9, 9, 2)).sensor == Sensor(
        304, 240, 2
    )
    assert read_bytes(GOOD[".dat"], ".dat", "here", sensor=Sensor(9, 9, 2)).sensor == Sensor(9, 9, 2)
    assert read_bytes(GOOD[".dat"], ".dat", "here").sensor == Sensor(4, 3, 2)
    words = write.evt3_words(EVENTS)
    for header, width in (
        ("% evt 3.0\n% plugin_name hal_plugin_gen31_fx3\n", 640),
        ("% evt 3.0\n% sensor_name IMX636\n", 1280),
    ):
        assert read_bytes(write.raw(words, "3", header), ".raw", "here").sensor.width == width
    assert read_bytes(write.raw(words, "3", "% evt 3.0\n% geometry 0x99999\n"), ".raw", "here").sensor == Sensor(
        4, 3, 2
    )
    assert read_bin(GOOD[".bin"], "here", sensor=Sensor(34, 34, 2)).sensor == Sensor(34, 34, 2)
