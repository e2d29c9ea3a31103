import os
import pickle
import stat
import zlib

import numpy as np
import pytest
from source_files import bin_bytes, random_events, shared_data, write_files

from spikelfp.data.events import sources  # noqa: F401
from spikelfp.data.events.event import EVENT, Sensor
from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources import files as module
from spikelfp.data.events.sources.folder import folder as load_folder
from spikelfp.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", 0.0)


def dat_bytes(events, width=64, height=48):
    """Prophesee's DAT 2, whose header says the sensor."""
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"]
    words[:, 1] = events["x"].astype("u4") | events["y"].astype("u4") << 14 | events["p"].astype("u4") << 28
    return f"% Version 2\n% Width {width}\n% Height {height}\n".encode() + bytes([12, 8]) + words.tobytes()


def recording(name, **options):
    return random_events(zlib.crc32(name.encode()), **options)


def classes(kind="bin", count=6, names=("left", "right", "up")):
    """Contents of ``count`` files for each class."""
    write = {"bin": bin_bytes, "dat": dat_bytes}[kind]
    files = [f"{name}/{number}.{kind}" for name in names for number in range(count)]
    return {file: write(recording(file)) for file in files}


def files_of(recordings):
    return [recordings.where(index) for index in range(len(recordings))]


def test_an_archive_of_several_recordings_in_a_folder_is_refused_by_name(tmp_path):
    """Or left out and listed: a file is one recording of its class."""
    t = np.arange(20)
    for number, name in enumerate(("a/1", "a/2", "b/1", "b/2", "b/many")):
        path = tmp_path / "mine" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        more = {"offsets": np.array([0, 5, 12])} if number == 4 else {}
        np.savez(path, t=t, x=t % 4, y=t % 3, p=t % 2, **more)
    with pytest.raises(DataError, match=r"b/many\.npz: holds 3 recordings of 20 events together, cut by its offsets"):
        load_recordings(f"folder:{tmp_path}/mine")
    splits = load_recordings(f"folder:{tmp_path}/mine", skip_bad=True)
    assert len(splits.train) + len(splits.test) == 4
    assert "save each in a file of its own" in splits.skipped[0]


def test_each_folder_is_a_class_and_each_file_a_recording(tmp_path):
    root = write_files(tmp_path / "mine", classes() | {"up/below/further/x.bin": bin_bytes(recording("x"))})
    splits = load_recordings(f"folder:{root}")
    assert splits.name == f"folder:{root}"
    assert splits.train.class_names == splits.test.class_names == ("left", "right", "up")
    seen = {}
    for part in (splits.train, splits.test):
        assert set(part.labels) == {0, 1, 2}
        for index, path in enumerate(files_of(part)):
            seen[os.path.relpath(path, root)] = part.class_names[part.labels[index]]
            assert np.array_equal(
                part.read(index), recording("x" if "further" in path else os.path.relpath(path, root))
            )
    assert seen == {name: name.split("/")[0] for name in [*classes(), "up/below/further/x.bin"]}
    assert splits.skipped == ()
    again = pickle.loads(pickle.dumps(splits.train))
    assert np.array_equal(again.read(0), splits.train.read(0))


def test_a_file_that_is_added_moves_no_other(tmp_path):
    root = write_files(tmp_path / "mine", classes(count=40))
    before = load_recordings(f"folder:{root}")
    write_files(root, {f"left/new{number}.bin": bin_bytes(random_events(number)) for number in range(10)})
    after = load_recordings(f"folder:{root}")
    assert set(files_of(before.train)) < set(files_of(after.train))
    assert set(files_of(before.test)) <= set(files_of(after.test))
    assert before.train.fingerprint() != after.train.fingerprint()


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_folders_of_parts_are_the_split(tmp_path, train, test):
    parts = {train: classes(count=3), test: classes(count=2, names=("right", "left")), "val": classes(count=1)}
    files = {f"{part}/{name}": content for part, contents in parts.items() for name, content in contents.items()}
    root = write_files(tmp_path / "mine", files)
    splits = load_recordings(f"folder:{root}")
    tested = {os.path.relpath(path, root) for path in files_of(splits.test)}
    learnt = {os.path.relpath(path, root) for path in files_of(splits.train)}
    assert tested == {name for name in files if name.startswith(test)}
    assert learnt == set(files) - tested
    assert splits.test.class_names == ("left", "right", "up")


def test_parts_may_also_be_classes(tmp_path):
    root = write_files(tmp_path / "mine", classes(names=("train", "test")))
    assert load_recordings(f"folder:{root}").train.class_names == ("test", "train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/a/1.bin", "train/b/1.bin"), "holds train, but no folder test$"),
        (("test/a/1.bin", "val/b/1.bin"), "holds test, val, but no folder train$"),
        (("train/a/1.bin", "test/a/1.bin", "c/1.bin"), "holds test, train and beside that c"),
    ],
)
def test_a_division_that_is_not_clear(tmp_path, names, message):
    root = write_files(tmp_path / "mine", {name: bin_bytes(recording(name)) for name in names})
    with pytest.raises(DataError, match=message):
        load_recordings(f"folder:{root}")


def test_numbers_are_sorted_as_numbers(tmp_path):
    root = write_files(tmp_path / "mine", classes(names=("10", "9", "1"), count=2))
    assert load_recordings(f"folder:{root}").train.class_names == ("1", "9", "10")


def test_hidden_files_do_not_count_and_others_are_listed(tmp_path):
    extra = {
        "left/.1.bin": b"",
        ".git/1.bin": b"",
        ".DS_Store": b"",
        "left/notes.pdf": b"",
        "README.md": b"",
        "all.bin": b"",
    }
    root = write_files(tmp_path / "mine", classes() | extra)
    splits = load_recordings(f"folder:{root}")
    assert len(splits.train) + len(splits.test) == 18
    assert sorted(splits.skipped) == [
        f"{root}/README.md: in no folder of a class",
        f"{root}/all.bin: in no folder of a class",
        f"{root}/left/notes.pdf: no reader for files that end in '.pdf'",
    ]


def test_the_sensor_is_that_of_the_headers(tmp_path):
    root = write_files(tmp_path / "mine", classes("dat"))
    splits = load_recordings(f"folder:{root}")
    assert splits.train.sensor == Sensor(64, 48, 2)
    assert splits.test.read(0).dtype == EVENT


def test_or_the_smallest_that_holds_the_events_of_all(tmp_path):
    files = classes(count=2) | {"left/wide.bin": bin_bytes(recording("w", width=50, height=5))}
    root = write_files(tmp_path / "mine", files | {"right/high.bin": bin_bytes(recording("h", width=7, height=90))})
    sensor = load_recordings(f"folder:{root}").train.sensor
    xs, ys = (int(recording(name, **size)[field].max()) + 1 for name, size, field in (
        ("w", {"width": 50, "height": 5}, "x"), ("h", {"width": 7, "height": 90}, "y")))  # fmt: skip
    assert sensor == Sensor(xs, ys, 2)
    assert load_folder(str(root), sensor=Sensor(128, 100, 2)).test.sensor == Sensor(128, 100, 2)


def test_files_that_do_not_say_it_must_fit(tmp_path):
    root = write_files(tmp_path / "mine", classes("dat") | classes("bin"))
    assert load_recordings(f"folder:{root}").train.sensor == Sensor(64, 48, 2)
    write_files(root, {"left/big.bin": bin_bytes(recording("big", width=80))})
    with pytest.raises(DataError, match=r"different sensors: .*\.dat is of 64 x 48 .*left/big\.bin of \d\d x"):
        load_recordings(f"folder:{root}")


def test_mixed_sensors_are_refused_with_two_files(tmp_path):
    root = write_files(tmp_path / "mine", classes("dat"))
    write_files(root, {"up/other.dat": dat_bytes(recording("other"), 128, 96)})
    with pytest.raises(
        DataError, match=r"^recordings of different sensors: .*dat is of .*dat of .*; a network"
    ) as error:
        load_recordings(f"folder:{root}")
    assert "64 x 48" in str(error.value)
    assert "128 x 96" in str(error.value)
    assert "up/other.dat" in str(error.value)


def unsorted():
    events = random_events(5)
    events["t"][0] = 8_000_000
    return events


BAD = {
    "truncated": (bin_bytes(random_events(1))[:-2], r"248 bytes .* byte 245"),
    "empty": (b"", "is empty"),
    "of no order": (bin_bytes(unsorted()), r"event 1, at byte 5"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_or_skipped_and_listed(tmp_path, kind):
    content, message = BAD[kind]
    root = write_files(tmp_path / "mine", classes() | {"right/bad.bin": content})
    with pytest.raises(DataError, match=rf"^{root}/right/bad.bin: .*{message}") as error:
        load_recordings(f"folder:{root}")
    assert "\n" not in str(error.value)
    splits = load_recordings(f"folder:{root}", skip_bad=True)
    assert len(splits.train) + len(splits.test) == 18
    assert splits.skipped == (str(error.value),)


def test_mislabelled_and_foreign_files(tmp_path):
    root = write_files(tmp_path / "mine", classes() | {"right/bad.aedat": b"nonsense", "up/events.npy": b"PK\3\4"})
    splits = load_recordings(f"folder:{root}", skip_bad=True)
    assert len(splits.skipped) == 2
    assert len(splits.train) + len(splits.test) == 18


def test_links_are_followed_and_broken_ones_are_bad(tmp_path):
    elsewhere = write_files(tmp_path / "elsewhere", classes())
    root = tmp_path / "mine"
    root.mkdir()
    for name in ("left", "right"):
        (root / name).symlink_to(elsewhere / name)
    (root / "up").mkdir()
    for number in range(3):
        (root / "up" / f"{number}.bin").symlink_to(elsewhere / "up" / f"{number}.bin")
    splits = load_recordings(f"folder:{root}")
    assert len(splits.train) + len(splits.test) == 15
    (root / "up" / "lost.bin").symlink_to(tmp_path / "nowhere")
    (root / "up" / "self.bin").symlink_to(root / "up" / "self.bin")
    with pytest.raises(DataError, match=r"up/lost.bin: a link that leads nowhere"):
        load_recordings(f"folder:{root}")
    assert len(load_recordings(f"folder:{root}", skip_bad=True).skipped) == 2
    (elsewhere / "left" / "round").symlink_to(elsewhere / "left")
    with pytest.raises(DataError, match="is a link back to a folder that it lies in"):
        load_recordings(f"folder:{root}", skip_bad=True)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_fewer_than_two_classes(tmp_path, skip_bad):
    root = tmp_path / "mine"
    root.mkdir()
    with pytest.raises(DataError, match=rf"^{root}: expected a folder .* found none$"):
        load_recordings(f"folder:{root}", skip_bad=skip_bad)
    write_files(root, classes(names=("left",)))
    with pytest.raises(DataError, match=rf"^{root}: expected a folder of recordings for each of two .* found left$"):
        load_recordings(f"folder:{root}", skip_bad=skip_bad)


def test_a_class_without_recordings(tmp_path):
    root = write_files(tmp_path / "mine", classes())
    (root / "down").mkdir()
    with pytest.raises(DataError, match=rf"^{root}/down: a class without recordings$"):
        load_recordings(f"folder:{root}")
    splits = load_recordings(f"folder:{root}", skip_bad=True)
    assert splits.skipped == (f"{root}/down: a class without recordings",)
    assert splits.train.class_names == ("left", "right", "up")


def test_a_class_of_the_test_alone(tmp_path):
    parts = {"train": classes(count=2), "test": classes(count=2, names=("left", "down"))}
    files = {f"{part}/{name}": content for part, contents in parts.items() for name, content in contents.items()}
    root = write_files(tmp_path / "mine", files)
    with pytest.raises(DataError, match=rf"^{root}/test/down: a class that the training part lacks$"):
        load_recordings(f"folder:{root}")
    splits = load_recordings(f"folder:{root}", skip_bad=True)
    assert splits.test.labels.tolist() == [0, 0]


def test_where_the_folder_is(tmp_path, monkeypatch):
    write_files(tmp_path / "data" / "mine", classes())
    assert len(load_recordings("folder:mine", tmp_path / "data").train) > 0
    monkeypatch.chdir(tmp_path / "data")
    assert len(load_recordings("folder:mine").train) > 0
    with pytest.raises(DataError, match=rf"^there is no /nowhere/yours and no {tmp_path}/data/yours; name the"):
        load_recordings("folder:yours", "/nowhere")
    with pytest.raises(DataError, match="expected a folder with a folder of recordings for each class, found a file"):
        load_recordings("folder:mine/left/0.bin")


def test_the_fingerprint_depends_on_names_classes_and_content_alone(tmp_path):
    def prints(place, files):
        splits = load_recordings(f"folder:{write_files(tmp_path / place, files)}")
        return splits.train.fingerprint(), splits.test.fingerprint()

    files = classes(count=2)
    first = prints("a", files)
    assert prints("b", files) == first
    assert first[0] != first[1]
    renamed = {name.replace("up/", "down/"): content for name, content in files.items()}
    swapped = files | {"up/0.bin": files["up/1.bin"], "up/1.bin": files["up/0.bin"]}
    assert prints("c", renamed) != first
    assert prints("d", swapped) != first


def test_files_are_read_once_to_know_their_sensor(tmp_path, monkeypatch):
    root = write_files(tmp_path / "mine", classes())
    first = load_recordings(f"folder:{root}")
    monkeypatch.setattr("spikelfp.data.events.sources.folder.read", lambda path: pytest.fail(f"read {path}"))
    assert load_recordings(f"folder:{root}").train.sensor == first.train.sensor


def test_a_file_that_changes_behind_its_list(tmp_path):
    root = write_files(tmp_path / "mine", classes("dat"))
    recordings = load_recordings(f"folder:{root}").train
    path = recordings.where(0)
    with open(path, "wb") as file:
        file.write(dat_bytes(random_events(0), 200, 100))
    with pytest.raises(DataError, match=rf"^{path}: is of a sensor of 200 x 100 .*, expected 64 x 48"):
        recordings.read(0)


def test_folders_that_are_read_only(tmp_path):
    root = write_files(tmp_path / "mine", classes())
    folders = [root, *(root / name for name in ("left", "right", "up"))]
    for each in folders:
        each.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        splits = load_recordings(f"folder:{root}")
        splits.train.read(0)
        assert len(splits.train.fingerprint()) == 32
    finally:
        for each in folders:
            each.chmod(stat.S_IRWXU)


def test_thousands_of_files(tmp_path):
    content = bin_bytes(random_events(0, 5))
    names = [f"{number % 10}/{number}.bin" for number in range(3000)]
    splits = load_recordings(f"folder:{write_files(tmp_path / 'mine', dict.fromkeys(names, content))}")
    assert len(splits.train) + len(splits.test) == 3000
    assert 450 < len(splits.test) < 750


def test_real_recordings_of_different_cameras(tmp_path):
    names = ("sample_evt3.raw", "sample_davis346.aedat4")
    samples = shared_data(f"event_samples/{names[1]}") / "event_samples"
    for name in names:
        for number in range(2):
            path = tmp_path / "mine" / name.split(".")[0] / f"{number}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(samples / name)
    with pytest.raises(DataError, match=r"different sensors: .* of 346 x 260 .* of 1280 x 720 pixels"):
        load_recordings("folder:mine", tmp_path)
    for number in range(2):
        (tmp_path / "mine" / "sample_evt3" / f"{number}sample_evt3.raw").unlink()
        (tmp_path / "mine" / "sample_evt3" / f"{number}.aedat4").symlink_to(samples / names[1])
    splits = load_recordings("folder:mine", tmp_path)
    assert splits.train.sensor == Sensor(346, 260, 2)
    assert len(splits.train.read(0)) == 117_667
