import gzip
import pickle
import struct
import sys
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor

import aedat4_writer
import h5py
import numpy as np
import pytest
from source_files import bin_bytes, digits, random_events, shared_data, write_files, write_spike_lists

from spikelfp.data.events import sources  # noqa: F401
from spikelfp.data.events.event import EVENT, Sensor
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources.tonic import NO_CLASSES
from spikelfp.errors import DataError, UnknownNameError

datasets = pytest.importorskip("tonic").datasets


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network; what is tried is listed."""
    tried = []

    def refuse(request, *args, **kwargs):
        tried.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("requests.get", lambda *args, **kwargs: refuse("requests"))
    return tried


def rows(events, *order):
    """Events as plain rows with the columns ``order``."""
    return np.stack([events[name].astype(np.int64) for name in order], axis=1)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def nmnist(folder):
    files = digits()
    write_files(folder, {name: bin_bytes(events) for name, events in files.items()})
    return {name: (int(name.split("/")[1]), events) for name, events in files.items()}


def dvsgesture(folder):
    expected = {}
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        for label in (0, 4, 10):
            events = random_events(label, width=128, height=128)
            events["t"] = events["t"] // 1000 * 1000
            name = f"{part}/user01_led/{label}.npy"
            save(folder / name, rows(events, "x", "y", "p", "t") // [1, 1, 1, 1000])
            expected[name] = (label, events)
    return expected


def pokerdvs(folder):
    expected = {}
    for part in ("pips_train", "pips_test"):
        for label, suit in enumerate(("cl", "he", "di", "sp")):
            events = random_events(label, width=35, height=35)
            save(folder / part / suit / "0.npy", rows(events, "t", "x", "y", "p"))
            expected[f"{part}/{suit}"] = (label, events)
    return expected


def dvslip(folder):
    expected = {}
    for part in ("train", "test"):
        for label, word in enumerate(("accused", "action")):
            events = random_events(label, width=128, height=128)
            save(folder / "DVS-Lip" / part / word / "0.npy", events)
            expected[f"DVS-Lip/{part}/{word}"] = (label, events)
    return expected


def asldvs(folder):
    from scipy.io import savemat

    expected = {}
    for label, letter in enumerate("ab"):
        for number in range(3):
            events = random_events(label * 3 + number, width=240, height=180)
            path = folder / letter / f"{number}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {"ts": events["t"], "x": events["x"], "y": 179 - events["y"], "pol": events["p"]}
            savemat(path, {name: np.asarray(column, np.int32)[:, None] for name, column in columns.items()})
            expected[f"{letter}/{number}.mat"] = (label, events)
    return expected


def ncaltech101(folder):
    expected = {}
    for label, name in enumerate(("accordion", "yin_yang")):
        for number in range(3):
            events = random_events(label * 3 + number, 500, width=200, height=150)
            events["x"] -= events["x"].min()
            events["y"] -= events["y"].min()
            path = f"Caltech101/{name}/{number}.bin"
            write_files(folder, {path: bin_bytes(events)})
            expected[path] = (label, events)
    return expected


def cifar10dvs(folder):
    expected = {}
    for label, name in ((0, "airplane"), (9, "truck")):
        for number in range(2):
            events = random_events(label + number, width=128, height=128)
            path = folder / name / f"{number}.aedat4"
            path.parent.mkdir(parents=True, exist_ok=True)
            packet = aedat4_writer.packet(events[["t", "x", "y", "p"]].tolist())
            path.write_bytes(aedat4_writer.file([aedat4_writer.lz4_frame(packet)], 1, size=(128, 128)))
            expected[f"{name}/{number}"] = (label, events)
    return expected


COPIES = {
    "CIFAR10DVS": (cifar10dvs, 1, Sensor(128, 128, 2)),
    "NMNIST": (nmnist, 2, Sensor(34, 34, 2)),
    "DVSGesture": (dvsgesture, 2, Sensor(128, 128, 2)),
    "POKERDVS": (pokerdvs, 2, Sensor(35, 35, 2)),
    "DVSLip": (dvslip, 2, Sensor(128, 128, 2)),
    "ASLDVS": (asldvs, 1, Sensor(240, 180, 2)),
    "NCALTECH101": (ncaltech101, 1, Sensor(240, 180, 2)),
}


@pytest.mark.parametrize("inside", ["", "tonic/"])
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_without_its_archive_is_read(tmp_path, offline, name, inside):
    write, parts, sensor = COPIES[name]
    expected = write(tmp_path / f"{inside}{name}")
    splits = load_recordings(f"tonic:{name}", tmp_path)
    assert splits.train.sensor == splits.test.sensor == sensor
    seen = []
    for part, learnt in ((splits.train, True), (splits.test, False)):
        for index, label in enumerate(part.labels):
            events = part.read(index)
            (found,) = [
                each for each, (kind, other) in expected.items()
                if kind == label and np.array_equal(other, events) and (parts == 1 or ("rain" in each) == learnt)
            ]  # fmt: skip
            seen.append(found)
    assert sorted(seen) == sorted(expected)
    assert offline == []


def test_what_is_read_is_what_tonic_reads(tmp_path):
    nmnist(tmp_path / "NMNIST")
    (tmp_path / "nmnist").symlink_to(tmp_path / "NMNIST")
    dvsgesture(tmp_path / "DVSGesture")
    for tonic_name, name in (("tonic:NMNIST", "nmnist"), ("tonic:DVSGesture", "dvs-gesture")):
        ours, own = (load_recordings(each, tmp_path) for each in (tonic_name, name))
        for part, other in ((ours.train, own.train), (ours.test, own.test)):
            assert part.labels.tolist() == other.labels.tolist()
            for index in range(len(part)):
                assert np.array_equal(part.read(index), other.read(index))
                assert part.where(index).replace("NMNIST", "nmnist") == other.where(index).replace("NMNIST", "nmnist")
    assert load_recordings("tonic:NMNIST", tmp_path).train.class_names[0] == "0 - zero"


def lists(count):
    random = np.random.default_rng(count)
    return [(np.sort(random.random(5)).tolist(), random.integers(0, 700, 5).tolist()) for _ in range(count)]


def test_spoken_digits_and_commands(tmp_path):
    for part, count in (("train", 5), ("test", 3)):
        path = tmp_path / "SHD" / f"shd_{part}.h5"
        write_spike_lists(path, lists(count), [0, 1, 0, 1, 0][:count], ["null", "eins"], "f8", speaker=[1] * count)
        (tmp_path / "shd").mkdir(exist_ok=True)
        (tmp_path / "shd" / path.name).symlink_to(path)
    for part, count in (("train", 4), ("valid", 2), ("test", 3)):
        path = tmp_path / "SSC" / f"ssc_{part}.h5"
        write_spike_lists(path, lists(count), [0, 1, 0, 1][:count], ["yes", "no"], "f8", speaker=[1] * count)
    ours, own = load_recordings("tonic:SHD", tmp_path), load_recordings("shd", tmp_path)
    assert ours.train.sensor == own.train.sensor == Sensor(700)
    assert ours.train.class_names == ("null", "eins")
    for index in range(5):
        events, other = ours.train.read(index), own.train.read(index)
        assert np.array_equal(events["x"], other["x"])
        assert set(other["t"] - events["t"]) <= {0, 1}  # tonic cuts off what we round
        assert not events["p"].any()
    commands = load_recordings("tonic:SSC", tmp_path)
    assert (len(commands.train), len(commands.test)) == (6, 3)
    assert np.array_equal(commands.train.read(5)["x"], lists(2)[1][1])


def test_digits_of_a_silicon_cochlea(tmp_path):
    path = tmp_path / "NTIDIGITS18" / "n-tidigits.hdf5"
    path.parent.mkdir()
    samples = ["ac-a-1", "ac-b-o", "ac-b-1-2", "ac-a-z"]
    with h5py.File(path, "w") as file:
        for part in ("train", "test"):
            file[f"{part}_labels"] = np.array([sample.encode() for sample in samples[:3]] if part == "train"
                                              else [samples[3].encode(), samples[0].encode()])  # fmt: skip
            for number, sample in enumerate(samples):
                file[f"{part}_addresses/{sample}"] = np.array([number, 63, 5])
                file[f"{part}_timestamps/{sample}"] = np.array([0.001, 0.25, 0.5])
    splits = load_recordings("tonic:NTIDIGITS18", tmp_path)
    names = splits.train.class_names
    assert names == ("o", "1", "2", "3", "4", "5", "6", "7", "8", "9", "z")
    assert [names[label] for label in splits.test.labels] == ["z", "1"]
    assert splits.test.read(0).tolist() == [(1000, 3, 0, 0), (250_000, 63, 0, 0), (500_000, 5, 0, 0)]
    assert "n-tidigits" not in splits.test.where(0) or splits.test.where(0).endswith("recording 0")
    again = pickle.loads(pickle.dumps(splits.test))  # the data set itself holds an open file
    assert np.array_equal(again.read(1), splits.test.read(1))
    assert again.fingerprint() == splits.test.fingerprint() != splits.train.fingerprint()


def test_pictures_read_pixel_by_pixel(tmp_path):
    random = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 2051, 3, 28, 28) + random.integers(0, 256, 3 * 784).astype(np.uint8).tobytes()
        labels = struct.pack(">II", 2049, 3) + bytes([7, 0, 9])
        write_files(tmp_path / "tonic" / "smnist", {f"{part}-images-idx3-ubyte": images})
        write_files(tmp_path / "tonic" / "smnist", {f"{part}-labels-idx1-ubyte": labels})
    splits = load_recordings("tonic:SMNIST", tmp_path)
    assert splits.train.labels.tolist() == [7, 0, 9]
    assert splits.train.sensor == Sensor(99)
    assert len(splits.train.read(0)) > 1000


def test_a_copy_of_the_wrong_part_is_not_taken_for_it(tmp_path):
    write_spike_lists(tmp_path / "SHD" / "shd_train.h5", lists(3), [0, 1, 0], ["a", "b"], speaker=[1] * 3)
    with pytest.raises(DataError, match=r"put shd_test\.h5\.zip, or what is in it, into .*/SHD or"):
        load_recordings("tonic:SHD", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("NMNIST", r"put train\.zip, or what is in it, into .*/tonic/NMNIST or"),
        ("SHD", r"put shd_train\.h5\.zip, .*/tonic/SHD or"),
        ("SSC", r"put ssc_train\.h5\.zip, .*/tonic/SSC or"),
        ("DVSGesture", r"put ibmGestureTrain\.tar\.gz, .*/tonic/DVSGesture or"),
        ("NTIDIGITS18", r"put n-tidigits\.hdf5, .*/tonic/NTIDIGITS18 or"),
        ("CIFAR10DVS", r"put CIFAR10DVS\.zip, .*/tonic/CIFAR10DVS or"),
        ("NCALTECH101", r"put N-Caltech101-archive\.zip, .*/tonic/NCALTECH101 or"),
        ("ASLDVS", r"put ASLDVS\.zip, .*/tonic/ASLDVS or"),
        ("POKERDVS", r"put pips_train\.tar\.gz, .*/tonic/POKERDVS or"),
        ("DVSLip", r"put DVS-Lip\.zip, .*/tonic/DVSLip or"),
        ("SMNIST", r"put train-images-idx3-ubyte, .*/tonic/smnist or"),
    ],
)
def test_without_copy_and_network_one_line_says_what_is_expected_where(tmp_path, name, file):
    with pytest.raises(DataError, match=rf"^tonic:{name}: cannot be opened \(.*\): {file}") as error:
        load_recordings(f"tonic:{name}", tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def original(tmp_path, monkeypatch):
    """train.zip of N-MNIST in the folder of its class, known to tonic as the original."""

    def write(content=None, known=True):
        files = {name: bin_bytes(events) for name, events in digits().items() if name.startswith("Train")}
        folder = write_files(tmp_path / "NMNIST", {"Test/0/1.bin": bin_bytes(random_events(1))})
        write_files(folder, {"Test/1/1.bin": bin_bytes(random_events(2))})
        archive = folder / "train.zip"
        if content is None:
            with zipfile.ZipFile(archive, "w") as opened:
                for name, each in files.items():
                    opened.writestr(name, each)
        else:
            archive.write_bytes(content)
        if known:
            import hashlib

            md5 = hashlib.md5(archive.read_bytes()).hexdigest()
            monkeypatch.setattr(datasets.NMNIST, "train_md5", md5)
        return archive

    return write


def test_an_original_archive_is_unpacked_without_the_network(original, tmp_path, offline):
    archive = original()
    content = archive.read_bytes()
    assert len(load_recordings("tonic:NMNIST", tmp_path).train) == 9
    assert archive.read_bytes() == content
    assert not archive.is_symlink()
    assert sorted(path.name for path in (tmp_path / "NMNIST").iterdir()) == ["Test", "Train", "train.zip"]
    assert offline == []
    assert not list(tmp_path.glob(".NMNIST*"))


def test_a_foreign_archive_is_neither_used_nor_overwritten(original, tmp_path, offline):
    archive = original(b"half of a download", known=False)
    with pytest.raises(DataError, match=r"train\.zip: damaged or not the original \(its md5 is not .*\): remove or"):
        load_recordings("tonic:NMNIST", tmp_path)
    assert archive.read_bytes() == b"half of a download"
    assert offline == []


def test_an_archive_that_breaks_off_leaves_nothing_behind(original, tmp_path):
    archive = original()
    original(archive.read_bytes()[:-400] + bytes(400))
    with pytest.raises(DataError, match=r"^tonic:NMNIST: cannot be opened"):
        load_recordings("tonic:NMNIST", tmp_path)
    assert sorted(path.name for path in (tmp_path / "NMNIST").iterdir()) == ["Test", "train.zip"]
    assert not list(tmp_path.glob(".NMNIST*"))


def test_a_download_arrives_whole(original, tmp_path, monkeypatch):
    archive = original()
    content = archive.read_bytes()
    archive.unlink()

    def deliver(broken):
        def write(url, filename, *args):
            with open(filename, "wb") as file:
                file.write(content[: len(content) // 2] if broken else content)
            if broken:
                raise urllib.error.URLError("connection lost")

        monkeypatch.setattr("tonic.download_utils._urlretrieve", write)
        monkeypatch.setattr("tonic.download_utils._get_redirect_url", lambda url, **options: url)

    deliver(broken=True)
    with pytest.raises(DataError, match=r"^tonic:NMNIST: cannot be opened \(connection lost\): put train\.zip"):
        load_recordings("tonic:NMNIST", tmp_path)
    assert [path.name for path in (tmp_path / "NMNIST").iterdir()] == ["Test"]
    deliver(broken=False)
    assert len(load_recordings("tonic:NMNIST", tmp_path).train) == 9
    assert archive.read_bytes() == content


@pytest.mark.parametrize("name", sorted(NO_CLASSES))
def test_targets_that_are_no_classes_are_refused(tmp_path, name, offline):
    with pytest.raises(DataError, match=rf"^tonic:{name}: its targets are no classes but {NO_CLASSES[name]}, so it"):
        load_recordings(f"tonic:{name}", tmp_path)
    assert offline == []
    assert not list(tmp_path.iterdir())


def test_every_class_of_tonic_is_accounted_for():
    tried = {*COPIES, "SHD", "SSC", "NTIDIGITS18", "SMNIST", *NO_CLASSES}
    assert tried == set(datasets.__all__)


def test_a_class_of_another_name():
    with pytest.raises(UnknownNameError, match="unknown data set of tonic 'NMIST': did you mean 'NMNIST'"):
        load_recordings("tonic:NMIST")


def test_without_tonic_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(DataError, match=r"^tonic:NMNIST needs tonic \(.*\): pip install 'spikelfp\[events\]'$"):
        load_recordings("tonic:NMNIST")


def test_recordings_are_sorted_and_read_by_threads(tmp_path):
    expected = ncaltech101(tmp_path / "NCALTECH101")
    splits = load_recordings("tonic:NCALTECH101", tmp_path)
    everything = splits.train.source
    assert [everything.where(index) for index in range(6)] == sorted(
        f"{tmp_path}/NCALTECH101/{name}" for name in expected
    )
    assert splits.train.class_names == ("accordion", "yin_yang")
    with ThreadPoolExecutor(3) as pool:
        for events, (_, other) in zip(pool.map(everything.read, range(6)), expected.values(), strict=True):
            assert np.array_equal(events, other)
            assert events.dtype == EVENT


def test_the_fingerprint_depends_on_the_content(tmp_path):
    prints = []
    for place, bad in (("a", None), ("b", None), ("c", "Train/7/00002.bin")):
        nmnist(tmp_path / place / "NMNIST")
        if bad is not None:
            write_files(tmp_path / place / "NMNIST", {bad: bin_bytes(random_events(77))})
        prints.append(load_recordings("tonic:NMNIST", tmp_path / place).train.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_bad_recordings_are_named(tmp_path):
    nmnist(tmp_path / "NMNIST")
    write_files(tmp_path / "NMNIST", {"Train/0/00000.bin": b"", "Train/0/00001.bin": bytes([99, 1, 0, 0, 1] * 3)})
    train = load_recordings("tonic:NMNIST", tmp_path).train
    with pytest.raises(DataError, match=r"Train/0/00000\.bin: holds no events"):
        train.read(0)
    with pytest.raises(DataError, match=r"Train/0/00001\.bin: event 0 has x = 99, outside the sensor of 34 x 34"):
        train.read(1)
    pokerdvs(tmp_path / "POKERDVS")
    (tmp_path / "POKERDVS" / "pips_train" / "he" / "0.npy").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"^tonic:POKERDVS: cannot be opened"):
        load_recordings("tonic:POKERDVS", tmp_path)


@pytest.mark.slow
def test_the_real_digits_are_the_same_as_ours(tmp_path):
    import tarfile

    archive = shared_data("nmnist/nmnist_subset.tar.xz") / "nmnist" / "nmnist_subset.tar.xz"
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    ours, own = load_recordings("tonic:NMNIST", tmp_path), load_recordings("nmnist", archive.parents[1])
    for part, other in ((ours.train, own.train), (ours.test, own.test)):
        assert part.labels.tolist() == other.labels.tolist()
        assert all(np.array_equal(part.read(index), other.read(index)) for index in range(len(part)))
