"""``hw-export updates``: what it prints, and the exit codes scripts rely on."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from updates_nets import recorded, same

from hw_export.build import build
from hw_export.targets.outline import read_arrays
from hw_export.updates import IntegerImage, load_image, quantized, replay, save_image
from spikelfp import TemporalTrainer
from spikelfp.errors import SaveError
from spikelfp.methods import F3
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run, train


@pytest.fixture
def command(command):
    """Run ``hw-export updates``; returns exit code, stdout and stderr."""
    return partial(command, "updates")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(RunConfig(data="digits", hidden=(48,), steps=6, epochs=2), folder, progress=False)
    return folder


def test_record_inspect_replay(command, run, tmp_path):
    stream, image = tmp_path / "updates.cbor", tmp_path / "image.cbor"
    code, out, err = command("record", run, "--out", stream, "--steps", 40, "--json")
    assert (code, err) == (0, "")
    done = json.loads(out.splitlines()[-1])
    assert (done["steps"], done["batch_size"], done["closed"]) == (40, 1, True)
    assert done["bytes"] == stream.stat().st_size
    assert abs(done["accuracy_after"] - done["accuracy_before"]) < 0.1
    assert abs(done["accuracy_of_integers"] - done["accuracy_after"]) < 0.05
    assert done["about"]["run"] == "digits"
    code, out, _ = command("inspect", stream, "--plot", tmp_path / "plot.png", "--json")
    assert code == 0
    shown = json.loads(out.splitlines()[-1])
    assert {name: shown[name] for name in ("frames", "density", "bytes")} == {
        name: done[name] for name in ("frames", "density", "bytes")
    }
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    code, out, _ = command("replay", stream, "--upto", 25, "--out", image, "--json")
    assert code == 0
    assert same(load_image(image), replay(stream, upto=25))
    assert json.loads(out.splitlines()[-1])["digest"] == load_image(image).digest().hex()


def test_a_base_image_in_a_file(command, run, tmp_path):
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    for path, embed in ((whole, "--embed"), (bare, "--no-embed")):
        assert command("record", run, "--out", path, "--steps", 5, embed)[0] == 0
    save_image(tmp_path / "base", replay(whole, upto=0))
    assert bare.stat().st_size < whole.stat().st_size
    assert command("replay", bare, "--base", tmp_path / "base", "--out", tmp_path / "end")[0] == 0
    assert same(load_image(tmp_path / "end"), replay(whole))
    code, _, err = command("replay", bare, "--base", tmp_path / "end", "--out", tmp_path / "again")
    assert (code, err.count("\n")) == (2, 1)
    assert "recorded from another base image" in err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(("bits", "encoding", "scale"), [(32, "constant", 16), (4, "constant", 16), (4, "rate", 1)])
def test_a_recording_begins_with_the_integers_that_build_exports(command, tmp_path, bits, encoding, scale):
    config = RunConfig(data="digits", hidden=(20,), steps=5, epochs=1, weight_bits=bits, encoding=encoding)
    train(config, tmp_path / "run", progress=False)
    code, out, _ = command("record", tmp_path / "run", "--out", tmp_path / "s", "--steps", 3, "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["about"]["input_scale"] == scale
    build(tmp_path / "run", tmp_path / "export", target="generic", samples=100)
    exported = read_arrays(tmp_path / "export" / "network.npz")
    base = replay(tmp_path / "s", upto=0)
    for name, values in base.arrays.items():
        # biases trained in finer steps are rounded to those first in an export, which decides halves
        most = 1 if bits == 4 and name.endswith(".bias") else 0
        assert np.abs(values - exported[name]).max() <= most, name
    net = quantized(load_run(tmp_path / "run").net, base, input_scale=scale)
    for report in net.report:
        assert report.threshold == exported[f"{report.neurons}.threshold"]


@pytest.mark.parametrize(
    ("credit", "warm_up"), [("step", {"warm_up": "surrogate", "warm_up_steps": 2}), ("step", {}), ("online", {})]
)
def test_f3_goes_on_with_its_feedback_weights_and_errors(command, tmp_path, credit, warm_up):
    config = RunConfig(data="digits", method="f3", credit=credit, hidden=(12,), steps=3, epochs=1, batch_size=100,
                       device="cpu", **warm_up)  # fmt: skip
    train(config, tmp_path / "run", progress=False)
    stream = tmp_path / "s"
    options = ("--steps", 6, "--seed", 9, "--lr", 0.05, "--bits", 8)
    assert command("record", tmp_path / "run", "--out", stream, *options)[0] == 0
    base, ends = replay(stream, upto=0), replay(stream)
    loaded = load_run(tmp_path / "run")
    kept = torch.load(loaded.folder.last, weights_only=True)["method_state"]
    kept = kept["then"] if warm_up else kept
    assert kept["table"]["seen"].sum() > 1000

    def further(state):
        """The integers after the same steps of a trainer made by hand, whose method has a state, or begins anew."""
        net = load_run(tmp_path / "run").net
        trainer = TemporalTrainer(
            net, method=F3(credit=credit), steps=3, batch_size=1, lr=0.05, schedule=None, seed=9, wake=False,
            optimizer=config.training.optimizer.name, should_stop=lambda: trainer.position.step >= 6, device="cpu",
        )  # fmt: skip
        if state is not None:
            trainer.method.load_state_dict(state)
        trainer.fit(loaded.splits().train, 1)
        return IntegerImage.of(net, base.grids)

    assert same(ends, further(kept))
    assert not same(ends, further(None))
    assert not same(ends, base)


def test_a_cut_stream_is_said_to_be_cut(command, tmp_path):
    recorded(tmp_path / "a")
    (tmp_path / "cut").write_bytes((tmp_path / "a").read_bytes()[:-80])
    for arguments in (("inspect", tmp_path / "cut"), ("replay", tmp_path / "cut", "--out", tmp_path / "image")):
        code, out, _ = command(*arguments)
        assert code == 0
        assert "note: it ends inside a frame" in out
    code, _, err = command("replay", tmp_path / "cut", "--out", tmp_path / "strict", "--strict")
    assert code == 2
    assert "ends inside a frame" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("inspect", "{0}/nothing"), "No such file"),
        (("inspect", "{0}"), "Is a directory"),
        (("inspect", "{0}/text"), "this is no stream of updates"),
        (("inspect", "{0}/a", "--plot", "{0}/a"), "is no PNG file"),
        (("replay", "{0}/a", "--out", "{0}/text"), "exists already"),
        (("replay", "{0}/a", "--out", "{0}/text", "--overwrite"), "is no stream and no image"),
        (("replay", "{0}/a", "--out", "{0}/a", "--overwrite"), "is what is to be read"),
        (("replay", "{0}/a", "--out", "{0}/b", "--upto", "99"), "ends at step 8: there is no step 99"),
        (("replay", "{0}/a", "--out", "{0}/b", "--base", "{0}/a"), "is a stream with frames, no image"),
        (("replay", "{0}/a",), "Missing option '--out'"),
        (("record", "{0}", "--out", "{0}/b"), "is no run folder"),
        (("record", "{run}", "--out", "{0}/a", "--steps", "1"), "exists already"),
        (("record", "{run}", "--out", "{0}/b", "--steps", "0"), "steps must be at least 1, got 0"),
        (("record", "{run}", "--out", "{0}/b", "--bits", "17"), "bits"),
        (("record", "{run}", "--out", "{0}/b", "--input-scale", "0"), "input-scale must be at least 1, got 0"),
        (("record", "{run}", "--out", "{0}/b", "--input-scale", "10000000"), "cannot take inputs of 10000000 steps"),
        (("record", "{run}", "--out", "{0}/b", "--optimizer", "adm"), "did you mean 'adam'?"),
        (("rcord",), "id you mean 'record'?"),
    ],
)  # fmt: skip
def test_mistakes_exit_with_2_and_one_line(command, run, tmp_path, arguments, text):
    recorded(tmp_path / "a")
    (tmp_path / "text").write_text("hello, this is not a stream of updates")
    code, _, err = command(*(argument.format(tmp_path, run=run) for argument in arguments))
    assert code == 2
    assert err.startswith("hw-export: ")
    assert err.count("\n") == 1
    assert text in err
    assert not (tmp_path / "b").exists()


def test_a_recording_that_fails_puts_the_stream_back_that_it_was_to_replace(command, run, tmp_path, monkeypatch):
    stream = tmp_path / "a.cbor"
    assert command("record", run, "--out", stream, "--steps", 3)[0] == 0
    before = stream.read_bytes()

    def full(self, body):
        raise SaveError("no space left")

    monkeypatch.setattr("hw_export.updates.recorder.StreamFile.append", full)
    code, _, err = command("record", run, "--out", stream, "--steps", 4, "--overwrite")
    assert (code, err) == (2, "hw-export: no space left\n")
    assert stream.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
