"""Methods that teach blocks on the command line: options, errors, run folders, reports, resume, exports."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import yaml

from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.errors import UserError
from spikelfp.methods import losses
from spikelfp.report import write_report
from spikelfp.training.config import OPTIONS, RunConfig
from spikelfp.training.run import train
from spikelfp.training.run_folder import RunFolder, read_config


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of three classes that a line separates."""
    path = tmp_path_factory.mktemp("table") / "t.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "kind"])
        for number in range(60):
            kind = number % 3
            writer.writerow([math.sin(number) / 4 + kind, math.cos(3 * number) / 4 - kind, number % 7 / 7, "xyz"[kind]])
    return path


def config(table, method, model="mlp", **options):
    return RunConfig(
        data=f"csv:{table}", method=method, model=model, hidden=(6,), epochs=2, batch_size=16, device="cpu",
        **({"steps": 4} if model == "lif-mlp" else {}), **options,
    )  # fmt: skip


REFUSED = [
    ({"method": "f3", "error_rate": 0.5}, "error-memory class or hash"),
    ({"method": "f3", "error_memory": "class", "error_buckets": 8}, "error-memory hash"),
    ({"method": "dfa", "one_hot": True}, "--method f3"),
    ({"method": "f3", "model": "mlp", "feedback_as": "message"}, "--credit scan, step or online"),
    ({"method": "f3", "credit": "surrogate", "feedback_as": "message"}, "--credit scan, step or online"),
    ({"method": "llo", "feedback_init": "identity"}, "--method decolle, dfa, drtp, e-prop or f3"),
    ({"method": "f3", "task": "regression", "softmax": True}, "--task classification"),
    ({"method": "f3", "task": "regression", "one_hot": True}, "--task classification"),
    (
        {"method": "f3", "model": "mlp", "reward": "softmax"},
        r"rewards \(--method lfp, or --credit scan, step or online\)",
    ),
    (
        {"method": "f3", "loss": "bce"},
        r"losses \(--method decolle, e-prop, gradient, ottt, pepita or surrogate, or --credit gra",
    ),
    ({"method": "f3", "credit": "gradient", "rule": "gamma"}, "rules of LFP"),
    ({"method": "f3", "recompute": 5}, "--method gradient, lfp or surrogate"),
    ({"method": "lfp", "credit": "gradient"}, "--credit scan or step"),
    ({"method": "surrogate", "credit": "step"}, "--method dfa, drtp, f3, lfp or llo"),
    ({"method": "f3", "error_memory": "hash", "encoding": "rate"}, "draws them anew"),
    ({"method": "f3", "error_memory": "hash", "augment": True}, "draws them anew"),
]


@pytest.mark.parametrize(("options", "text"), REFUSED)
def test_options_that_would_do_nothing_are_refused_by_one_line(options, text):
    with pytest.raises(UserError, match=text) as error:
        RunConfig(**options)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_labels_are_short():
    assert max(len(option.owner.name) for option, _ in OPTIONS.options() if option.owner is not None) < 250
    names = {option.name: option.owner.name for option, _ in OPTIONS.options() if option.owner is not None}
    assert names["reward"] == "rewards (--method lfp, or --credit scan, step or online)"
    assert names["credit"] == "--method dfa, drtp, f3, lfp or llo"


@pytest.mark.parametrize(
    ("options", "lr", "credit"),
    [
        ({"method": "f3", "model": "mlp"}, 1e-3, "gradient"),
        ({"method": "f3"}, 3e-3, "scan"),
        ({"method": "f3", "credit": "step"}, 3e-3, "step"),
        ({"method": "dfa", "credit": "surrogate"}, 1e-3, "surrogate"),
        ({"method": "llo", "model": "mlp", "optimizer": "sgd"}, 0.05, "gradient"),
        ({"method": "lfp"}, 3e-3, None),
        ({"method": "surrogate"}, 2e-3, None),
    ],
)
def test_the_learning_rate_and_the_credit_follow_the_method(options, lr, credit):
    resolved = RunConfig(**options).resolved(100)
    assert resolved.training.lr == lr
    assert resolved.method.credit == credit


@pytest.mark.parametrize("loss", ["bce", "count"])
def test_a_warm_up_descends_the_loss_that_was_chosen(loss):
    made = RunConfig(
        method="f3", model="mlp", credit="gradient", loss=loss, warm_up="gradient", warm_up_steps=2
    ).resolved(500).make_method()  # fmt: skip
    assert made.first.loss is losses[loss]


@pytest.mark.parametrize(
    ("method", "model", "options"),
    [
        ("f3", "mlp", {"loss": "bce", "softmax": True, "feedback_init": "trinomial"}),
        ("f3", "lif-mlp", {"credit": "step", "error_memory": "class", "weight_bits": 4}),
        ("drtp", "lif-mlp", {"feedback_as": "message"}),
        ("llo", "mlp", {}),
    ],
)
def test_a_run_tells_what_it_was_and_goes_on(tmp_path, table, method, model, options):
    chosen = config(table, method, model, validation=0.2, schedule="constant", **options)
    summary = train(chosen, tmp_path / "run", progress=False)
    credit = options.get("credit", "gradient" if model == "mlp" else "scan")
    assert (summary["method"], summary["credit"]) == (method, credit)
    assert summary["feedback"] == (None if method == "llo" else options.get("feedback_init", "kaiming"))
    assert summary["rule"] == (None if model == "mlp" else "epsilon")
    assert summary["reward"] == (None if model == "mlp" else "spike-sequence")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["method"]
    assert written["credit"] == credit
    assert ("error_rate" in written) is (options.get("error_memory") == "class")
    assert ("feedback_as" in written) is (model == "lif-mlp" and method != "llo")
    again, *_ = read_config(RunFolder(tmp_path / "run"))
    whole = train(again, tmp_path / "again", progress=False)
    assert whole["score"] == summary["score"]
    # more epochs, one way and the other
    train(chosen.changed(epochs=3), tmp_path / "run", resume=True, progress=False)
    train(chosen.changed(epochs=3), tmp_path / "three", progress=False)
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("run", "three")]
    without = [[line.rsplit(",", 1)[0] for line in each] for each in rows]  # seconds
    assert without[0] == without[1]
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"--method {method}" in page
    assert ("hidden layers keep their initial weights" in page) is (method == "llo")
    assert ("the error that the sample had an epoch before" in page) is (method == "f3")


def test_an_export_of_a_network_that_learned_block_by_block(tmp_path):
    chosen = RunConfig(method="f3", credit="step", encoding="rate", hidden=(8,), steps=3, epochs=1, device="cpu")
    train(chosen, tmp_path / "run", progress=False)
    from hw_export.cli import app as export

    for arguments in (
        [
            "build",
            str(tmp_path / "run"),
            "--target",
            "generic",
            "--out",
            str(tmp_path / "out"),
        ],
        ["verify", str(tmp_path / "out")],
    ):
        with pytest.raises(SystemExit) as stop:
            run_app(export, "hw-export", arguments)
        assert not stop.value.code, arguments


@pytest.mark.parametrize(
    ("options", "feedback", "words", "absent"),
    [
        ({"method": "pepita", "model": "mlp"}, "projection",
         ["the error of the outputs changes the inputs of a second pass, through a fixed random projection.",
          "trained with error-driven input modulation", "<dt>Loss</dt>"], "<dt>Credit</dt>"),
        ({"method": "llo", "credit": "online"}, None,
         ["at every step as it runs", "hidden layers keep their initial weights"], "<dt>Loss</dt>"),
        ({"method": "dfa", "credit": "online"}, "kaiming",
         ["at every step as it runs", "the error of the outputs, through fixed weights (kaiming"], "second pass"),
        ({"method": "lfp", "credit": "step"}, None, ["through all layers, in each step by itself"], "Feedback</dt>"),
    ],
)  # fmt: skip
def test_reports_and_summaries_say_how_hidden_layers_learn(tmp_path, table, options, feedback, words, absent):
    options = {"model": "lif-mlp"} | options
    summary = train(config(table, **options), tmp_path / "run", progress=False)
    assert summary["feedback"] == feedback
    assert summary["credit"] == options.get("credit")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["feedback"] == feedback
    write_report(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(each in page for each in words), words
    assert absent not in page


@pytest.fixture(scope="module")
def delayed(tmp_path_factory, table):
    """A run of F³ with options of its own, and its summary."""
    folder = tmp_path_factory.mktemp("delayed") / "run"
    chosen = config(
        table, "f3", "lif-mlp", credit="step", error_memory="class", error_rate=0.3, feedback_init="trinomial"
    )
    return folder, train(chosen, folder, progress=False)


def spikelfp(*arguments):
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", [str(each) for each in arguments])
    assert not stop.value.code, arguments


def test_a_run_is_evaluated(delayed, capsys):
    folder, summary = delayed
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    spikelfp("eval", folder, "--json")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["score"], found["test_loss"]) == (summary["score"], summary["test_loss"])
    spikelfp("eval", folder, "--weights", "best", "--json")
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_is_made_again_of_its_file_of_options(delayed, tmp_path, monkeypatch):
    folder, summary = delayed
    monkeypatch.chdir(tmp_path)
    spikelfp("train", "--config", folder / "config.yaml", "--out", "again", "--no-report")
    spikelfp("train", "--config", folder / "config.yaml", "--error-rate", "1", "--out", "other", "--no-report")
    places = [RunFolder(Path(place)).last for place in (folder, "again", "other")]
    states = [torch.load(place, weights_only=True)["method_state"] for place in places]
    own, again, other = states
    assert json.loads(Path("again/summary.json").read_text())["score"] == summary["score"]
    assert torch.equal(own["table"]["errors"], again["table"]["errors"])
    assert not torch.equal(own["table"]["errors"], other["table"]["errors"])
    weights = [next(iter(state["weights"].values())) for state in states]
    assert set(weights[0].unique().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(weights[0], weights[1])


def test_info_lists_the_methods(capsys):
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", ["info", "--json"])
    assert not stop.value.code
    assert {"dfa", "drtp", "f3", "llo", "pepita"} <= set(json.loads(capsys.readouterr().out)["methods"])
