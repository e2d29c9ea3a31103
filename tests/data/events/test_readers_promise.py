"""One promise for every decoder: the same order, counts and times for the same events, whatever packs them."""

from __future__ import annotations

import io
import struct

import aedat4_writer
import event_writers as write
import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.data.events import Sensor, load_recordings
from spikelfp.data.events.readers import read_bytes, read_stated
from spikelfp.errors import DataError, UserError

CAMERA = Sensor(64, 48, 2)


def saved(save, *arguments, **more):
    buffer = io.BytesIO()
    save(buffer, *arguments, **more)
    return buffer.getvalue()


def columns(events):
    return dict(zip("txyp", np.array(events).T, strict=True))


def structured(events):
    table = np.array([tuple(event) for event in events], "i8,i8,i8,i8")
    table.dtype.names = ("t", "x", "y", "p")
    return table


def hdf5(events):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, column in columns(events).items():
            file.create_dataset(
                f"events/{name}", data=column, chunks=(1 + len(events) // 3,), compression="gzip", shuffle=True
            )
    return buffer.getvalue()


def packets(events):
    """AEDAT 4 in packets of five events."""
    return [aedat4_writer.packet(events[start : start + 5]) for start in range(0, len(events), 5)]


PACKINGS = {
    "bin": (".bin", write.atis_bin),
    "dat": (".dat", write.dat),
    "evt 2": (".raw", lambda events: write.raw(write.evt2_words(events), "2")),
    "evt 2.1": (".raw", lambda events: write.raw(write.evt21_words(events), "2.1")),
    "evt 3": (".raw", lambda events: write.raw(write.evt3_words(events), "3")),
    "aedat 2": (".aedat", lambda events: write.aedat2(events, "DAVIS240C")),
    "aedat 3.1": (".aedat", lambda events: write.aedat3([write.aedat3_packet(events)], source="Other")),
    "aedat 4": (".aedat4", lambda events: aedat4_writer.file(packets(events))),
    "aedat 4, LZ4": (
        ".aedat4",
        lambda events: aedat4_writer.file([aedat4_writer.lz4_frame(each) for each in packets(events)], 1),
    ),
    "aedat 4, Zstandard": (
        ".aedat4",
        lambda events: aedat4_writer.file([aedat4_writer.zstandard_frame(each) for each in packets(events)], 3),
    ),
    "npy": (".npy", lambda events: saved(np.save, structured(events))),
    "npz": (".npz", lambda events: saved(np.savez_compressed, **columns(events))),
    "hdf5": (".h5", hdf5),
    "mat": (".mat", lambda events: saved(scipy.io.savemat, columns(events))),
    "csv": (".csv", lambda events: ("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in events)).encode()),
}


@settings(max_examples=40, deadline=None)
@given(write.event_lists(64, 48, 2**20, gap=9000, most=30), st.data())
def test_the_same_events_in_the_order_of_their_times(events, data):
    """Disorder within the slack is sorted, equal times keep the order of the file, and the late ones are counted."""
    for place in data.draw(st.lists(st.integers(1, len(events) - 1), max_size=4)) if len(events) > 1 else ():
        if events[place][0] - events[place - 1][0] < 90_000:
            events[place - 1], events[place] = events[place], events[place - 1]
    expected = sorted(events, key=lambda event: event[0])
    latest, late = 0, 0
    for t, *_ in events:
        late += t < latest
        latest = max(latest, t)
    for name, (suffix, pack) in PACKINGS.items():
        found = read_bytes(pack(events), suffix, "here", sensor=CAMERA)
        assert found.events[["t", "x", "y", "p"]].tolist() == expected, name
        assert found.facts.get("disordered", 0) == late, name


def again(gap=0, count=60, offset=0):
    """A recording of 12 ms, and after it the same one from the beginning of its clock."""
    one = [(200 * i, i % 60, i % 40, i % 2) for i in range(count)]
    return one + [(t + offset, x, y, p) for t, x, y, p in one[: count - gap]]


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_clock_that_starts_again_within_the_slack_is_refused(packing):
    suffix, pack = PACKINGS[packing]
    for events in (again(), again(gap=20), again(gap=40), again(offset=300)):
        with pytest.raises(
            DataError, match=r"event 60.* is of (0|300) µs, where the clock starts again after 11800 µs"
        ):
            read_bytes(pack(events), suffix, "here", sensor=Sensor(240, 180, 2))


def test_packets_that_change_places_are_sorted():
    one = [(200 * i, i % 60, i % 40, i % 2) for i in range(60)]
    swapped = one[:20] + one[40:] + one[20:40]
    found = read_bytes(write.dat(swapped), ".dat", "here")
    assert found.events["t"].tolist() == [event[0] for event in one]
    assert found.facts["disordered"] == 20


def test_a_stray_pixel_is_no_sensor():
    events = [(10 * i, 7 * i % 1280, 11 * i % 720, i % 2) for i in range(3000)]
    stray = [*events[:1500], (15_000, 5, 33_014, 1), *events[1501:]]
    content = saved(np.save, structured(stray))
    with pytest.raises(
        DataError,
        match=r"event 1500, at byte \d+, has y = 33014, but 2,999 of 3,000 events lie below 720: damaged, or st",
    ):
        read_bytes(content, ".npy", "here")
    with pytest.raises(DataError, match=r"event 1500, at byte \d+, has y = 33014, outside the sensor of 1280 x 720"):
        read_bytes(content, ".npy", "here", sensor=Sensor(1280, 720, 2))
    assert read_bytes(content, ".npy", "here", sensor=Sensor(1280, 65536, 2)).sensor.height == 65536
    wide = [*events[:1500], (15_000, 5, 1400, 1), *events[1501:]]  # not twice as far
    assert read_bytes(saved(np.save, structured(wide)), ".npy", "here").sensor.height == 1401


# AEDAT 2 without a chip


def davis(events, width, height, line=b"# by hand\r\n"):
    body = b"".join(
        struct.pack(">II", (height - 1 - y) << 22 | (width - 1 - x) << 12 | p << 11, t) for t, x, y, p in events
    )
    return b"#!AER-DAT2.0\r\n" + line + body


V2E = b"# This is a raw AE data file created by AEDat2Output in v2e (see https://example.org)\r\n"
EVENTS = [(10 * i, 3 * i % 346, i % 260, i % 2) for i in range(200)]


def test_aedat_2_of_v2e_in_a_folder(tmp_path, monkeypatch):
    """v2e writes 346 x 260 or 240 x 180 pixels: events outside the smaller one tell the larger."""
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("a/1", "a/2", "b/1", "b/2")):
        path = tmp_path / "data" / f"{name}.aedat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(davis(EVENTS[number:], 346, 260, V2E))
    splits = load_recordings(f"folder:{tmp_path / 'data'}")
    assert splits.train.sensor == Sensor(346, 260, 2)
    assert splits.train.read(0)[["t", "x", "y", "p"]].tolist()[-1] == EVENTS[-1]
    (tmp_path / "data/a/1.aedat").write_bytes(davis(EVENTS, 346, 260))
    with pytest.raises(
        DataError, match=r"names no chip .*its events take 346 x 260 pixels.* one of --sensor 346x260, --s"
    ):
        load_recordings(f"folder:{tmp_path / 'data'}")
    splits = load_recordings(f"folder:{tmp_path / 'data'}", sensor=Sensor(346, 260, 2))
    assert splits.train.read(0)[["t", "x", "y", "p"]].tolist()[-1] == EVENTS[-1]
    with pytest.raises(DataError, match=r"has x = -\d+, expected"):
        load_recordings(f"folder:{tmp_path / 'data'}", sensor=Sensor(240, 180, 2))


def test_aedat_2_larger_than_the_sensor_loses_no_event_in_silence():
    wide = davis([(10 * i, i % 640, i % 480, 1) for i in range(700)], 640, 480)
    assert read_bytes(wide, ".aedat", "here").sensor == Sensor(640, 480, 2)
    for size, text in (
        (Sensor(128, 128, 2), r"\d+ of 700 addresses have more bits than those of the 128 x 128 pixels"),
        (Sensor(346, 260, 2), r"has x = -\d+, expected 0 to 65535"),
    ):
        with pytest.raises(DataError, match=text):
            read_bytes(wide, ".aedat", "here", sensor=size)
    small = davis([(10 * i, i % 240, i % 180, 1) for i in range(300)], 240, 180, V2E)
    with pytest.raises(DataError, match=r"state the sensor, one of --sensor 240x180, --sensor 346x260$"):
        read_bytes(small, ".aedat", "here")
    assert read_bytes(small, ".aedat", "here", sensor=Sensor(240, 180, 2)).events["x"].tolist()[:3] == [0, 1, 2]
    noise = small[:-8] + struct.pack(">II", 1 << 22 | 5, 9000)
    with pytest.raises(DataError, match=r"its addresses, up to 0x[0-9a-f]+, are of no known chip"):
        read_bytes(noise, ".aedat", "here")


def test_the_addresses_of_a_cochlea_are_no_camera():
    addresses = [(i * 37 % 64) << 2 | i % 4 for i in range(300)]
    body = b"".join(struct.pack(">II", address, 10 * i) for i, address in enumerate(addresses))
    for line in (b"# by hand\r\n", b"# AEChip: ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c\r\n"):
        content = b"#!AER-DAT2.0\r\n" + line + body
        with pytest.raises(DataError, match=r"cochlea.*--sensor 256 reads the addresses as channels"):
            read_bytes(content, ".aedat", "here")
        found = read_bytes(content, ".aedat", "here", sensor=Sensor(256))
        assert (found.events["x"].tolist(), found.sensor) == (addresses, Sensor(256))
    camera = b"#!AER-DAT2.0\r\n# by hand\r\n" + body
    assert read_bytes(camera, ".aedat", "here", sensor=Sensor(128, 128, 2)).sensor == Sensor(128, 128, 2)


def test_a_file_that_states_its_sensor_takes_no_other(tmp_path):
    path = tmp_path / "own.dat"
    path.write_bytes(write.dat(EVENTS, size=(346, 260)))
    assert read_stated(path, Sensor(346, 260, 2)).sensor == Sensor(346, 260, 2)
    with pytest.raises(
        DataError, match=r"own.dat: states a sensor of 346 x 260 .*, not of 128 x 128 .*: leave --sensor out"
    ):
        read_stated(path, Sensor(128, 128, 2))


def test_events_outside_a_stated_line_of_channels(tmp_path):
    rows = np.stack([np.arange(9), np.arange(9)], axis=1)
    for name in ("a/1", "a/2", "b/1", "b/2"):
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, rows)
    assert load_recordings(f"folder:{tmp_path}", sensor=Sensor(20)).train.sensor == Sensor(20)
    with pytest.raises(DataError, match=r"a/1\.npy: event 5, .* has x = 5, outside the sensor of 5 channels"):
        load_recordings(f"folder:{tmp_path}", sensor=Sensor(5))
    with pytest.raises(UserError, match="a sensor has 1 to 65536 columns"):
        load_recordings(f"folder:{tmp_path}", sensor=Sensor.from_text("0x5"))
