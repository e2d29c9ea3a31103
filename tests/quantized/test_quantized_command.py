"""Quantised training on the command line, by several workers, and in its benchmark."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from spikelfp import data
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.training.run import load_run

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]  # benchmarks are no part of the package

from parallel_workers import finish, start  # noqa: E402

from benchmarks import quantization  # noqa: E402

SMALL = ["--data", "digits", "--hidden", "16", "--steps", "4", "--epochs", "2", "--device", "cpu", "--weight-bits", "4"]


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["spikelfp", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        run_app(app, "spikelfp")
    return end.value.code


@pytest.mark.parametrize("update", ["masters", "stochastic"])
def test_train_evaluate_and_report(update, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert command(monkeypatch, "train", *SMALL, "--weight-update", update, "--quiet", "--json", "--out", out) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert command(monkeypatch, "eval", out, "--json") == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert evaluated["test_accuracy"] == summary["test_accuracy"]
    page = (out / "report.html").read_text()
    assert "No spikes, weights and errors are shown" not in page
    assert "--weight-bits 4" in page
    layer = load_run(out).net[1]
    assert (layer.grid.high, layer.bias_steps, layer.quantization.input_levels) == (7, 64, 16)


@pytest.mark.parametrize(
    ("options", "levels"),
    [([], 16), (["--encoding", "rate"], 1), (["--input-levels", "10"], 10)],
)
def test_biases_follow_the_levels_of_the_data(options, levels, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert command(monkeypatch, "train", *SMALL, *options, "--epochs", "1", "--quiet", "--no-report", "--out", out) == 0
    assert load_run(out).net[1].quantization.input_levels == levels


def test_a_run_in_floats_has_no_levels(tmp_path, monkeypatch):
    out = tmp_path / "run"
    options = ["--weight-bits", "32", "--epochs", "1", "--quiet", "--no-report"]
    assert command(monkeypatch, "train", *SMALL, *options, "--out", out) == 0
    assert load_run(out).config.input_levels is None


def test_wrong_bits_are_one_line(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "train", "--weight-bits", "1", "--out", tmp_path / "run") == 2
    assert "weight-bits must lie between 2 and 16, or be 32 for floats, got 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_workers_round_alike(tmp_path):
    """Two workers end with weights on one grid: were theirs rounded apart, the leader's would not fit the others'."""
    options = ["--weight-update", "stochastic", "--no-report"]
    ended = finish(start(2, "-m", "spikelfp", "train", *SMALL, *options, "--out", str(tmp_path / "two")))
    assert [code for code, _, _ in ended] == [0, 0], ended
    alone = finish(start(1, "-m", "spikelfp", "train", *SMALL, *options, "--out", str(tmp_path / "one")))
    assert alone[0][0] == 0, alone
    one, two = (load_run(tmp_path / name).net[1] for name in ("one", "two"))
    assert one.grid.scale == two.grid.scale
    same = one.grid.to_integers(one.weight) == two.grid.to_integers(two.weight)
    assert same.float().mean() > 0.8  # sums in another order may let a neuron fire or not


def test_the_benchmark_measures_every_way():
    settings = {"data": "digits", "sizes": [64, 20, 10], "steps": 4, "batch": 128, "epochs": 1, "data_dir": None}
    found = quantization.measure(settings, 2, bits=(2,))
    assert set(found) == {quantization.AFTER, *quantization.TRAINED}
    assert all(len(accuracies) == 2 for widths in found.values() for accuracies in widths.values())
    text = quantization.markdown({"mnist small": {**found, "LFP, masters": {"4": [0.5], "2": [0.4]}}}, "How")
    floats = sum(found[quantization.AFTER]["32"]) / 2
    assert f"{100 * (floats - 0.5):.2f} points below floats with 4 bits" in text
    assert "| mnist small | floats | 2 bits (ternary) | 4 bits |" in text


@pytest.mark.slow
def test_mnist_with_four_bits(mnist_folder):
    """One epoch, to be quick: floats reach 0.972, the goal for three epochs is half a point below floats."""
    settings = {"data": "mnist", "sizes": [784, 1000, 10], "steps": 15, "batch": 128, "epochs": 1}
    splits = data.load("mnist", str(mnist_folder))
    accuracies = [
        quantization.trained(quantization.config_of(settings, 0, **options), splits)[1]
        for options in ({}, {"weight_bits": 4}, {"weight_bits": 2})
    ]
    assert accuracies[1] > accuracies[0] - 0.01
    assert accuracies[2] > accuracies[0] - 0.02
    assert torch.tensor(accuracies).min() > 0.95
