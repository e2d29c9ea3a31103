"""The command as a person runs it: exit codes, one-line errors, run folders."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml

from hw_export.cli import app as export_app
from spikelfp.cli import app
from spikelfp.command import run_app
from spikelfp.errors import UserError
from spikelfp.training.config import OPTIONS

APPS = {"spikelfp": app, "hw-export": export_app}
QUICK = ["--data", "digits", "--hidden", "16", "--steps", "4", "--epochs", "2", "--no-report"]


def run(*arguments, cwd=None, check=None):
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "spikelfp", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    done = run("train", *QUICK, "--out", str(folder), "--json", check=0)
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_a_run_folder_is_complete(trained):
    folder, printed = trained
    summary = json.loads((folder / "summary.json").read_text())
    wanted = "data model method rule reward seed epochs test_accuracy train_accuracy spike_rates update_density " \
        "seconds seconds_per_epoch peak_memory_mb parameters versions"  # fmt: skip
    assert set(wanted.split()) <= set(summary)
    assert {**summary, "run": str(folder)} == printed
    assert 0 < summary["update_density"] <= 1
    assert summary["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for name in ("last", "best", "initial"):
        torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)
    assert "  hidden:\n  - 16\n" in (folder / "config.yaml").read_text()


def test_eval_gives_the_accuracy_of_the_summary(trained, here):
    folder, summary = trained
    done = here("eval", folder, "--json")
    assert json.loads(done.stdout.splitlines()[-1])["test_accuracy"] == summary["test_accuracy"]


def test_the_same_seed_gives_the_same_run(trained, tmp_path, here):
    """In another process, too."""
    folder, summary = trained
    done = here("train", *QUICK, "--out", tmp_path / "b", "--json", "--quiet")
    assert done.stderr == ""
    assert json.loads(done.stdout)["test_accuracy"] == summary["test_accuracy"]
    a, b = (torch.load(f / "checkpoints" / "last.pt", weights_only=True)["weights"] for f in (folder, tmp_path / "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_config_file_gives_options_that_the_command_line_overrides(tmp_path, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("hidden: [12]\nsteps: 3\nepochs: 1\nlr: 1e-3\n")
    here("train", "--config", "c.yaml", "--steps", "5", "--out", "r", "--no-report", check=0)
    written = (tmp_path / "r" / "config.yaml").read_text()
    assert "steps: 5\n" in written
    assert "lr: 0.001\n" in written
    assert "- 12\n" in written


def test_options_of_training_reach_the_run_and_its_report(tmp_path, here):
    options = [
        "--optimizer", "momentum", "--momentum", "0.8", "--lr", "0.4", "--weight-decay", "1e-4", "--clip-norm", "3",
        "--schedule", "step", "--decay-every", "30", "--decay-factor", "0.5", "--batch-size", "100",
        "--accumulate", "4", "--warm-up-steps", "15",
    ]  # fmt: skip
    done = here("train", *QUICK[:-1], *options, "--out", str(tmp_path / "r"), "--json", check=0)
    rows = list(csv.DictReader((tmp_path / "r" / "metrics.csv").open()))
    assert float(rows[0]["lr"]) == 0.4
    assert float(rows[1]["lr"]) == 0.2  # after 30 updates, of 15 an epoch
    assert rows[0]["loss"] != "" == rows[1]["loss"]
    assert rows[0]["reward"] == "" != rows[1]["reward"]
    saved = torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["method"] == "surrogate for 15 steps, then lfp"
    (group,) = saved["optimizer"]["param_groups"]
    assert (group["momentum"], group["dampening"], group["weight_decay"]) == (0.8, 0.8, 1e-4)
    assert "warm_up: surrogate\n" in (tmp_path / "r" / "config.yaml").read_text()
    assert (tmp_path / "r" / "report.html").exists()
    assert json.loads(done.stdout.splitlines()[-1])["processes"] == 1
    again = here("train", "--out", str(tmp_path / "r"), "--resume", "--no-report", "--accumulate", "1", check=0)
    assert "resuming after 30 steps" in again.stderr


@pytest.mark.parametrize("warm_up", ["gradient", "surrogate"])
def test_networks_without_spikes_warm_up_by_either(warm_up, tmp_path, here):
    here(
        "train",
        *(option for option in QUICK if option not in ("--steps", "4")),
        "--model",
        "mlp",
        "--warm-up",
        warm_up,
        "--warm-up-steps",
        "5",
        "--out",
        str(tmp_path / "r"),
        check=0,
    )
    saved = torch.load(tmp_path / "r" / "checkpoints" / "last.pt", weights_only=True)
    assert saved["method"] == f"{warm_up} for 5 steps, then lfp"


def test_ctrl_c_saves_and_resume_goes_on_bit_for_bit(tmp_path):
    options = ["--data", "digits", "--hidden", "64", "--steps", "10", "--epochs", "12", "--no-report"]
    whole = run("train", *options, "--out", str(tmp_path / "whole"), "--json", check=0)
    process = subprocess.Popen(
        [sys.executable, "-m", "spikelfp", "train", *options, "--out", str(tmp_path / "cut")],
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "cut" / "metrics.csv"
    for _ in range(2400):
        if metrics.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = run("train", "--out", str(tmp_path / "cut"), "--resume", "--no-report", "--json", check=0)
    assert "resuming after" in resumed.stderr
    a, b = (json.loads(done.stdout.splitlines()[-1]) for done in (whole, resumed))
    assert a["test_accuracy"] == b["test_accuracy"]
    weights = [
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)["weights"]
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_validation_part_chooses_the_best_epoch(tmp_path, here):
    done = here("train", *QUICK, "--validation", "0.2", "--out", str(tmp_path / "v"), "--json", check=0)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert "validation_accuracy" in summary
    header = (tmp_path / "v" / "metrics.csv").read_text().splitlines()[0]
    assert "validation_accuracy" in header
    assert "test_accuracy" not in header


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "'train'"),
        (["train", "--tresh", "1"], "there is no option --tresh: did you mean --threshold?"),
        (["train", "--modle", "mlp"], "--model"),
        (["train", "--model", "lif_mlp"], "did you mean 'lif-mlp'"),
        (["train", "--data", "digit"], "did you mean 'digits'"),
        (["train", "--method", "lpf"], "did you mean 'lfp'"),
        (["train", "--rule", "epsilom"], "did you mean 'epsilon'"),
        (["train", "--reward", "spike-sequense"], "did you mean 'spike-sequence'"),
        (["train", "--reset", "sub"], "subtract"),
        (["train", "--beta", "0"], "beta"),
        (["train", "--threshold", "-1"], "threshold"),
        (["train", "--steps", "0"], "steps"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--batch-size", "many"], "--batch-size takes a whole number, got 'many'"),
        (["train", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["train", "--loss", "mae"], "unknown loss 'mae': did you mean --error mae? choose from bce, count, rate"),
        (["train", "--loss", "rat"], "did you mean 'rate'?"),
        (["train", "--method", "rate"], "did you mean --encoding rate or --loss rate?"),
        (["train", "--lr", "-1"], "lr must be above 0, got -1.0"),
        (["train", "--hidden", "a,b"], "hidden"),
        (["train", "--model", "lif-lenet"], "16×16"),
        (["train", "--optimizer", "momentun"], "did you mean 'momentum'"),
        (["train", "--momentum", "1"], "momentum must lie in [0, 1), got 1.0"),
        (["train", "--weight-decay", "-1"], "weight-decay"),
        (["train", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "--decay-every", "0"], "decay-every"),
        (["train", "--decay-factor", "2"], "decay-factor must lie in (0, 1], got 2.0"),
        (["train", "--clip-norm", "-3"], "clip-norm"),
        (["train", "--accumulate", "0"], "accumulate"),
        (["train", "--warm-up", "surrogate"], "--warm-up-steps"),
        (["train", "--warm-up", "gradient", "--warm-up-steps", "10"], "use --warm-up surrogate"),
        (["train", "--warm-up-steps", "-1"], "warm-up-steps"),
        (["train", "--device", "tpu"], "tpu"),
        (["train", "--config", "missing.yaml"], "missing.yaml"),
        (["train", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--resume", "--out", "nowhere"], "nothing to resume"),
        (["train", "--out", ""], "--out is empty"),
        (["train", "--config", ""], "--config is empty"),
        (["train", "--data-dir", ""], "--data-dir is empty"),
        (["train", "--cache-dir="], "--cache-dir is empty"),
        (["eval", ""], "RUN is empty"),
        (["eval", "nowhere", "--data-dir="], "--data-dir is empty"),
        (["report", "nowhere", "--cache-dir", " "], "--cache-dir is empty"),
        (["data", "show", ""], "WHAT is empty"),
        (["data", "show", "nmnist", "--out="], "--out is empty"),
        (["data", "cache", "--cache-dir="], "--cache-dir is empty"),
        (["eval", "nowhere"], "no run folder"),
        (["report", "nowhere"], "nowhere"),
        (["eval"], "'run'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", arguments)
    errors = capsys.readouterr().err
    assert stop.value.code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("spikelfp: ")
    assert named in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("program", "arguments", "place"),
    [
        ("spikelfp", ["train", "--config=~/no.yaml"], "no.yaml"),
        ("spikelfp", ["eval", "~/no-run"], "no-run"),
        ("spikelfp", ["data", "info", "~/no/recordings"], "no/recordings"),
        ("spikelfp", ["data", "cache", "--cache-dir=~/cache"], "cache"),
        ("spikelfp", ["train", "--data", "mnist", "--data-dir=~/data-file"], "data-file"),
        ("spikelfp", ["train", "--out=~/data-file"], "data-file"),
        ("hw-export", ["build", "~/no-run"], "no-run"),
        ("hw-export", ["verify", "~/no-export"], "no-export"),
        ("hw-export", ["updates", "inspect", "~/no-stream"], "no-stream"),
        ("hw-export", ["updates", "record", "no-run", "--out=~/data-file"], "data-file"),
    ],
)
def test_a_path_may_start_with_the_home_folder(program, arguments, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "data-file").write_text("text")
    with pytest.raises(SystemExit):
        run_app(APPS[program], program, arguments)
    told = capsys.readouterr()
    assert str(tmp_path / "home" / place) in told.out + told.err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    "line",
    [
        ["build", ""],
        ["build", "run", "--out="],
        ["build", "run", "--data-dir="],
        ["verify", ""],
        ["verify", "export", "--log="],
        ["updates", "record", "run", "--out="],
        ["updates", "record", "run", "--out=stream", "--cache-dir="],
        ["updates", "replay", "stream", "--base=", "--out=image"],
    ],
)
def test_an_empty_path_is_refused(line, capsys):
    with pytest.raises(SystemExit) as stop:
        run_app(APPS["hw-export"], "hw-export", line)
    assert (stop.value.code, capsys.readouterr().err.count(" is empty: name a path")) == (2, 1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at least 1, got batch_size=0, lr=0.5", "at least 1, got --batch-size 0, --lr 0.5"),
        ("finish it first (epochs=3) and", "finish it first (--epochs 3) and"),
        ("leave out loss='rate': it", "leave out --loss rate: it"),
        ("say sparse=False", "say --no-sparse"),
        ("use nn.LIF(beta=0.9) or fit(…, epochs=3)", "use nn.LIF(beta=0.9) or fit(…, epochs=3)"),
        ("no option: unheard_of=3", "no option: unheard_of=3"),
        ("runs/epochs=3 is in the way", "runs/epochs=3 is in the way"),
        ("seed=1 exists already", "seed=1 exists already"),
    ],
)
def test_an_error_names_options_as_the_command_line_does(text, shown, monkeypatch, capsys):
    def fail(*_, **__):
        raise UserError(text)

    monkeypatch.setattr("spikelfp.training.run.train", fail)
    with pytest.raises(SystemExit):
        run_app(app, "spikelfp", ["train", "--out", "seed=1"])
    assert capsys.readouterr().err == f"spikelfp: {shown}\n"


def test_a_config_file_with_mistakes_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for text, named in (
        ("hiden: [3]\n", "did you mean 'hidden'"),
        ("steps: lots\n", "lots"),
        ("- 1\n", "list"),
        ("a: b: c", "YAML"),
    ):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", "--config", "c.yaml"])
        assert stop.value.code == 2
        assert named in capsys.readouterr().err


def test_a_run_folder_that_exists_is_refused(trained, tmp_path, here):
    folder, _ = trained
    before = (folder / "summary.json").read_bytes()
    done = here("train", *QUICK, "--out", str(folder), check=2)
    assert "--resume" in done.stderr
    assert "--overwrite" in done.stderr
    assert (folder / "summary.json").read_bytes() == before
    done = here("train", *QUICK, "--steps", "7", "--out", str(folder), "--resume", check=2)
    assert "steps 4 → 7" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    done = here("train", *QUICK, "--out", str(tmp_path / "mine"), "--overwrite", check=2)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_versions(capsys):
    for name, program in (("spikelfp", app), ("hw-export", export_app)):
        with pytest.raises(SystemExit) as stop:
            run_app(program, name, ["--version"])
        assert (stop.value.code, capsys.readouterr().out) == (0, f"{name} {version('spikelfp')}\n")


def test_woken_layers_stand_in_config_and_summary(tmp_path, monkeypatch, capsys):
    """Also when the run is resumed; and none are with --no-wake."""
    monkeypatch.chdir(tmp_path)

    def train(*options):
        with pytest.raises(SystemExit) as stop:
            run_app(app, "spikelfp", ["train", *QUICK, "--threshold", "9", *options])
        assert stop.value.code == 0, capsys.readouterr().err

    train("--out", "a")
    config = yaml.safe_load(Path("a/config.yaml").read_text())
    summary = json.loads(Path("a/summary.json").read_text())
    assert config["method"]["wake"] is True
    assert summary["wake"] == config["woken"]
    assert summary["wake"]["1"] > 1.25
    Path("a/summary.json").unlink()
    with pytest.raises(SystemExit):
        run_app(app, "spikelfp", ["train", "--out", "a", "--resume", "--no-report"])
    assert json.loads(Path("a/summary.json").read_text())["wake"] == config["woken"]
    assert yaml.safe_load(Path("a/config.yaml").read_text()) == config
    train("--out", "b", "--no-wake")
    assert json.loads(Path("b/summary.json").read_text())["wake"] is None
    assert "woken" not in yaml.safe_load(Path("b/config.yaml").read_text())
    train("--config", "a/config.yaml", "--out", "c")
    assert json.loads(Path("c/summary.json").read_text())["wake"] == config["woken"]


def test_overwrite_replaces_a_run(tmp_path, here):
    here("train", *QUICK, "--out", str(tmp_path / "r"), check=0)
    (tmp_path / "r" / "notes.txt").write_text("mine")
    here("train", *QUICK, "--seed", "3", "--out", str(tmp_path / "r"), "--overwrite", check=0)
    assert "seed: 3" in (tmp_path / "r" / "config.yaml").read_text()
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"  # only files of the run go


def test_info_tells_the_names_options_take(here):
    facts = json.loads(here("info", "--json", check=0).stdout.splitlines()[-1])
    assert "digits" in facts["data"]
    assert "lfp" in facts["methods"]


@pytest.mark.parametrize("command", ["train", "eval", "report", "info"])
def test_every_command_has_help_with_defaults(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run_app(app, "spikelfp", [command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--help" in text
    if command == "train":
        for name in OPTIONS.named():
            assert "--" + name.replace("_", "-") in text
        assert "[default: 0.9]" in text


def test_importing_the_package_is_quiet_and_loads_no_compiler():
    code = "import sys, spikelfp; print('torch._dynamo' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split() == ["False", "False"]
