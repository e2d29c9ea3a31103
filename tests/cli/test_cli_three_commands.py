"""Objects in long recordings, from the folder to a verified export in three commands, without any option of training.

Two sessions: the network is trained on one and tested on the other. The camera is larger than networks need, so that
its pixels are joined by default.
"""

import json

import pytest
import yaml
from cli.long_objects import write_objects

TREE = ["--class-level", "2", "--split-by", "session", "--slice", "200", "--device", "cpu", "--json"]


def three_commands(spikelfp, data, folder, *more):
    """The summary of the run and the words of training; all three commands must succeed."""
    run, export = folder / "run", folder / "export"
    code, printed, told = spikelfp("train", "--data", f"folder:{data}", *TREE, *more, "--out", run)
    assert code == 0, told
    built = spikelfp("build", run, "--target", "nir", "--out", export, *samples(more), program="hw-export")
    assert built[0] == 0, built[2]
    verified = spikelfp("verify", export, "--json", program="hw-export")
    assert verified[0] == 0, verified[2]
    found = json.loads(verified[1].splitlines()[-1])
    assert found["passed"] is True
    assert "identical" in [result["status"] for result in found["results"]]
    return json.loads(printed.splitlines()[-1]), told


def samples(more):
    return ["--samples", "4"] if more else []


def test_one_epoch(tmp_path, spikelfp, monkeypatch):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    write_objects(tmp_path / "objects", 96, 64, 2.0, ("circle", "star"))
    summary, told = three_commands(spikelfp, tmp_path / "objects", tmp_path, "--epochs", "1", "--no-report")
    assert summary["epochs"] == 1
    joined = "2 x 2 pixels are joined to one, 48 x 32 in all (--transforms downsample=2; --transforms none keeps all 96"
    assert joined in told
    assert "train: 18 slices of 200 ms from 2 recordings" in told
    events = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["events"]
    assert events["transforms"] == "downsample=2"
    shown = spikelfp("data", "info", tmp_path / "objects", *TREE[:6])
    assert (shown[0], joined in shown[1].replace("\n", " ")) == (0, True)
    again = spikelfp("eval", tmp_path / "run")  # whose record states them: nothing more to tell
    assert (again[0], "joined" in again[2]) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(128, 128), (1280, 720)])
def test_defaults_tell_objects_apart(tmp_path, spikelfp, monkeypatch, width, height):
    monkeypatch.setenv("SPIKELFP_CACHE", str(tmp_path / "cache"))
    write_objects(tmp_path / "objects", width, height, 16.0)
    summary, _ = three_commands(spikelfp, tmp_path / "objects", tmp_path)
    assert summary["test_accuracy"] > 0.9
