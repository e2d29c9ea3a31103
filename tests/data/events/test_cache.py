import json
import pickle
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from toy_recordings import BINS, COUNT, PIPELINES, WINDOW, Toy, frames_of

from spikelfp.data.events import Binning, Pipeline, Sensor
from spikelfp.data.events.cache import binned, cache_folder, list_caches
from spikelfp.data.events.cache.builder import entry_name, place_type, read_all
from spikelfp.data.events.transforms.base import Transform
from spikelfp.errors import DataError, UserError


def written_out(store, row) -> np.ndarray:
    """Sequence ``row`` as ``[T, P, H, W]``, place by place."""
    frames = store[row]
    values = np.zeros((frames.steps, *store.sensor.shape), np.float32)
    for place, count in zip(frames.places.tolist(), frames.counts.tolist(), strict=True):
        values.reshape(-1)[place] = np.float32(count) / np.float32(store.levels)
    return values


def assert_holds(store, recordings, pipeline, kept) -> None:
    assert store.kept.tolist() == kept
    assert store.labels.tolist() == [int(recordings.labels[index]) for index in kept]
    for row, index in enumerate(kept):
        np.testing.assert_array_equal(written_out(store, row), frames_of(recordings, index, pipeline.binning))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
@pytest.mark.parametrize("in_memory", [False, True])
def test_it_holds_what_was_recorded(tmp_path, pipeline, in_memory):
    recordings = Toy()
    store = binned(recordings, pipeline, cache_dir=tmp_path, in_memory=in_memory)
    assert_holds(store, recordings, pipeline, list(range(12)))
    assert (store.folder is None) == in_memory
    assert bool(list(tmp_path.iterdir())) != in_memory


@pytest.mark.parametrize("pipeline", PIPELINES, ids=str)
def test_the_second_time_nothing_is_read(tmp_path, pipeline):
    first = binned(Toy(), pipeline, cache_dir=tmp_path)
    again = Toy(bad=())
    second = binned(again, pipeline, cache_dir=tmp_path)
    assert again.reads == 0
    assert second.folder == first.folder
    for name in ("places", "counts", "offsets", "steps", "labels", "kept"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("seconds", [0, 0.001])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing(tmp_path, workers, seconds):
    recordings = Toy(40, seconds=seconds)
    store = binned(recordings, WINDOW, cache_dir=tmp_path, workers=workers)
    assert_holds(store, recordings, WINDOW, list(range(40)))


def test_small_recordings_are_read_by_one_thread(monkeypatch):
    class Watched(Toy):
        def read(self, index):
            threads.add(threading.current_thread())
            return super().read(index)

    for seconds, small, several in ((0.001, 0.1, False), (0.001, 0.0005, True)):
        monkeypatch.setattr("spikelfp.data.events.cache.builder._QUICK", small)
        threads = set()
        assert len(list(read_all(Watched(60, seconds=seconds), BINS, workers=3))) == 60
        assert (len(threads) > 1) == several


def test_recordings_are_handed_out_in_order_and_few_are_held():
    class Slow(Toy):
        most = held = 0

        def read(self, index):
            Slow.held += 1
            Slow.most = max(Slow.most, Slow.held)
            return super().read(index)

    numbers = []
    for read in read_all(Slow(60, seconds=0.003), BINS, workers=3):
        Slow.held -= 1
        numbers.append(read.number)
    assert numbers == list(range(60))
    assert Slow.most <= 3 * 2 * 4  # the tasks that wait or run, each of at most 10 ms


@dataclass(frozen=True)
class Nothing(Transform):
    strength: int

    def __call__(self, events, sensor):
        return events


def test_the_name_changes_with_all_that_the_content_depends_on():
    pipelines = [
        *PIPELINES,
        Pipeline(Binning(bins=4)),
        Pipeline(Binning(bins=3, levels=2)),
        Pipeline(Binning(bins=3), (Nothing(1),)),
        Pipeline(Binning(bins=3), (Nothing(2),)),
        Pipeline(Binning(bins=3), (Nothing(1), Nothing(2))),
    ]
    other_sensor = Toy()
    other_sensor.sensor = Sensor(5, 5, 2)
    names = [entry_name(Toy(), pipeline) for pipeline in pipelines]
    names += [entry_name(each, BINS) for each in (Toy(seed=1), Toy(13), other_sensor)]
    assert len(set(names)) == len(names)
    assert entry_name(Toy(), Pipeline(Binning(bins=3))) == entry_name(Toy(), BINS)


def test_another_format_has_another_name(monkeypatch):
    before = entry_name(Toy(), BINS)
    monkeypatch.setattr("spikelfp.data.events.cache.store.FORMAT", 2)
    assert entry_name(Toy(), BINS) != before


@pytest.mark.parametrize("name", ["tonic:NMNIST train", "../../etc/x", "Ärger/ é", "...", "-", "x" * 500])
def test_any_name_makes_an_entry_in_the_folder(tmp_path, name):
    binned(Toy(name=name), BINS, cache_dir=tmp_path)
    [entry] = list_caches(tmp_path)
    assert entry.folder.parent == tmp_path
    assert entry.about["name"] == name


def test_bad_recordings_raise_or_are_left_out(tmp_path):
    recordings = Toy(bad=(4, 7))
    for workers in (1, 3):
        with pytest.raises(DataError, match=r"^toy/4.bin: truncated at byte 104$"):
            binned(recordings, BINS, cache_dir=tmp_path, workers=workers)
    with pytest.raises(DataError, match=r"^toy/30.bin: truncated"):  # by a thread, and not the first to fail
        binned(Toy(40, bad=(30, 31, 39), seconds=0.001), BINS, cache_dir=tmp_path, workers=4)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        store = binned(recordings, BINS, cache_dir=tmp_path, skip_bad=True, workers=2)
        assert store.skipped == ((4, "toy/4.bin: truncated at byte 104"), (7, "toy/7.bin: truncated at byte 107"))
        kept = [index for index in range(12) if index not in (4, 7)]
        assert store.kept.tolist() == kept
        assert store.labels.tolist() == [index % 3 for index in kept]
        np.testing.assert_array_equal(written_out(store, 5), frames_of(recordings, 6, BINS.binning))
    with pytest.raises(DataError, match=r"^toy/4.bin: truncated at byte 104$"):  # now from what the cache says
        binned(recordings, BINS, cache_dir=tmp_path)


def test_nothing_but_bad_recordings(tmp_path):
    with pytest.raises(DataError, match=r"toy train: none of 3 recordings can be used: toy/0.bin: truncated"):
        binned(Toy(3, bad=(0, 1, 2)), BINS, cache_dir=tmp_path, skip_bad=True)
    assert list(tmp_path.iterdir()) == []


def test_types_are_as_small_as_the_binning_allows(tmp_path):
    for pipeline, places, counts in ((BINS, "u2", "u1"), (WINDOW, "u4", "u1"), (COUNT, "u2", "u2")):
        for store in (binned(Toy(), pipeline, cache_dir=tmp_path), binned(Toy(), pipeline, in_memory=True)):
            assert (store.places.dtype, store.counts.dtype) == (np.dtype(places), np.dtype(counts))
            assert not any(getattr(store, name).flags.writeable for name in ("places", "counts", "steps", "labels"))
    assert place_type(Binning(bins=32), 2048) == np.uint16
    assert place_type(Binning(bins=32), 2049) == np.uint32
    assert place_type(Binning(window=5, most=32), 2048) == np.uint16


def test_counts_of_spikes_take_no_room(tmp_path):
    store = binned(Toy(), BINS, cache_dir=tmp_path)
    assert not (store.folder / "counts.bin").exists()
    assert store.counts.strides == (0,)
    assert set(store.counts.tolist()) == {1}


def test_sequences_without_events(tmp_path):
    @dataclass(frozen=True)
    class Empty(Transform):
        def __call__(self, events, sensor):
            return events[:0]

    for in_memory in (False, True):
        pipeline = Pipeline(Binning(bins=3, levels=2), (Empty(),))
        for _ in range(2):
            store = binned(Toy(2), pipeline, cache_dir=tmp_path, in_memory=in_memory)
            assert len(store.places) == 0
            np.testing.assert_array_equal(written_out(store, 1), np.zeros((3, 2, 4, 5)))


def test_a_person_can_read_what_it_is(tmp_path):
    store = binned(Toy(bad=(2,)), WINDOW, cache_dir=tmp_path, skip_bad=True)
    about = json.loads((store.folder / "meta.json").read_text())
    assert about["name"] == "toy train"
    assert about["pipeline"]["binning"]["window"] == 10
    assert about["recordings"] == 11
    assert about["class_names"] == ["a", "b", "c"]
    assert about["skipped"] == [[2, "toy/2.bin: truncated at byte 102"]]
    assert about["steps"] == [int(store.steps.min()), int(store.steps.max())]
    assert about["bytes"] == sum(file.stat().st_size for file in store.folder.glob("*.bin"))


def test_pickled_it_is_its_folder(tmp_path):
    store = binned(Toy(2000), WINDOW, cache_dir=tmp_path)
    content = pickle.dumps(store)
    assert len(content) < 1000 < store.places.nbytes
    again = pickle.loads(content)
    assert again.folder == store.folder
    np.testing.assert_array_equal(again.places, store.places)
    in_memory = pickle.loads(pickle.dumps(binned(Toy(), COUNT, in_memory=True)))
    np.testing.assert_array_equal(written_out(in_memory, 3), frames_of(Toy(), 3, COUNT.binning))


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache_folder() == tmp_path / "variable"
    assert binned(Toy(), BINS).folder.parent == tmp_path / "variable"
    monkeypatch.delenv("SPIKELFP_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "spikelfp" / "events"
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is a file: choose a folder with --cache-dir or \$SPIKELFP_CACHE"):
        binned(Toy(), BINS, cache_dir=tmp_path / "file")


def test_no_workers():
    with pytest.raises(UserError, match=r"at least one worker, got 0"):
        binned(Toy(), BINS, in_memory=True, workers=0)


def test_progress_is_shown_on_a_terminal_alone(tmp_path, capsys):
    binned(Toy(), BINS, cache_dir=tmp_path, progress=True)
    assert capsys.readouterr() == ("", "")
