"""Options that regularise a run, on the command line: what they do, and what they are refused for."""

import csv
import json

import pytest
import torch

from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_run

QUICK = ["--data", "digits", "--hidden", "16", "--steps", "4", "--epochs", "1", "--no-report"]


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


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--dropout", "0.2"], "p=0.2"),
        (["--dropout", "0.2", "--dropout-over", "step"], "p=0.2, over='step'"),
        (["--dropout", "0.2", "--chunk", "2"], "p=0.2"),
        (["--dropout", "0.2", "--recompute", "2"], "p=0.2"),
        (["--dropout", "0.2", "--method", "surrogate"], "p=0.2"),
        (["--dropout", "0.2", "--method", "f3"], "p=0.2"),
    ],
)
def test_dropout_stands_behind_the_hidden_neurons(more, text, here, tmp_path):
    here("train", *QUICK, *more, "--out", str(tmp_path / "a"))
    net = load_run(tmp_path / "a").net
    assert [layer.saved_repr() for layer in net if type(layer).__name__ == "Dropout"] == [text]


def test_dropout_of_channels(here, tmp_path):
    more = ["--model", "lif-conv", "--width", "2", "--dropout", "0.2", "--dropout-of", "channels"]
    config = RunConfig(model="lif-conv", width=2, dropout=0.2, dropout_of="channels")
    net = config.build((1, 16, 16), 10)
    assert [layer.of for layer in net if type(layer).__name__ == "Dropout"] == ["channels", "channels"]
    done = here("train", *QUICK[:2], *more, "--out", str(tmp_path / "a"), check=2)  # images of 8×8 are too small
    assert "16" in done.stderr


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--dropout-over", "step"], "--dropout"),
        (["--dropout", "1.0"], "1.0"),
        (["--dropout", "0.2", "--dropout-over", "time"], "sequence, step"),
        (["--dropout", "0.2", "--dropout-of", "channels"], "--model lif-conv"),
        (["--dropout", "0.2", "--credit", "online"], "Dropout"),
        (["--dropout", "0.2", "--method", "e-prop"], "Dropout"),
    ],
)
def test_dropout_that_cannot_be_is_refused_in_one_line(more, named, here, tmp_path):
    done = here("train", *QUICK, *more, "--out", str(tmp_path / "a"), check=2)
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--weight-decay", "0.2"]])
def test_adamw_with_its_decay(more, here, tmp_path):
    here("train", *QUICK, "--optimizer", "adamw", *more, "--out", str(tmp_path / "a"))
    saved = torch.load(tmp_path / "a" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["optimizer_kind"] == "AdamW"
    assert saved["optimizer"]["param_groups"][0]["weight_decay"] == (0.2 if more else 0.01)


def test_early_stopping_keeps_the_best_weights(here, tmp_path, monkeypatch):
    """Rates so large that training falls: the run ends early, and the summary tells of the best epoch, too."""
    out = tmp_path / "a"
    more = [
        "--validation",
        "0.3",
        "--patience",
        "2",
        "--epochs",
        "12",
        "--lr",
        "0.3",
        "--schedule",
        "constant",
        "--json",
    ]
    done = here("train", *QUICK[:6], *more, "--no-report", "--out", str(out))
    summary, history = json.loads(done.stdout.splitlines()[-1]), rows(out)
    scores = [float(row["validation_accuracy"]) for row in history]
    assert len(scores) < 12
    first = scores.index(max(scores))
    assert len(scores) - 1 - first == 2
    assert summary["best"]["validation_accuracy"] == max(scores)
    kept = torch.load(out / "checkpoints" / "best.pt", weights_only=True)
    assert kept["position"]["epoch"] == summary["best"]["epoch"]
    assert scores[int(summary["best"]["epoch"]) - 1] == max(scores)
    tested = here("eval", str(out), "--weights", "best", "--json")
    assert json.loads(tested.stdout.splitlines()[-1])["test_accuracy"] == pytest.approx(
        summary["best"]["test_accuracy"]
    )
    assert summary["validation_accuracy"] == scores[-1]
