import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from source_files import random_events, write_files

from spikelfp.data.events import sources  # noqa: F401
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources import dvs_gesture
from spikelfp.errors import DataError

PEOPLE = {"user01_led": 1, "user02_lab": 2, "user24_led": 3}
GESTURES = [(1, 20_000, 80_000), (11, 90_000, 150_000), (4, 150_000, 300_000)]
"""(class, start, end) of every file, as its csv has it."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))


def recorded(person):
    return random_events(PEOPLE[person], 2000, 128, 128)


def aedat_bytes(events):
    """AEDAT 3.1: a packet of polarity events behind a header."""
    words = b"".join(struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t) for t, x, y, p in events.tolist())
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    count = len(events)
    return header + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, count, count, count) + words


def original(**changes):
    csv = "class,startTime_usec,endTime_usec\n" + "".join(f"{a},{b},{c}\n" for a, b, c in GESTURES)
    files = {f"{person}.aedat": aedat_bytes(recorded(person)) for person in PEOPLE}
    files |= {f"{person}_labels.csv": csv.encode() for person in PEOPLE}
    files["trials_to_train.txt"] = b"user01_led.aedat\nuser02_lab.aedat\n\n"
    files["trials_to_test.txt"] = b"user24_led.aedat"
    return files | changes


@pytest.mark.parametrize("folder", ["dvs-gesture", "dvs-gesture/DvsGesture", "DvsGesture"])
def test_the_original_files_are_cut_into_gestures(tmp_path, folder):
    write_files(tmp_path / folder, original())
    splits = load_recordings("dvs-gesture", tmp_path)
    people = [person for person in ("user01_led", "user02_lab") for _ in GESTURES]
    for recordings, files in ((splits.train, people), (splits.test, ["user24_led"] * 3)):
        assert recordings.labels.tolist() == [label - 1 for label, _, _ in GESTURES] * (len(files) // 3)
        for index, person in enumerate(files):
            _, start, end = GESTURES[index % 3]
            expected = [event for event in recorded(person).tolist() if start <= event[0] < end]
            assert recordings.read(index).tolist() == expected
            assert recordings.where(index) == f"{tmp_path / folder / person}.aedat, {start} to {end} µs"
    assert splits.train.class_names[0] == "hand clapping"
    assert len(splits.train.class_names) == 11
    assert splits.pipeline.sensor(splits.train.sensor) == Sensor(32, 32, 2)


def test_a_file_is_decoded_once_for_its_gestures(tmp_path, monkeypatch):
    write_files(tmp_path / "dvs-gesture", original())
    recordings = load_recordings("dvs-gesture", tmp_path).train
    decoded = []
    real = dvs_gesture.read
    monkeypatch.setattr(dvs_gesture, "read", lambda path, **options: decoded.append(path) or real(path, **options))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(recordings.read, range(6)))
    assert len(decoded) == 2


def test_the_files_of_tonic(tmp_path):
    folder = tmp_path / "DVSGesture"
    rows = {}
    for part, user in (("ibmGestureTrain", "user01_led"), ("ibmGestureTest", "user24_lab")):
        for label in (0, 3, 10):
            events = random_events(label, 30, 128, 128)
            rows[part, label] = np.stack([events["x"], events["y"], events["p"], events["t"] // 1000], 1)
            path = folder / part / user / f"{label}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows[part, label])
    splits = load_recordings("dvs-gesture", tmp_path)
    for part, recordings in (("ibmGestureTrain", splits.train), ("ibmGestureTest", splits.test)):
        assert sorted(recordings.labels) == [0, 3, 10]
        for index, label in enumerate(recordings.labels):
            expected = [(t * 1000, x, y, p) for x, y, p, t in rows[part, label].tolist()]
            assert recordings.read(index).tolist() == expected


def test_the_fingerprint_knows_the_gestures_of_a_file(tmp_path):
    def prints(place, **changes):
        write_files(tmp_path / place / "dvs-gesture", original(**changes))
        return load_recordings("dvs-gesture", tmp_path / place).train.fingerprint()

    first = prints("a")
    assert prints("b") == first
    other = b"class,startTime_usec,endTime_usec\n1,20000,80001\n11,90000,150000\n4,150000,300000\n"
    assert prints("c", **{"user01_led_labels.csv": other}) != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials_to_test.txt": b"user99.aedat"}, r"trials_to_test.txt: names user99.aedat, which is not in"),
        ({"user01_led_labels.csv": b"class,startTime_usec,endTime_usec\n1,2\n"}, r"labels.csv: line 2 is '1,2'"),
        ({"user01_led_labels.csv": b"12,1,2\n"}, r"line 1 is '12,1,2': no class of 1 to 11"),
        ({"user01_led_labels.csv": b"3,9,2\n"}, r"line 1 is '3,9,2'"),
        ({"user01_led_labels.csv": b"3,-9,2\n"}, r"line 1 is '3,-9,2'.* or no time from 0 on"),
        ({"trials_to_test.txt": b"\xff\xfe"}, "trials_to_test.txt: cannot be read"),
        ({"trials_to_test.txt": b"\n"}, "dvs-gesture test: holds no recordings"),
    ],
)
def test_lists_that_are_wrong(tmp_path, changes, message):
    write_files(tmp_path / "dvs-gesture", original(**changes))
    with pytest.raises(DataError, match=message):
        load_recordings("dvs-gesture", tmp_path)


def test_bad_recordings_are_named(tmp_path):
    folder = tmp_path / "dvs-gesture"
    write_files(folder, original(**{"user24_led.aedat": aedat_bytes(recorded("user24_led"))[:-5]}))
    with pytest.raises(DataError, match=rf"^{folder}/user24_led.aedat: .* byte"):
        load_recordings("dvs-gesture", tmp_path).test.read(0)
    empty = b"class,startTime_usec,endTime_usec\n1,900000,900001\n"
    write_files(folder, original(**{"user24_led_labels.csv": empty}))
    with pytest.raises(DataError, match=rf"^{folder}/user24_led.aedat, 900000 to 900001 µs: holds no events"):
        load_recordings("dvs-gesture", tmp_path).test.read(0)


def test_a_missing_data_set_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match=r"^dvs-gesture: expected the unpacked DvsGesture .* in .*/dvs-gesture"):
        load_recordings("dvs-gesture", tmp_path)
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        write_files(tmp_path / "dvs-gesture" / part / "user01_led", {"0.npy": b"nonsense", "1.npy": b""})
    recordings = load_recordings("dvs-gesture", tmp_path).train
    with pytest.raises(DataError, match=r"ibmGestureTrain/user01_led/0.npy: "):
        recordings.read(0)
    np.save(tmp_path / "dvs-gesture" / "ibmGestureTrain" / "user01_led" / "0.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"expected numbers \[M, 4\], got float64 of shape \[3, 5\]"):
        recordings.read(0)
    write_files(tmp_path / "dvs-gesture" / "ibmGestureTest", {"user01_led/eleven.npy": b""})
    with pytest.raises(DataError, match=r"eleven.npy: expected a class of 0 to 10 as its name"):
        load_recordings("dvs-gesture", tmp_path)
