import errno
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_recordings import BINS, WINDOW, Toy

from spikelfp.data.events import Binning, Pipeline
from spikelfp.data.events.cache import binned, list_caches
from spikelfp.data.events.cache.store import FILLING, USED, remove_stale
from spikelfp.errors import DataError, SaveError, UserError


def in_child(work: Callable[[], object]) -> int:
    """A forked process that does ``work`` and ends with status 0, or 1 if it raised; its number."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_what_is_interrupted_is_no_cache(tmp_path, sent):
    """Interrupted once several recordings are in: while kernels compile, the compiler may lose a KeyboardInterrupt."""
    reading, told = os.pipe()

    class Long(Toy):
        def read(self, index):
            if index == 40:
                os.write(told, b"!")
            return super().read(index)

    def build():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
        binned(Long(3000, seconds=0.01), WINDOW, cache_dir=tmp_path, workers=2)

    child = in_child(build)
    os.close(told)
    with open(reading, "rb") as heard:
        assert heard.read(1) == b"!"  # nothing if the child has ended
    assert any((each / "places.bin").exists() for each in tmp_path.iterdir())
    os.kill(child, sent)
    assert status_of(child) == (1 if sent == signal.SIGINT else -signal.SIGKILL)
    assert list_caches(tmp_path) == []
    if sent == signal.SIGKILL:
        assert [name.startswith(".toy-train") for name in names(tmp_path)] == [True]
    else:
        assert names(tmp_path) == []
    store = binned(Toy(3), BINS, cache_dir=tmp_path)  # any build clears up
    assert names(tmp_path) == [store.folder.name]


def test_what_changes_while_it_is_read_is_no_cache(tmp_path):
    class Changing(Toy):
        def fingerprint(self):
            return f"{super().fingerprint()} {self.reads >= 5}"

    with pytest.raises(DataError, match=r"^toy train: its files changed while they were read; load it again$"):
        binned(Changing(), BINS, cache_dir=tmp_path)
    assert names(tmp_path) == []
    assert len(binned(Changing(), BINS, cache_dir=tmp_path, in_memory=True)) == 12


@pytest.mark.parametrize("workers", [1, 3])
def test_recordings_that_cannot_be_binned_are_named(tmp_path, workers):
    late = Pipeline(Binning(window=10, origin=5))  # some begin before
    early = [number for number in range(12) if Toy().read(number)["t"][0] < 5]
    assert 0 < len(early) < 12
    with pytest.raises(DataError, match=rf"^toy/{early[0]}.bin: events to bin: the first is of . µs, before the"):
        binned(Toy(), late, cache_dir=tmp_path, workers=workers)
    for _ in range(2):
        store = binned(Toy(), late, cache_dir=tmp_path, skip_bad=True, workers=workers)
        assert [number for number, _ in store.skipped] == early
    with pytest.raises(DataError, match=rf"^toy/{early[0]}.bin: events to bin"):
        binned(Toy(), late, cache_dir=tmp_path)
    huge = Pipeline(Binning(bins=2**30))
    for skip_bad in (False, True):  # the settings are wrong, not the recording
        with pytest.raises(UserError, match=r"^toy/0.bin: a sequence of .* is too large"):
            binned(Toy(), huge, cache_dir=tmp_path, skip_bad=skip_bad, workers=workers)


def test_processes_that_want_the_same_one_wait_for_who_makes_it(tmp_path):
    def work() -> None:
        recordings = Toy(100, seconds=0.003)
        store = binned(recordings, WINDOW, cache_dir=tmp_path, workers=2)
        (answers / str(os.getpid())).write_text(f"{recordings.reads} {len(store)} {int(store.places.sum())}")

    answers = tmp_path / "answers"
    answers.mkdir()
    expected = binned(Toy(100), WINDOW, in_memory=True)
    assert [status_of(child) for child in [in_child(work) for _ in range(3)]] == [0, 0, 0]
    said = sorted(tuple(map(int, each.read_text().split())) for each in answers.iterdir())
    assert [reads for reads, *_ in said] == [0, 0, 100]
    assert [rest for _, *rest in said] == [[100, int(expected.places.sum())]] * 3
    assert len(list_caches(tmp_path)) == 1
    assert len(names(tmp_path)) == 2


def test_threads_that_want_the_same_one(tmp_path):
    stores = []
    threads = [
        threading.Thread(target=lambda: stores.append(binned(Toy(60, seconds=0.001), WINDOW, cache_dir=tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.folder for store in stores}) == 1
    assert len(stores) == 4  # all open at once
    assert not (stores[0].folder / FILLING).exists()


def without_locks(monkeypatch) -> None:
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_everybody_makes_their_own(tmp_path, monkeypatch):
    without_locks(monkeypatch)
    test_threads_that_want_the_same_one(tmp_path)
    assert len(list_caches(tmp_path)) == 1


def test_a_part_in_use_stays_and_one_of_the_dead_goes(tmp_path):
    a, b, c = (f".{letter}-{'0' * 32}.part" for letter in "abc")
    for name in (a, b, c, "kept"):
        (tmp_path / name).mkdir()
    with open(tmp_path / a / FILLING, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / b / FILLING).touch()
        remove_stale(tmp_path)
    assert names(tmp_path) == [a, "kept"]


def damage_truncated(folder: Path) -> None:
    os.truncate(folder / "places.bin", (folder / "places.bin").stat().st_size - 4)


def damage_changed(folder: Path) -> None:
    content = bytearray((folder / "places.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "places.bin").write_bytes(content)


def damage_offsets(folder: Path) -> None:
    offsets = np.fromfile(folder / "offsets.bin", np.int64)
    offsets[1] = 2**40
    offsets.tofile(folder / "offsets.bin")


def damage_missing(folder: Path) -> None:
    (folder / "counts.bin").unlink()


def damage_meta(folder: Path) -> None:
    (folder / "meta.json").write_text((folder / "meta.json").read_text()[:-20])


def damage_no_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def damage_format(folder: Path) -> None:
    meta = folder / "meta.json"
    meta.write_text(meta.read_text().replace('"format": 1', '"format": 0', 1))


def damage_keys(folder: Path) -> None:
    meta = folder / "meta.json"
    meta.write_text(meta.read_text().replace('\n  "levels"', '\n  "floors"'))


def damage_used(folder: Path) -> None:
    (folder / USED).unlink()


def damage_emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    "damage",
    [each for name, each in sorted(globals().items()) if name.startswith("damage_")],
    ids=lambda each: each.__name__,
)
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    whole = binned(Toy(), WINDOW, cache_dir=tmp_path)
    folder, places = whole.folder, whole.places.copy()
    del whole
    damage(folder)
    recordings = Toy()
    with pytest.warns(UserWarning, match="damaged cache, made anew: "):
        again = binned(recordings, WINDOW, cache_dir=tmp_path)
    assert recordings.reads == 12
    np.testing.assert_array_equal(again.places, places)
    assert names(tmp_path) == [folder.name]
    assert binned(recordings, WINDOW, cache_dir=tmp_path).folder == folder
    assert recordings.reads == 12


def test_a_damaged_entry_that_another_has_open_is_made_anew_beside_it(tmp_path):
    reader = binned(Toy(), WINDOW, cache_dir=tmp_path)
    damage_meta(reader.folder)
    before = reader.places.copy()
    with pytest.warns(UserWarning, match="damaged cache"):
        binned(Toy(), WINDOW, cache_dir=tmp_path)
    np.testing.assert_array_equal(reader.places, before)


def test_large_arrays_are_checked_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("spikelfp.data.events.cache.store._WHOLE", 100)
    monkeypatch.setattr("spikelfp.data.events.cache.store._BLOCK", 64)
    monkeypatch.setattr("spikelfp.data.events.cache.store._BLOCKS", 3)
    store = binned(Toy(100), WINDOW, cache_dir=tmp_path)
    folder, size = store.folder, store.places.nbytes
    assert size > 1000
    for place, seen in ((0, True), (size // 2, True), (size - 1, True), (70, False)):
        damage_at(folder / "places.bin", place)
        recordings = Toy(100)
        if seen:
            with pytest.warns(UserWarning, match="checksum differs"):
                binned(recordings, WINDOW, cache_dir=tmp_path)
        else:
            binned(recordings, WINDOW, cache_dir=tmp_path)
        assert (recordings.reads > 0) == seen


def damage_at(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "cache"
    with pytest.raises(
        SaveError, match=rf"cannot write to the cache folder {place}: .*--cache-dir or \$SPIKELFP_CACHE"
    ):
        binned(Toy(), BINS, cache_dir=place)
    assert len(binned(Toy(), BINS, cache_dir=place, in_memory=True)) == 12


@pytest.mark.parametrize("full", ["places", "counts", "labels", "meta"])
def test_a_full_disk(tmp_path, monkeypatch, full):
    if full == "meta":

        def refuse(path, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("spikelfp.data.events.cache.store.write_text", refuse)
    else:
        monkeypatch.setattr(
            "spikelfp.data.events.cache.store.array_path",
            lambda folder, name: Path("/dev/full") if name == full else folder / f"{name}.bin",
        )
    for _ in range(2):
        with pytest.raises(SaveError, match=f"cannot write to the cache folder {tmp_path}: No space left on device"):
            binned(Toy(), WINDOW, cache_dir=tmp_path)
        assert names(tmp_path) == []


def test_an_error_of_a_recording_is_none_of_the_cache(tmp_path):
    class Broken(Toy):
        def read(self, index):
            raise PermissionError(errno.EACCES, "Permission denied", "toy/0.bin")

    with pytest.raises(PermissionError, match=r"toy/0\.bin"):
        binned(Broken(), BINS, cache_dir=tmp_path)
    assert names(tmp_path) == []


def test_an_entry_that_was_cleared_while_it_was_pickled(tmp_path):
    import pickle

    content = pickle.dumps(binned(Toy(), BINS, cache_dir=tmp_path))
    shutil.rmtree(next(tmp_path.iterdir()))
    with pytest.raises(DataError, match="has been cleared from the cache; load the data again"):
        pickle.loads(content)
