import multiprocessing
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from source_files import bin_bytes, digits, shared_data, write_files, write_tar, write_zip

from spikelfp.data.events import sources  # noqa: F401
from spikelfp.data.events.event import Sensor
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources import files as archive
from spikelfp.data.events.sources.files import members, read_member
from spikelfp.errors import DataError

DIGITS = digits()
FILES = {name: bin_bytes(events) for name, events in DIGITS.items()}
ONE_PART = {
    part: {name: content for name, content in FILES.items() if name.startswith(part)} for part in ("Train", "Test")
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))


def inside(folder):
    return {f"{folder}/{name}": content for name, content in FILES.items()}


def write(layout, folder):
    """N-MNIST in one of its layouts."""
    match layout:
        case "folders":
            write_files(folder, FILES)
        case "folders in N-MNIST":
            write_files(folder, inside("N-MNIST"))
        case "original zips":
            write_zip(folder / "Train.zip", ONE_PART["Train"])
            write_zip(folder / "Test.zip", ONE_PART["Test"])
        case "zips of tonic":
            write_zip(folder / "train.zip", ONE_PART["Train"])
            write_zip(folder / "test.zip", ONE_PART["Test"])
        case "one tar.xz":
            write_tar(folder / "part.tar.xz", inside("NMNIST"))
        case "one tar.gz":
            write_tar(folder / "part.tar.gz", {f"./{name}": content for name, content in FILES.items()})
        case "one zip":
            write_zip(folder / "part.zip", inside("NMNIST") | {"__MACOSX/NMNIST/Train/0/._00000.bin": b"x"})


LAYOUTS = ["folders", "folders in N-MNIST", "original zips", "zips of tonic", "one tar.xz", "one tar.gz", "one zip"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_recordings(tmp_path, layout):
    write(layout, tmp_path / "nmnist")
    splits = load_recordings("nmnist", tmp_path)
    for part, recordings in (("Train", splits.train), ("Test", splits.test)):
        names = sorted(name for name in DIGITS if name.startswith(part))
        assert len(recordings) == len(names)
        assert recordings.labels.tolist() == [int(name.split("/")[1]) for name in names]
        assert recordings.sensor == Sensor(34, 34, 2)
        assert recordings.name == f"nmnist {part.lower()}"
        for index, name in enumerate(names):
            assert np.array_equal(recordings.read(index), DIGITS[name])
            assert recordings.where(index).endswith(name)
    assert splits.train.class_names == tuple("0123456789")
    assert splits.pipeline.binning.bins == 20


def test_folders_come_before_archives_and_nothing_is_written(tmp_path):
    folder = write_files(tmp_path / "nmnist", FILES)
    (folder / "other.zip").write_bytes(b"nonsense")
    before = sorted(folder.rglob("*"))
    load_recordings("nmnist", tmp_path).train.read(0)
    assert sorted(folder.rglob("*")) == before


def _read_all(recordings):
    return [recordings.read(index) for index in range(len(recordings))]


@pytest.mark.parametrize("layout", ["one tar.xz", "original zips"])
def test_archives_are_read_side_by_side(tmp_path, layout):
    write(layout, tmp_path / "nmnist")
    recordings = load_recordings("nmnist", tmp_path).train
    expected = _read_all(recordings)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        for events in pool.map(_read_all, [recordings] * 6):
            assert all(map(np.array_equal, events, expected))
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(recordings.read, list(range(9)) * 5), expected * 5))
    again = pickle.loads(pickle.dumps(recordings))
    assert all(map(np.array_equal, _read_all(again), expected))


def test_a_tar_archive_is_decompressed_once_and_not_for_its_list(tmp_path, monkeypatch):
    write("one tar.xz", tmp_path / "nmnist")
    opened = []
    real = archive.tarfile.open
    monkeypatch.setattr(archive.tarfile, "open", lambda **args: opened.append(args) or real(**args))
    monkeypatch.setattr("spikelfp.data.events.sources.files._SETTLED", 0.0)
    splits = load_recordings("nmnist", tmp_path)
    _read_all(splits.train)
    _read_all(splits.test)
    assert len(opened) == 1
    monkeypatch.setattr(archive, "_tar", lambda version: pytest.fail("was read again"))
    assert len(load_recordings("nmnist", tmp_path).train) == len(splits.train)


def test_an_archive_that_changes_is_read_again(tmp_path):
    path = write_tar(tmp_path / "a.tar.gz", {"one": b"1"})
    assert (members(path), read_member(path, "one")) == (["one"], b"1")
    write_tar(path, {"two": b"22"})
    assert (members(path), read_member(path, "two")) == (["two"], b"22")
    with pytest.raises(DataError, match=rf"^{path}: holds no file one$"):
        read_member(path, "one")


@pytest.mark.parametrize("layout", ["folders", "one tar.xz"])
def test_the_fingerprint_depends_on_the_content_and_not_on_the_place(tmp_path, layout):
    def prints(place, files=FILES):
        if layout == "folders":
            write_files(tmp_path / place / "nmnist", files)
        else:
            write_tar(tmp_path / place / "nmnist" / f"{place}.tar.xz", files)
        splits = load_recordings("nmnist", tmp_path / place)
        return splits.train.fingerprint(), splits.test.fingerprint()

    first = prints("a")
    assert prints("b") == first
    assert first[0] != first[1]
    name = "Train/7/00002.bin"
    flipped = FILES[name][:2] + bytes([FILES[name][2] ^ 128]) + FILES[name][3:]
    assert prints("c", FILES | {name: flipped})[0] != first[0]
    moved = {("Train/1/00002.bin" if each == name else each): content for each, content in FILES.items()}
    assert prints("d", {"Train/1/9.bin": FILES[name]} | {k: v for k, v in moved.items() if k != name})[0] != first[0]


def test_a_recording_that_is_cut_off_is_named_with_its_offset(tmp_path):
    folder = write_files(tmp_path / "nmnist", FILES | {"Train/0/00001.bin": FILES["Train/0/00001.bin"][:-3]})
    recordings = load_recordings("nmnist", tmp_path).train
    with pytest.raises(DataError, match=rf"^{folder}/Train/0/00001.bin: 247 bytes .* byte 245"):
        recordings.read(1)
    recordings.read(0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "nmnist: expected Train.zip and Test.zip"),
        ({"nmnist/Train.zip": b"PK"}, "Train.zip: damaged or no archive of its kind"),
        ({"nmnist/a.tar.xz": b"nonsense"}, "a.tar.xz: damaged or no archive of its kind"),
        ({"nmnist/a.zip": b"", "nmnist/b.tar.gz": b""}, r"found a\.zip, b\.tar\.gz"),
        ({"nmnist/Train/0/1.bin": b"", "nmnist/Test/0/1.txt": b""}, r"no recording Test/<digit>/\*\.bin"),
    ],
)
def test_what_is_missing_or_damaged_is_said_in_one_line(tmp_path, files, message):
    write_files(tmp_path, files)
    with pytest.raises(DataError, match=message) as error:
        load_recordings("nmnist", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write_archive", [write_tar, write_zip])
def test_a_damaged_archive_is_one_line(tmp_path, write_archive):
    path = write_archive(tmp_path / f"a{'.tar.xz' if write_archive is write_tar else '.zip'}", FILES)
    content = bytearray(path.read_bytes())
    for cut in range(0, len(content), len(content) // 12):
        damaged = path.with_name(f"{cut}-{path.name}")
        damaged.write_bytes(content[:cut])
        with pytest.raises(DataError, match=rf"^{damaged}: "):
            members(damaged)


def test_a_member_of_a_zip_that_is_damaged(tmp_path):
    path = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(path) as opened:
        start = opened.infolist()[3].header_offset + 60
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    name = members(path)[3]
    with pytest.raises(DataError, match=rf"^{path}: .* is damaged"):
        read_member(path, name)


def test_the_real_subset():
    splits = load_recordings("nmnist", shared_data("nmnist/nmnist_subset.tar.xz"))
    assert np.bincount(splits.train.labels).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert np.bincount(splits.test.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    lengths = [len(part.read(index)) for part in (splits.train, splits.test) for index in range(len(part))]
    assert (min(lengths), max(lengths)) == (1069, 7152)
    assert round(np.mean(lengths)) == 4108
