"""Folders as they come: parts, classes and sessions by names, label tables, and files without classes."""

import zlib

import numpy as np
import pytest
from source_files import bin_bytes, random_events, write_files

from spikelfp.data.events.recordings import load_recordings
from spikelfp.data.events.sources import files as module
from spikelfp.data.events.sources.folder import without_classes
from spikelfp.data.events.sources.label_table import read_table
from spikelfp.errors import DataError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", 0.0)


def made(root, names):
    """A folder of files with these names, each of other events."""
    return write_files(root, {name: bin_bytes(random_events(zlib.crc32(name.encode()))) for name in names})


def tree(pattern, **levels):
    """All names that ``pattern`` makes of the values of its levels."""
    names = [pattern]
    for level, values in levels.items():
        names = [name.replace("{" + level + "}", value) for name in names for value in values]
    return names


def members(recordings, root):
    """Names of the files of a part within ``root``, each with the name of its class."""
    return {
        recordings.where(index).removeprefix(f"{root}/"): recordings.class_names[label]
        for index, label in enumerate(recordings.labels)
    }


def dat_bytes(events):
    """Prophesee's DAT 2 without a sensor in its header, as N-CARS has it."""
    words = np.zeros((len(events), 2), "<u4")
    words[:, 0] = events["t"]
    words[:, 1] = events["x"].astype("u4") | events["y"].astype("u4") << 14 | events["p"].astype("u4") << 28
    return b"% Data file containing CD events.\n% Version 2\n" + bytes([0, 8]) + words.tobytes()


def test_the_layout_of_n_cars(tmp_path):
    names = tree("n-cars_{p}/{c}/obj_{n}_td.dat", p=("train", "test"), c=("cars", "background"), n=("1", "2"))
    root = write_files(tmp_path / "ncars", {name: dat_bytes(random_events(len(name))) for name in names})
    splits = load_recordings(f"folder:{root}")
    assert splits.train.class_names == ("background", "cars")
    assert members(splits.train, root) == {name: name.split("/")[1] for name in names if "train" in name}
    assert members(splits.test, root) == {name: name.split("/")[1] for name in names if "test" in name}


@pytest.mark.parametrize(
    ("train", "test", "more"),
    [
        ("train", "test", ["val"]),
        ("Training", "TESTING", []),
        ("mine_train", "mine_test", ["mine_val"]),
        ("test-x.y", "train-x.y", []),
        ("ibmGestureTrain", "ibmGestureTest", []),
        ("train", "test", ["validation", "valid"]),
    ],
)
def test_names_of_parts(tmp_path, train, test, more):
    if "test" in train:
        train, test = test, train
    names = tree("{p}/{c}/{n}.bin", p=(train, test, *more), c=("a", "b"), n=("1", "2"))
    root = made(tmp_path / "mine", names)
    splits = load_recordings(f"folder:{root}")
    assert set(members(splits.test, root)) == {name for name in names if name.startswith(f"{test}/")}
    assert set(members(splits.train, root)) == {name for name in names if not name.startswith(f"{test}/")}
    with pytest.raises(UserError, match="has folders of its own for training and test: leave out --split-by session"):
        load_recordings(f"folder:{root}", split_by="session")


def test_parts_within_the_classes(tmp_path):
    names = tree("{c}/{p}/{n}.bin", c=("cup", "ball"), p=("train", "test"), n=("1", "2", "3"))
    root = made(tmp_path / "mine", names)
    splits = load_recordings(f"folder:{root}")
    assert members(splits.train, root) == {name: name.split("/")[0] for name in names if "train" in name}
    assert members(splits.test, root) == {name: name.split("/")[0] for name in names if "test" in name}


def test_names_that_only_look_like_parts(tmp_path):
    root = made(tmp_path / "a", tree("{c}/{n}.bin", c=("red_train", "blue_train"), n=("1", "2")))
    assert load_recordings(f"folder:{root}").train.class_names == ("blue_train", "red_train")
    root = made(tmp_path / "b", tree("{c}/{n}.bin", c=("x_train", "x_test"), n=("1", "2")))
    assert load_recordings(f"folder:{root}").train.class_names == ("x_test", "x_train")


def test_a_folder_without_recordings_beside_the_parts_is_told(tmp_path):
    root = made(tmp_path / "mine", tree("{p}/{c}/1.bin", p=("train", "test"), c=("a", "b")))
    (root / "docs").mkdir()
    (root / "docs" / "readme.md").write_text("text")
    splits = load_recordings(f"folder:{root}")
    assert splits.skipped == (f"{root}/docs: a folder without recordings, beside test, train",)


SESSIONS = tree("{s}/{c}/{n}.bin", s=("monday", "tuesday"), c=("cup", "ball"), n=("1", "2"))


def test_two_readings_of_a_tree_are_shown(tmp_path):
    root = made(tmp_path / "mine", SESSIONS)
    with pytest.raises(
        DataError,
        match=r"the classes may be monday, tuesday \(--class-level 1\) or ball, cup \(--class-level 2\): say which",
    ):
        load_recordings(f"folder:{root}")
    first = load_recordings(f"folder:{root}", class_level=1)
    assert first.train.class_names == ("monday", "tuesday")
    second = load_recordings(f"folder:{root}", class_level=2)
    assert second.train.class_names == ("ball", "cup")
    both = members(second.train, root) | members(second.test, root)
    assert both == {name: name.split("/")[1] for name in SESSIONS}


def test_the_only_level_with_two_names_is_that_of_the_classes(tmp_path):
    root = made(tmp_path / "a", tree("only/{c}/{n}.bin", c=("cup", "ball"), n=("1", "2")))
    assert load_recordings(f"folder:{root}").train.class_names == ("ball", "cup")
    root = made(tmp_path / "b", tree("{c}/events/{n}.bin", c=("cup", "ball"), n=("1", "2")))
    assert load_recordings(f"folder:{root}").train.class_names == ("ball", "cup")


def test_files_above_the_level_of_the_classes_are_listed(tmp_path):
    root = made(tmp_path / "mine", [*SESSIONS, "monday/loose.bin"])
    splits = load_recordings(f"folder:{root}", class_level=2)
    assert splits.skipped == (f"{root}/monday/loose.bin: in no folder of level 2, that of the classes",)
    with pytest.raises(UserError, match="level 1, got class level 0"):
        load_recordings(f"folder:{root}", class_level=0)


@pytest.mark.parametrize(("level", "names"), [(2, SESSIONS), (1, [
    "/".join((c, s, n)) for s, c, n in (name.split("/") for name in SESSIONS)])])  # fmt: skip
@pytest.mark.parametrize("split_by", ["session", "subject"])
def test_a_session_is_in_one_part(tmp_path, level, names, split_by):
    root = made(tmp_path / "mine", names)
    splits = load_recordings(f"folder:{root}", class_level=level, split_by=split_by)
    sessions = [{name.split("/")[2 - level] for name in members(part, root)} for part in (splits.train, splits.test)]
    assert sorted(map(sorted, sessions)) == [["monday"], ["tuesday"]]
    (learnt,), (tested,) = sessions
    assert splits.notes == (f"train by {split_by}: {learnt} (4)", f"test by {split_by}: {tested} (4)")
    assert len(set(splits.train.groups.tolist())) == 1


def test_sessions_and_subjects_by_the_names_of_files(tmp_path):
    names = tree("{c}/user{u}_{l}.bin", c=("cup", "ball"), u=("1", "2", "3"), l=("led", "sun"))
    root = made(tmp_path / "mine", names)

    def keys(part, until):
        return {name.split("/")[1][:until] for name in members(part, root)}

    by_subject = load_recordings(f"folder:{root}", split_by="subject")
    learnt, tested = keys(by_subject.train, 5), keys(by_subject.test, 5)
    assert len(learnt) + len(tested) == len(learnt | tested) == 3
    assert min(len(learnt), len(tested)) > 0
    by_session = load_recordings(f"folder:{root}", split_by="session")
    learnt, tested = keys(by_session.train, None), keys(by_session.test, None)
    assert len(learnt) + len(tested) == len(learnt | tested) == 6
    assert min(len(learnt), len(tested)) > 0


def test_a_session_that_a_class_needs_stays_for_training(tmp_path):
    for seed in range(8):  # whichever the hashes prefer
        names = [*tree("s{s}/cup/1.bin", s=(f"{seed}", f"{seed + 50}")), f"s{seed}/ball/1.bin"]
        root = made(tmp_path / str(seed), names)
        splits = load_recordings(f"folder:{root}", class_level=2, split_by="session")
        assert {name.split("/")[0] for name in members(splits.test, root)} == {f"s{seed + 50}"}
        assert splits.notes[-1] == "the test part has no recordings of ball"


def test_sessions_that_cannot_be_divided(tmp_path):
    root = made(tmp_path / "one", tree("s/{c}/{n}.bin", c=("cup", "ball"), n=("1", "2")))
    with pytest.raises(DataError, match="all recordings are of one session, 's'"):
        load_recordings(f"folder:{root}", split_by="session")
    root = made(tmp_path / "own", ["s1/cup/1.bin", "s2/ball/1.bin"])
    with pytest.raises(DataError, match="class 'ball' was recorded in one session alone"):
        load_recordings(f"folder:{root}", class_level=2, split_by="session")
    with pytest.raises(UserError, match="did you mean 'session'"):
        load_recordings(f"folder:{root}", class_level=2, split_by="sesion")


def test_other_data_sets_take_no_such_options():
    with pytest.raises(UserError, match="nmnist takes no split_by"):
        load_recordings("nmnist", split_by="session")


# Label tables


GESTURES = "class,startTime_usec,endTime_usec\n2,0,100000\n1,100000,200000\n\n2,200000,290000\n"


def labelled(root, files=("user1_led", "user1_sun", "user2_led", "user3_led")):
    made(root, [f"{name}.bin" for name in files])
    for name in files:
        (root / f"{name}_labels.csv").write_text(GESTURES)
    return root


def test_tables_beside_recordings(tmp_path):
    root = labelled(tmp_path / "mine")
    splits = load_recordings(f"folder:{root}", label_table="_labels.csv")
    assert splits.train.class_names == ("1", "2")
    assert len(splits.train) + len(splits.test) == 12
    assert splits.skipped == ()
    files = [{part.where(index).split(",")[0] for index in range(len(part))} for part in (splits.train, splits.test)]
    assert not files[0] & files[1]
    for part in (splits.train, splits.test):
        for index, label in enumerate(part.labels):
            path, _, time = part.where(index).partition(", ")
            start, end = (int(word) for word in time.split()[:3:2])
            assert part.class_names[label] == ("1" if start == 100_000 else "2")
            whole = random_events(zlib.crc32(path.rsplit("/", 1)[1].encode()))
            wanted = [(t - start, x, y, p) for t, x, y, p in whole.tolist() if start <= t < end]
            assert part.read(index).tolist() == wanted
    by_subject = load_recordings(f"folder:{root}", label_table="_labels.csv", split_by="subject")
    users = [{part.where(index).split("/")[-1][:5] for index in range(len(part))} for part in (
        by_subject.train, by_subject.test)]  # fmt: skip
    assert not users[0] & users[1]


def test_one_table_for_all(tmp_path):
    root = made(tmp_path / "mine", ["day1/a.bin", "day2/a.bin", "b.bin"])
    table = root / "what.csv"
    table.write_text(
        "file;start_ms;end_ms;label\nday1/a.bin;0;100;wave\nday2/a;0;100;clap\nb;0;90.5;wave\nb.bin;0;90;clap"
    )
    splits = load_recordings(f"folder:{root}", label_table="what.csv")
    assert splits.train.class_names == ("clap", "wave")
    assert len(splits.train) + len(splits.test) == 4
    table.write_text(table.read_text().replace("day2/a", "a"))
    with pytest.raises(DataError, match=r"line 3 names a, which may be day1/a.bin or day2/a.bin: write the path"):
        load_recordings(f"folder:{root}", label_table="what.csv")
    table.write_text("file,start_ms,end_ms,label\nday1/a.bin,0,100,wave\nc,0,100,clap\nb,0,90,clap")
    with pytest.raises(DataError, match="line 3 names c, which is not in"):
        load_recordings(f"folder:{root}", label_table="what.csv")


def test_tables_in_folders_of_parts(tmp_path):
    labelled(tmp_path / "mine" / "train")
    labelled(tmp_path / "mine" / "test", ("user9",))
    splits = load_recordings(f"folder:{tmp_path / 'mine'}", label_table="_labels.csv")
    assert (len(splits.train), len(splits.test)) == (12, 3)
    assert len(set(splits.train.groups.tolist())) == 4


def test_a_recording_without_a_table(tmp_path):
    root = labelled(tmp_path / "mine")
    (root / "user2_led_labels.csv").unlink()
    with pytest.raises(DataError, match=r"user2_led.bin: no label table user2_led_labels.csv beside it"):
        load_recordings(f"folder:{root}", label_table="_labels.csv")
    splits = load_recordings(f"folder:{root}", label_table="_labels.csv", skip_bad=True)
    assert len(splits.train) + len(splits.test) == 9
    with pytest.raises(UserError, match="a label table says the classes"):
        load_recordings(f"folder:{root}", label_table="_labels.csv", class_level=1)


def test_an_interval_without_events_tells_of_the_unit(tmp_path):
    root = labelled(tmp_path / "mine")
    (root / "user2_led_labels.csv").write_text("class,start_s,end_s\n1,0,0.2\n2,50,60\n")
    splits = load_recordings(f"folder:{root}", label_table="_labels.csv")
    places = [(part, index) for part in (splits.train, splits.test) for index in range(len(part))]
    (late,) = [(part, index) for part, index in places if "50000000 to" in part.where(index)]
    with pytest.raises(DataError, match=r"user2_led.bin, 50000000 to 60000000 µs: holds no events, which are of \d+"):
        late[0].read(late[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column start in its first line"),
        ("a,b\n1,2\n", r"no column start in its first line \(a, b\): a label table has start, end, class"),
        ("start,end\n1,2\n", "no column class"),
        ("start,end,class,label\n1,2,a,b\n", "'class' and 'label' may both be the class"),
        ("start_ms,end_us,class\n1,2,a\n", "'start_ms' and 'end_us' are not of one unit"),
        ("start,end,class\n1,2,\n", "line 2 names no class"),
        ("start,end,class\n1,x,a\n", "line 2: 'x' is no time$"),
        ("start,end,class\n1,nan,a\n", "line 2: 'nan' is no time from 0 on"),
        ("start,end,class\n-1,2,a\n", "line 2: '-1' is no time from 0 on"),
        ("start,end,class\n0.5,2.5,a\n", "line 2: '0.5' is no whole µs: name the unit"),
        ("start,end,class\n5,5,a\n", "line 2 ends at 5 µs, and begins at 5 µs"),
        ("start,end,class\n1,2\n", "line 2 has 2 cells, the head has 3"),
        ("start,end,class\n", "has no lines"),
        ("start,end,class\n1,1e300,a\n", "no time from 0 on"),
        ("\x00\xff", "no column|is no table"),
    ],
)
def test_damaged_tables(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message) as error:
        read_table(path, of_several=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "factor"),
    [
        ("class,startTime_usec,endTime_usec", 1), ("label,start,end", 1), ("Class,Start (ms),End (ms)", 1_000),
        ("gesture,begin_s,stop_s", 1_000_000), ("action,onset [sec],offset [sec]", 1_000_000),
    ],
)  # fmt: skip
def test_units_of_times(tmp_path, head, factor):
    path = tmp_path / "labels.csv"
    path.write_text(f"\ufeff{head}\nx,3,5\n", encoding="utf-8")
    (line,) = read_table(path, of_several=False)
    assert (line.start, line.end, line.label, line.line) == (3 * factor, 5 * factor, "x", 2)


# Without classes


def test_files_without_classes_can_be_looked_at(tmp_path):
    root = made(tmp_path / "mine", ["a.bin", "b.bin"])
    found = without_classes(root)
    assert len(found.recordings) == 2
    assert found.recordings.class_names == ()
    assert "have no classes" in found.notes[0]
    assert np.array_equal(found.recordings.read(1), random_events(zlib.crc32(b"b.bin")))
    assert len(without_classes(root / "a.bin").recordings) == 1
    assert without_classes(made(tmp_path / "classes", ["x/1.bin", "y/1.bin"])) is None
    with pytest.raises(DataError, match="holds no recordings"):
        without_classes(write_files(tmp_path / "none", {"a.txt.md": b"x"}))
