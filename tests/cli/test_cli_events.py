"""Recordings on the command line: looking at them, their cache, a run on them, and its export."""

import json

import numpy as np
import pytest
import yaml
from cli.bars import write_bars


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "bars"
    write_bars(folder)
    return folder


def test_info_counts_recordings_and_classes(bars, spikelfp):
    code, out, _ = spikelfp("data", "info", bars, "--json")
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert found["class_names"] == ["left", "right"]
    assert sum(part["recordings"] for part in found["parts"]) == 30
    assert all(part["events"] == [480, 480, 480] for part in found["parts"])
    assert "16 x 16 pixels, 2 polarities" in out


@pytest.mark.parametrize("ending", ["png", "gif", "html"])
def test_show_draws_a_recording(bars, tmp_path, spikelfp, ending):
    picture = tmp_path / f"left.{ending}"
    code, out, err = spikelfp("data", "show", f"folder:{bars}", "--class", "left", "--window", "10", "--out", picture)
    assert (code, out.strip()) == (0, str(picture)), err
    start = {"png": b"\x89PNG", "gif": b"GIF89a", "html": b"<!doctype html>"}[ending]
    assert picture.read_bytes()[: len(start)].lower() == start.lower()


def test_show_draws_a_file(bars, tmp_path, spikelfp):
    assert spikelfp("data", "show", bars / "left" / "03.npy", "--out", tmp_path / "a.png")[0] == 0
    code, _, err = spikelfp("data", "show", bars / "left" / "03.npy", "--index", "2", "--out", tmp_path / "b.png")
    assert code == 2
    assert "is one recording" in err


def test_what_files_do_not_say_is_stated(tmp_path, spikelfp):
    """Addresses of a DAVIS without its name, a table of two, columns in an order of one's own."""
    rows = np.stack([np.arange(60) % 9, 10 * np.arange(60), np.arange(60) % 7, np.arange(60) % 2], axis=1)
    for number, label in enumerate(("a", "a", "b", "b")):
        path = tmp_path / "own" / label / f"{number}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, left=rows, right=rows[:20])
        address = (179 - rows[:, 2]) << 22 | (239 - rows[:, 0]) << 12 | rows[:, 3] << 11
        davis = tmp_path / "davis" / label / f"{number}.aedat"
        davis.parent.mkdir(parents=True, exist_ok=True)
        davis.write_bytes(b"#!AER-DAT2.0\r\n" + np.stack([address, rows[:, 1]], 1).astype(">u4").tobytes())
    code, _, err = spikelfp("data", "info", tmp_path / "davis")
    assert code == 2
    assert "one of --sensor 240x180, --sensor 346x260, --sensor 640x480" in err
    code, out, err = spikelfp("data", "info", tmp_path / "davis", "--sensor", "240x180")
    assert (code, "240 x 180 pixels, 2 polarities" in out) == (0, True), err
    assert spikelfp("data", "show", davis, "--sensor", "240x180", "--out", tmp_path / "a.png")[0] == 0
    code, _, err = spikelfp("data", "info", tmp_path / "own")
    assert (code, "choose one with --table" in err) == (2, True)
    code, out, err = spikelfp(
        "data", "info", tmp_path / "own", "--table", "right", "--columns", "x,t,y,p", "--sensor", "16x16"
    )
    assert (code, "16 x 16 pixels" in out) == (0, True), err
    run = tmp_path / "run"
    code, _, err = spikelfp(
        "train", "--data", f"folder:{tmp_path / 'own'}", "--table", "right", "--columns", "x,t,y,p",
        "--sensor", "16x16", "--model", "lif-mlp", "--hidden", "4", "--steps", "2", "--epochs", "1", "--out", run,
    )  # fmt: skip
    assert code == 0, err
    assert yaml.safe_load((run / "config.yaml").read_text())["events"]["sensor"] == "16x16"
    for arguments, text in (
        (["data", "info", tmp_path / "own", "--sensor", "wide"], "a sensor is written as width x height"),
        (["data", "info", tmp_path / "own", "--columns", "a,b"], "columns are t, x, y, p"),
        (["train", "--data", "nmnist", "--sensor", "16x16"], "belongs to recordings of one's own"),
    ):
        code, _, err = spikelfp(*arguments)
        assert (code, text in err) == (2, True), err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["data", "info", "digits"], "digits holds no recordings of events"),
        (["data", "info", "nmnst"], "did you mean 'nmnist'"),
        (["data", "info", "folders:x"], "did you mean 'folder'"),
        (["data", "info", "nothing"], "choose from blobs, braille, cifar10, "),
        (["data", "show", "nothing.bin"], "there is no file or folder nothing.bin"),
        (["data", "show", "folder:nothing"], "nothing; name the folder it lies in with --data-dir"),
        (["train", "--data", "{path}"], "write folder:"),
        (["data", "cache", "--list", "--clear"], "exclude each other"),
        (["data", "cache", "bars"], "remove them with --clear"),
        (["train", "--data", "digits", "--window", "5"], "--window 5.0 belongs to event data"),
        (["train", "--data", "digits", "--skip-bad"], "--skip-bad belongs to event data"),
        (
            ["train", "--data", "{bars}", "--encoding", "rate"],
            "--encoding rate belongs to static samples, but this run has --data folder:",
        ),
        (["train", "--data", "{bars}", "--augment"], "--augmentations is that of events"),
        (["train", "--data", "{bars}", "--window", "5", "--events-per-step", "9"], "not both"),
        (["train", "--data", "{bars}", "--window", "0"], "window must be at least 0.001 ms"),
        (["train", "--data", "{bars}", "--transforms", "dennoise=3"], "did you mean 'denoise'"),
        (["train", "--data", "{bars}", "--augmentations", "shift=99"], "shift"),
        (["train", "--data", "{bars}", "--levels", "0"], "levels must be at least 1, got 0"),
        (["train", "--data", "{bars}", "--chunk", "-1"], "chunk must be 0 or more, got -1"),
        (["train", "--data", "{bars}", "--readout-steps", "0"], "readout-steps must be at least 1, got 0"),
    ],
)
def test_mistakes_are_one_line(bars, tmp_path, monkeypatch, spikelfp, arguments, named):
    monkeypatch.chdir(tmp_path)
    code, _, err = spikelfp(*(a.replace("{bars}", f"folder:{bars}").replace("{path}", str(bars)) for a in arguments))
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert named in err
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def run(bars, tmp_path, spikelfp):
    """A short run on the bars; returns its folder and its summary."""

    def call(*options):
        out = tmp_path / "run"
        code, printed, err = spikelfp(
            "train", "--data", f"folder:{bars}", "--hidden", "32", "--epochs", "12", "--batch-size", "8", "--reset",
            "zero", "--device", "cpu", "--out", out, "--cache-dir", tmp_path / "cache", "--quiet", "--json", *options,
        )  # fmt: skip
        assert code == 0, err
        return out, json.loads(printed.splitlines()[-1])

    return call


def test_a_run_learns_and_goes_out_again(run, tmp_path, spikelfp):
    """From recordings to a network that another simulator runs spike for spike on them."""
    out, summary = run("--steps", "8", "--no-report")
    assert summary["test_accuracy"] > 0.8
    config = yaml.safe_load((out / "config.yaml").read_text())
    events = config["events"]
    assert config["data"]["steps"] == 8
    assert (events["window"], events["levels"], events["transforms"]) == (None, 2, "none")
    code, printed, err = spikelfp("eval", out, "--early", "--json")
    assert code == 0, err
    found = json.loads(printed.splitlines()[-1])
    assert found["test_accuracy"] == summary["test_accuracy"] == found["accuracy_after"][-1]
    assert len(found["accuracy_after"]) == 8

    built = spikelfp("build", out, "--target", "nir", "--samples", "6", "--out", tmp_path / "e", program="hw-export")
    assert built[0] == 0, built[2]
    manifest = yaml.safe_load((tmp_path / "e" / "manifest.yaml").read_text())
    assert (manifest["steps"], manifest["input_scale"], manifest["input_shape"]) == (8, 2, [2, 16, 16])
    code, _, err = spikelfp("verify", tmp_path / "e", "--in", "snntorch", program="hw-export")
    assert code == 0, err


def test_unequal_lengths_chunks_and_sparse_inputs(run, tmp_path, spikelfp):
    """Every option of a sequence at once; the export reads out the steps that the run did."""
    out, summary = run(
        "--window", "7", "--augmentations", "shift=1,drop=0.1", "--sparse", "--chunk", "5", "--readout-steps", "6",
        "--transforms", "downsample=2", "--levels", "3", "--validation", "0.2", "--no-report",
    )  # fmt: skip
    assert summary["validation_accuracy"] >= 0.5
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["data"]["steps"] is None
    assert (config["events"]["window"], config["events"]["transforms"]) == (7.0, "downsample=2")
    export = tmp_path / "e"
    built = spikelfp("build", out, "--target", "generic", "--samples", "4", "--out", export, program="hw-export")
    assert built[0] == 0, built[2]
    with np.load(export / "samples.npz") as samples:
        assert (samples["mask"].sum(0) == 6).all()
        assert samples["inputs"].max() <= 3
    assert spikelfp("verify", export, program="hw-export")[0] == 0


def test_a_run_of_another_machine_takes_another_cache(run, tmp_path, spikelfp):
    out, summary = run("--steps", "4", "--epochs", "1", "--no-report")
    config = out / "config.yaml"
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    config.write_text(config.read_text().replace(str(tmp_path / "cache"), str(blocked)))
    assert spikelfp("eval", out)[0] == 0  # in the usual one
    assert list(blocked.iterdir()) == []  # a record makes no folder a cache
    mine = ["--cache-dir", tmp_path / "mine"]
    code, printed, err = spikelfp("eval", out, *mine, "--json")
    assert code == 0, err
    assert json.loads(printed.splitlines()[-1])["test_accuracy"] == summary["test_accuracy"]
    assert spikelfp("report", out, *mine)[0] == 0
    assert spikelfp("build", out, *mine, "--samples", "2", "--out", tmp_path / "e", program="hw-export")[0] == 0
    stream = ["updates", "record", out, *mine, "--steps", "2", "--out", tmp_path / "u.cbor"]
    assert spikelfp(*stream, program="hw-export")[0] == 0


def test_the_usual_run_folder_holds_no_folders_of_the_data(bars, tmp_path, monkeypatch, spikelfp):
    monkeypatch.chdir(tmp_path)
    options = ["--hidden", "4", "--steps", "2", "--epochs", "1", "--no-report", "--quiet", "--device", "cpu"]
    code, _, err = spikelfp("train", "--data", f"folder:{bars}", *options, "--cache-dir", "cache")
    assert code == 0, err
    made = tmp_path / "runs" / "folder-bars-lif-mlp-lfp"
    assert yaml.safe_load((made / "config.yaml").read_text())["events"]["cache_dir"] == str(tmp_path / "cache")
    again = ["train", "--config", made / "config.yaml", "--out", tmp_path / "again", "--quiet", "--no-report"]
    assert spikelfp(*again)[0] == 0
    first, second = ((folder / "metrics.csv").read_text().split(",") for folder in (made, tmp_path / "again"))
    assert first[:3] == second[:3]


def test_the_cache_is_listed_and_cleared(run, tmp_path, spikelfp):
    run("--steps", "4", "--epochs", "1", "--no-report")
    code, printed, _ = spikelfp("data", "cache", "--cache-dir", tmp_path / "cache", "--json")
    assert code == 0
    found = json.loads(printed.splitlines()[-1])
    assert sorted(entry["recordings"] for entry in found["entries"])[0] >= 2
    assert len(found["entries"]) == 2
    code, printed, _ = spikelfp("data", "cache", "--clear", "--cache-dir", tmp_path / "cache")
    assert (code, "removed 2" in printed) == (0, True)
    assert "0 in " in spikelfp("data", "cache", "--cache-dir", tmp_path / "cache")[1]


def test_a_bad_recording_is_named_or_skipped(tmp_path, spikelfp):
    write_bars(tmp_path / "bars", each=6)
    bad = tmp_path / "bars" / "left" / "03.npy"
    bad.write_bytes(bad.read_bytes()[:200])
    common = ["train", "--data", f"folder:{tmp_path / 'bars'}", "--hidden", "8", "--steps", "3", "--epochs", "1"]
    common += ["--out", tmp_path / "run", "--no-report"]
    code, _, err = spikelfp(*common, "--quiet")
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert "03.npy" in err
    code, _, err = spikelfp(*common, "--skip-bad")
    assert code == 0, err
    assert [line for line in err.splitlines() if "skipped:" in line and "03.npy" in line], err
