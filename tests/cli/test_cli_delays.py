"""Delays from the command line: trained, chosen, resumed, evaluated and exported."""

from __future__ import annotations

import json

import pytest
import torch

from hw_export import from_nir
from hw_export.build import build, read_export
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig

QUICK = (
    "--data", "digits", "--hidden", "10", "--steps", "5", "--batch-size", "64", "--encoding", "rate", "--no-report",
    "--quiet", "--delays", "0,1,3", "--schedule", "constant", "--lr", "0.01", "--reset", "zero",
)  # fmt: skip


def weights(run, which="last"):
    return torch.load(run / "checkpoints" / f"{which}.pt", weights_only=True)["weights"]


def test_delays_are_trained_chosen_resumed_and_exported(tmp_path, command):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    own = (*QUICK, "--choose-delays", 1)
    out = command("spikelfp", "train", *own, "--epochs", 2, "--out", whole, "--json")
    assert json.loads(out.splitlines()[-1])["test_accuracy"] > 0.15
    command("spikelfp", "train", *own, "--epochs", 1, "--out", parts)
    command("spikelfp", "train", "--resume", "--epochs", 2, "--out", parts, "--quiet")
    last, again, first = weights(whole), weights(parts), weights(parts, "initial")
    assert {name: value.tolist() for name, value in last.items()} == {n: v.tolist() for n, v in again.items()}
    mask = last["1.dense.mask"]
    assert mask.shape == (10, 3 * 64)
    assert torch.equal(mask.unflatten(1, (3, -1)).sum(1), torch.ones(10, 64, dtype=torch.int64))
    assert not last["1.dense.weight"][~mask].any()
    assert (last["1.dense.weight"][mask] != first["1.dense.weight"][mask]).float().mean() > 0.5  # the others trained on
    command("spikelfp", "eval", parts)
    command("hw-export", "build", whole, "--target", "generic", "--out", tmp_path / "generic")
    command("hw-export", "verify", tmp_path / "generic")
    command("hw-export", "build", whole, "--target", "nir", "--bits", "32", "--out", tmp_path / "nir")
    back = from_nir(tmp_path / "nir" / "network.nir")
    layers = [layer for layer in back if isinstance(layer, nn.DelayLinear)]
    kept = mask.unflatten(1, (3, -1)).int().argmax(1)
    assert torch.equal(layers[0].chosen, torch.tensor([0, 1, 3])[kept])
    err = command("hw-export", "build", whole, "--target", "loihi", "--out", tmp_path / "l", code=2)
    assert err.count("\n") == 1
    assert "longest delay, in steps, 3, at most 0 (by 3)" in err


def test_delays_are_chosen_at_the_export(tmp_path, command):
    run = tmp_path / "run"
    command("spikelfp", "train", *QUICK, "--epochs", 1, "--out", run)
    assert "1.dense.mask" not in weights(run)
    out = command("hw-export", "build", run, "--target", "generic", "--choose-delays", "--out", tmp_path / "c")
    assert "every connection keeps one of its delays: 740 of 2,220 weights" in out
    _, net, _ = read_export(tmp_path / "c")
    assert ((net[1][1].by_tap != 0).sum(0) <= 1).all()
    command("spikelfp", "train", *QUICK[:-10], "--out", tmp_path / "none", "--epochs", 1)
    with pytest.raises(UserError, match="has no connections with delays to choose from: train with --delays"):
        build(tmp_path / "none", tmp_path / "d", choose_delays=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"choose_delays": 1}, "--choose-delays 1 belongs to --delays of two or more"),
        ({"delays": (2,), "choose_delays": 1}, "--choose-delays 1 belongs to --delays of two or more"),
        ({"model": "lif-lenet", "choose_delays": 1}, "--choose-delays 1 belongs to --delays of two or more"),
        ({"model": "lif-lenet", "delays": (0, 1)}, "--delays 0,1 belongs to"),
        ({"delays": (0, -1)}, "delays"),
    ],
)
def test_options_of_delays_that_would_do_nothing_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        RunConfig(**options)


def test_a_choice_after_the_last_epoch_is_refused():
    with pytest.raises(UserError, match="--choose-delays 4 would do nothing: this run has 3 epochs"):
        RunConfig(delays=(0, 1), choose_delays=4, epochs=3).resolved(1000)
