"""Options that regularise a run, on the command line: what they do, and what they are refused for."""

import csv
import subprocess

import pytest
import torch

from spikelfp.cli import app
from spikelfp.command import run_app

QUICK = ["--data", "digits", "--hidden", "16", "--steps", "4", "--epochs", "1", "--no-report"]


@pytest.fixture
def here(capsys, monkeypatch):
    """Run a command line in this process."""

    def call(*arguments, check=0):
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", list(arguments))
        done = subprocess.CompletedProcess(arguments, stop.value.code or 0, *capsys.readouterr())
        assert done.returncode == check, done.stderr
        return done

    return call


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", [[], ["--method", "surrogate"]])
def test_a_rate_target_moves_the_rates_that_the_metrics_show(method, here, tmp_path):
    rates = {}
    for target in ("0", "0.6"):
        out = tmp_path / target
        more = ["--rate-target", target, "--rate-weight", "3", "--rate-of", "layer", "--lr", "0.02"]
        here("train", *QUICK, *method, *more, "--out", str(out))
        rates[target] = float(rows(out)[-1]["spike_rate"])
        assert "rate_target: 0" in (out / "config.yaml").read_text()
    assert rates["0"] + 0.05 < rates["0.6"]


def test_metrics_have_no_rate_column_without_a_target(here, tmp_path):
    here("train", *QUICK, "--out", str(tmp_path / "a"))
    assert "spike_rate" not in rows(tmp_path / "a")[-1]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--rate-target", "0.1", "--method", "f3"], "--method lfp or surrogate"),
        (["--rate-target", "0.1", "--method", "gradient"], "--method lfp or surrogate"),
        (["--rate-target", "0.1", "--credit", "online"], "--credit scan or step"),
        (["--rate-target", "0.1", "--model", "mlp", "--encoding", "rate"], "networks with spikes"),
        (["--rate-target", "1.1"], "1.1"),
        (["--rate-weight", "0.1"], "--rate-target"),
        (["--rate-of", "layer"], "--rate-target"),
        (["--rate-target", "0.1", "--rate-weight", "-1"], "-1"),
        (["--rate-target", "0.1", "--rate-of", "sample"], "layer, neuron"),
        (["--rate-target", "0.1", "--normalize-reward"], "--normalize-reward"),
        (["--rate-target", "0.1", "--recompute", "2"], "--recompute"),
    ],
)
def test_what_would_do_nothing_is_refused_in_one_line(more, named, here, tmp_path):
    done = here("train", *QUICK, *more, "--out", str(tmp_path / "a"), check=2)
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], "SpikeSequence(label_smoothing=0.2)"),
        (["--reward", "count-softmax"], "CountSoftmax(label_smoothing=0.2)"),
        (["--output", "li"], "Softmax(label_smoothing=0.2)"),
        (["--method", "surrogate"], "rate_cross_entropy(label_smoothing=0.2)"),
        (["--method", "surrogate", "--loss", "count"], "count_cross_entropy(label_smoothing=0.2)"),
        (["--method", "e-prop", "--loss", "bce"], "binary_cross_entropy(label_smoothing=0.2)"),
    ],
)
def test_label_smoothing_reaches_the_reward_or_the_loss(more, text, here, tmp_path):
    here("train", *QUICK, *more, "--label-smoothing", "0.2", "--out", str(tmp_path / "a"))
    saved = torch.load(tmp_path / "a" / "checkpoints" / "last.pt", weights_only=True)
    assert text in (saved.get("reward (of the method)"), saved.get("loss (of the method)"))


@pytest.mark.parametrize(
    "more",
    [
        ["--reward", "sign"], ["--reward", "correct-class"], ["--reward", "false-positive"], ["--reward", "f1"],
        ["--method", "f3"], ["--method", "llo"], ["--method", "pepita"], ["--method", "dfa", "--credit", "surrogate"],
    ],
)  # fmt: skip
def test_label_smoothing_without_a_target_is_refused_by_name(more, here, tmp_path):
    done = here("train", *QUICK, *more, "--label-smoothing", "0.2", "--out", str(tmp_path / "a"), check=2)
    assert "--label-smoothing 0.2 belongs to" in done.stderr
    assert f"{more[0]} {more[1]}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
