"""Long recordings on the command line: from a folder of sessions to a run and its export."""

import json

import numpy as np
import pytest
import yaml
from cli.bars import bar


def long_bar(right, random, pieces=10):
    """Bars one after the other, 800 ms in all."""
    parts = []
    for number in range(pieces):
        part = bar(right, random)
        part["t"] += 80_000 * number
        parts.append(part)
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Two sessions, each with a recording of 800 ms of two objects."""
    folder = tmp_path_factory.mktemp("long") / "objects"
    random = np.random.default_rng(0)
    for session in ("monday", "tuesday"):
        for name in ("left", "right"):
            (folder / session / name).mkdir(parents=True)
            np.save(folder / session / name / "all.npy", long_bar(name == "right", random))
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Recordings of both objects one after the other, each with a label table."""
    folder = tmp_path_factory.mktemp("labelled") / "gestures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for user in range(3):
        parts = [bar(number % 2 == 1, random) for number in range(6)]
        for number, part in enumerate(parts):
            part["t"] += 80_000 * number
        np.save(folder / f"user{user}.npy", np.concatenate(parts))
        lines = [f"{('left', 'right')[number % 2]},{80 * number},{80 * number + 80}" for number in range(6)]
        (folder / f"user{user}_labels.csv").write_text("\n".join(["class,start_ms,end_ms", *lines]))
    return folder


TREE = ["--class-level", "2", "--split-by", "session", "--slice", "80"]


def test_info_counts_slices_and_what_they_leave_out(sessions, spikelfp):
    code, out, err = spikelfp("data", "info", sessions)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "monday, tuesday (--class-level 1) or left, right (--class-level 2)" in err
    code, out, err = spikelfp("data", "info", sessions, *TREE, "--json")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert [(part["name"], part["recordings"], part["per_class"]) for part in found["parts"]] == [
        ("train", 18, [9, 9]),
        ("test", 18, [9, 9]),
    ]
    assert len(found["notes"]) == 4
    assert found["notes"][0].startswith("train by session: ")
    assert "18 slices of 80 ms from 2 recordings; left out: " in found["notes"][2]
    assert found["notes"][2] in out
    code, out, err = spikelfp("data", "info", sessions, *TREE, "--slice-overlap", "0.5", "--json")
    assert json.loads(out.splitlines()[-1])["parts"][0]["recordings"] == 38 - 2 * (19 - 18)


def test_show_draws_a_slice_of_a_folder_and_of_a_file(sessions, tmp_path, spikelfp):
    picture = tmp_path / "slice.html"
    code, _, err = spikelfp("data", "show", sessions, *TREE, "--index", "17", "--out", picture)
    assert code == 0, err
    assert "slice 17" in picture.read_text()
    alone = sessions / "monday" / "left" / "all.npy"
    code, _, err = spikelfp("data", "show", alone, "--slice", "80", "--index", "3", "--out", tmp_path / "a.png")
    assert code == 0, err
    code, _, err = spikelfp("data", "show", alone, "--slice", "80", "--index", "9", "--out", tmp_path / "b.png")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "it has 9 slices, 0 to 8" in err
    code, _, err = spikelfp("data", "show", alone, "--split-by", "file", "--out", tmp_path / "b.png")
    assert (code, "--split-by is of a folder of them" in err) == (2, True)


def test_recordings_without_classes_can_be_looked_at(sessions, tmp_path, spikelfp):
    loose = sessions / "monday" / "left"
    code, out, err = spikelfp("data", "info", loose, "--slice-events", "100")
    assert code == 0, err
    assert "no classes" in out
    assert "make a folder for each class" in out
    assert spikelfp("data", "show", loose, "--out", tmp_path / "a.png")[0] == 0
    code, out, err = spikelfp("data", "info", loose / "all.npy", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["parts"][0]["events"] == [4800, 4800, 4800]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--slice", "80", "--slice-events", "100"], "--slice ms or of --slice-events, not both"),
        (["--slice-overlap", "0.5"], "--slice-overlap 0.5 belongs to --slice or --slice-events"),
        (["--slice", "80", "--slice-overlap", "1"], "slice-overlap must lie in [0, 1), got 1.0"),
        (["--slice", "0"], "slice must lie in [0.001, 1000000000], got 0.0"),
        (["--slice", "5000"], "no recording is as long as a slice of 5000 ms"),
        (["--slice-events", "0"], "slice-events must be at least 1"),
        (["--split-by", "day"], "split-by"),
        (["--class-level", "0"], "class-level must be at least 1, got 0"),
        (["--label-table", "_none.csv"], "no label table all_none.csv beside it"),
    ],
)
def test_mistakes_are_one_line(sessions, tmp_path, monkeypatch, spikelfp, arguments, named):
    monkeypatch.chdir(tmp_path)
    own = arguments if "level" in arguments[0] or "table" in arguments[0] else ["--class-level", "2", *arguments]
    code, _, err = spikelfp("train", "--data", f"folder:{sessions}", *own)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert named in err
    code, _, err = spikelfp("train", "--data", "nmnist", "--split-by", "session")
    assert (code, "--split-by session belongs to recordings of one" in err) == (2, True)


@pytest.mark.parametrize("layout", ["sessions", "labelled"])
def test_a_run_on_slices_and_its_export(sessions, labelled, tmp_path, spikelfp, layout):
    """Two sessions, or people with label tables: train on one, test on the other."""
    source = {"sessions": sessions, "labelled": labelled}[layout]
    options = TREE if layout == "sessions" else ["--label-table", "_labels.csv", "--split-by", "subject"]
    out = tmp_path / "run"
    code, printed, err = spikelfp(
        "train", "--data", f"folder:{source}", *options, "--steps", "8", "--model", "lif-mlp", "--hidden", "32",
        "--reset", "zero", "--epochs", "15", "--batch-size", "8", "--device", "cpu", "--out", out, "--no-report",
        "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(printed.splitlines()[-1])["test_accuracy"] > 0.8
    kind = "session" if layout == "sessions" else "subject"
    assert f"test by {kind}: " in err
    assert ("slices of 80 ms" in err) == (layout == "sessions")
    events = yaml.safe_load((out / "config.yaml").read_text())["events"]
    assert events["split_by"] == kind
    assert spikelfp("eval", out)[0] == 0
    built = spikelfp("build", out, "--samples", "4", "--out", tmp_path / "e", program="hw-export")
    assert built[0] == 0, built[2]
    assert spikelfp("verify", tmp_path / "e", program="hw-export")[0] == 0
