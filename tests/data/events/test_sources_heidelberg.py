import gzip
import multiprocessing
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from source_files import shared_data, write_spike_lists

from spikelfp.data.events import FileLayout, Sensor, sources  # noqa: F401
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources import SpikeLists, heidelberg
from spikelfp.data.events.sources import heidelberg as spike_lists
from spikelfp.errors import DataError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))


def lists(seed, count, units=24):
    """``count`` recordings of a few spikes, not sorted."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 9, count)
    return [(random.random(n).round(6).tolist(), random.integers(0, units, n).tolist()) for n in lengths]


def expected(recording, kind="f8"):
    """The events of a recording, spike by spike."""
    times, units = recording
    stored = [float(np.array(time, kind)) for time in times]
    order = sorted(range(len(times)), key=lambda spike: round(stored[spike] * 1e6))
    return [(round(stored[spike] * 1e6), units[spike], 0, 0) for spike in order]


def write(path, recordings, labels=None, keys=("yes", "no"), **extra):
    labels = [number % len(keys or "ab") for number in range(len(recordings))] if labels is None else labels
    return write_spike_lists(path, recordings, labels, keys, "f8", **extra)


def test_every_recording_as_the_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(spike_lists, "_TOGETHER", 7)
    recordings = lists(0, 40)
    made = SpikeLists("mine", write(tmp_path / "a.h5", recordings))
    assert [made.read(index).tolist() for index in range(40)] == [expected(each) for each in recordings]
    assert made.labels.tolist() == [0, 1] * 20
    assert made.class_names == ("yes", "no")
    assert made.sensor.shape == (24,)
    assert made.where(39) == f"{tmp_path}/a.h5, recording 39"
    with pytest.raises(IndexError):
        made.read(40)


def test_times_of_16_bits(tmp_path):
    recordings = lists(0, 3)
    made = SpikeLists("mine", write_spike_lists(tmp_path / "a.h5", recordings, [0, 1, 0], None, "f2"))
    assert [made.read(index).tolist() for index in range(3)] == [expected(each, "f2") for each in recordings]
    assert made.class_names == ("0", "1")


def test_the_channels_are_those_said_or_one_more_than_the_largest_unit(tmp_path):
    path = write(tmp_path / "a.h5", [([0.1], [3]), ([0.1, 0.2], [17, 2])])
    assert SpikeLists("mine", path).sensor.width == 18
    assert SpikeLists("mine", path, channels=700).sensor.width == 700
    with pytest.raises(
        DataError, match=rf"^{path}, recording 1: event 0 has x = 17, outside the sensor of 10 channels"
    ):
        SpikeLists("mine", path, channels=10).read(1)


@pytest.mark.parametrize("packed", ["gz", "zip"])
def test_packed_files_are_unpacked_in_memory(tmp_path, packed):
    recordings = lists(0, 5)
    path = write(tmp_path / "elsewhere" / "shd_train.h5", recordings)
    folder = tmp_path / "shd"
    folder.mkdir()
    for part in ("train", "test"):
        target = folder / f"shd_{part}.h5.{packed}"
        if packed == "gz":
            target.write_bytes(gzip.compress(path.read_bytes()))
        else:
            with zipfile.ZipFile(target, "w") as archive:
                archive.write(path, f"shd_{part}.h5")
    splits = load_recordings("shd", tmp_path)
    assert [splits.test.read(index).tolist() for index in range(5)] == [expected(each) for each in recordings]
    assert splits.train.sensor.width == 700
    assert len(list(folder.iterdir())) == 2


def test_ssc_learns_from_its_validation_part_as_well(tmp_path):
    parts = {part: lists(seed, 3) for seed, part in enumerate(("train", "valid", "test"))}
    for part, recordings in parts.items():
        write(tmp_path / "ssc" / f"ssc_{part}.h5", recordings)
    splits = load_recordings("ssc", tmp_path)
    learnt = [splits.train.read(index).tolist() for index in range(6)]
    assert learnt == [expected(each) for each in parts["train"] + parts["valid"]]
    assert splits.test.read(2).tolist() == expected(parts["test"][2])
    assert splits.pipeline == heidelberg.COCHLEA
    (tmp_path / "ssc" / "ssc_valid.h5").unlink()
    with pytest.raises(DataError, match=r"^ssc: there is no ssc_valid.h5 in .*ssc: put them there"):
        load_recordings("ssc", tmp_path)


def test_a_single_file_is_split_by_repetition(tmp_path):
    repetition = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 3
    path = write(tmp_path / "a.h5", lists(0, 30), [number // 10 for number in range(30)], "abc", repetition=repetition)
    splits = load_recordings(f"hdf5:{path}")
    assert splits.test.indices.tolist() == [8, 9, 18, 19, 28, 29]
    assert sorted([*splits.train.indices, *splits.test.indices]) == list(range(30))
    assert splits.train.fingerprint() != splits.test.fingerprint()


def test_or_by_chance_but_always_the_same_and_from_each_class(tmp_path):
    path = write(tmp_path / "a.h5", lists(0, 30))
    splits = load_recordings("hdf5:a.h5", tmp_path)
    again = load_recordings(f"hdf5:{path}")
    assert np.bincount(splits.test.labels).tolist() == [3, 3]
    assert np.array_equal(splits.test.indices, again.test.indices)
    assert splits.test.fingerprint() == again.test.fingerprint()


def test_a_folder_of_files_for_the_parts(tmp_path):
    parts = {"my_Train": (4, 3), "my_valid": (2, 30), "my_test": (3, 9)}
    for seed, (stem, (count, units)) in enumerate(parts.items()):
        write(tmp_path / "mine" / f"{stem}.h5", lists(seed, count, units))
    (tmp_path / "mine" / "._my_test.h5").write_bytes(b"")
    splits = load_recordings(f"hdf5:{tmp_path / 'mine'}")
    assert (len(splits.train), len(splits.test)) == (6, 3)
    largest = max(
        unit for seed, (count, units) in enumerate(parts.values()) for _, u in lists(seed, count, units) for unit in u
    )
    assert splits.train.sensor.width == splits.test.sensor.width == largest + 1
    assert splits.train.read(5).tolist() == expected(lists(1, 2, 30)[1])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "expected one HDF5 file whose name holds 'train', found none"),
        (("train.h5",), "whose name holds 'test', found none; a single file is loaded by its own path"),
        (("train.h5", "train2.h5", "test.h5"), "holds 'train', found train.h5, train2.h5"),
    ],
)
def test_a_folder_that_does_not_tell_its_parts(tmp_path, files, message):
    for name in files:
        write(tmp_path / name, lists(0, 2))
    with pytest.raises(DataError, match=message):
        load_recordings(f"hdf5:{tmp_path}")


def _read_all(recordings):
    return [recordings.read(index).tolist() for index in range(len(recordings))]


def test_processes_and_threads_read_side_by_side(tmp_path):
    recordings = SpikeLists("mine", write(tmp_path / "a.h5", lists(0, 300)))
    first = _read_all(recordings)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(_read_all, [recordings] * 6) == [first] * 6
    with ThreadPoolExecutor(4) as pool:
        assert [events.tolist() for events in pool.map(recordings.read, range(300))] == first
    assert _read_all(pickle.loads(pickle.dumps(recordings))) == first


def test_the_fingerprint_depends_on_the_content(tmp_path):
    first = SpikeLists("mine", write(tmp_path / "a.h5", lists(0, 4)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.h5").write_bytes((tmp_path / "a.h5").read_bytes())
    assert SpikeLists("other", tmp_path / "b" / "other.h5").fingerprint() == first.fingerprint()
    assert SpikeLists("mine", tmp_path / "a.h5", channels=30).fingerprint() != first.fingerprint()
    assert SpikeLists("mine", write(tmp_path / "c.h5", lists(1, 4))).fingerprint() != first.fingerprint()


def test_files_that_are_no_spike_lists(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(DataError, match=rf"^there is no {path}$"):
        load_recordings(f"hdf5:{path}")
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(DataError, match=rf"^{path}: expected HDF5, found it"):
        load_recordings(f"hdf5:{path}")
    with h5py.File(path, "w") as file:
        file["labels"] = [1, 2]
    with pytest.raises(DataError, match=r"it has no spikes/times and no spikes/units$"):
        load_recordings(f"hdf5:{path}")
    write(path, lists(0, 3), labels=[0, 1])
    with pytest.raises(DataError, match=r"of different lengths: .*'labels': 2"):
        load_recordings(f"hdf5:{path}")
    write(path, lists(0, 3), labels=[0, 1, 5])
    with pytest.raises(DataError, match="label 5 of recording 2 is outside 0 to 1"):
        load_recordings(f"hdf5:{path}")
    for name in ("", "nothing.h5"):
        with pytest.raises(DataError, match=r"there is no .*nothing\.h5 and no|missing after the colon"):
            load_recordings(f"hdf5:{name}", tmp_path)


def test_the_number_of_channels_can_be_stated(tmp_path):
    path = write(tmp_path / "a.h5", lists(0, 12))
    assert load_recordings(f"hdf5:{path}", sensor=Sensor(700)).train.sensor == Sensor(700)
    splits = load_recordings(f"hdf5:{path}", sensor=Sensor(3))
    with pytest.raises(DataError, match="outside the sensor of 3 channels"):
        [splits.train.read(index) for index in range(len(splits.train))]
    with pytest.raises(
        UserError, match=r"a line of channels, and not of 34 x 34 pixels, 2 polarities: --sensor CHANNELS"
    ):
        load_recordings(f"hdf5:{path}", sensor=Sensor(34, 34, 2))
    with pytest.raises(
        UserError, match="has a layout of its own: tables, columns and first pixels are stated for folder"
    ):
        load_recordings(f"hdf5:{path}", layout=FileLayout(table="spikes"))


@pytest.mark.parametrize("recording", [([0.1, np.nan], [1, 2]), ([0.1], [1, 2]), ([], [])])
def test_bad_recordings_are_named_when_they_are_read(tmp_path, recording):
    path = write(tmp_path / "a.h5", [([0.1], [1]), recording])
    recordings = SpikeLists("mine", path)
    recordings.read(0)
    with pytest.raises(DataError, match=rf"^{path}, recording 1: (event 1 has t = nan|1 times, but 2|holds no events)"):
        recordings.read(1)


@pytest.mark.parametrize("key", ["labels", "extra/keys", "extra/repetition"])
def test_a_file_made_to_fill_the_memory(tmp_path, key):
    path = write(tmp_path / "a.h5", lists(0, 3), labels=[0, 1, 0])
    with h5py.File(path, "r+") as file:
        for name in (key, "spikes/times", "spikes/units") if key == "labels" else (key,):
            kind = file[name].dtype if name.startswith("spikes") else np.int64
            if name in file:
                del file[name]
            file.create_dataset(name, (1 << 40,), dtype=kind, chunks=(1 << 16,))
    with pytest.raises(DataError, match=rf"^{path}: /{key}: claims 8796093022208 bytes of content in a file of"):
        load_recordings(f"hdf5:{path}")


def test_a_file_that_is_cut_off(tmp_path):
    content = write(tmp_path / "a.h5", lists(0, 50)).read_bytes()
    for end in range(0, len(content), len(content) // 15):
        (tmp_path / "b.h5").write_bytes(content[:end])
        with pytest.raises(DataError, match=r"b\.h5"):
            _read_all(SpikeLists("cut", tmp_path / "b.h5"))


def test_braille():
    folder = shared_data("braille/braille_spikes_th10.h5")
    splits = load_recordings("braille", folder)
    assert (len(splits.train), len(splits.test)) == (4320, 1080)
    assert splits.train.class_names[:3] == ("Space", "A", "B")
    assert np.bincount(splits.test.labels).tolist() == [40] * 27
    assert splits.train.sensor.width == 24
    with h5py.File(folder / "braille" / "braille_spikes_th10.h5") as file:
        assert set(file["extra/repetition"][()][splits.test.indices]) == set(range(160, 200))
        times, units = file["spikes/times"][170], file["spikes/units"][170]
    assert splits.test.read(10).tolist() == expected((times.tolist(), units.tolist()))
    assert sum(len(part.read(index)) for part in (splits.train, splits.test) for index in range(len(part))) == 221_107


def test_lists_of_no_kind_are_refused(tmp_path):
    """HDF5 ends the process when it reads a list that is neither a sequence nor a text."""
    lists = [([0.1, 0.2], [1, 2])] * 4
    path = write_spike_lists(tmp_path / "x.h5", lists, [0, 1, 0, 1], ["a", "b"])
    content = bytearray(path.read_bytes())
    kind = b"\x19\x00\x00\x00\x10\x00\x00\x00\x11\x20\x1f\x00"  # a sequence of floats
    assert content.count(kind) == 1
    content[content.find(kind) + 1] = 0x2D
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"/spikes/times holds lists of a kind that HDF5 does not have .13.: damaged"):
        load_recordings(f"hdf5:{path}").train.read(0)
