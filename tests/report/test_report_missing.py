"""Runs that lack something, and folders that are no runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from report_pages import Page

from spikelfp.errors import RunFolderError, SaveError, UserError
from spikelfp.report import write_report
from spikelfp.report.facts import collect_facts

Run = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("undrawn")


def test_stopped_run_shows_its_last_epoch(run: Run) -> None:
    folder = run("spiking-mlp", without=("summary.json",))
    rows = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.csv").write_text("\n".join(rows[:3]) + "\n")
    page = Page(write_report(folder).read_text())
    last = dict(zip(rows[0].split(","), rows[2].split(","), strict=True))
    assert "stopped after 2 epochs of 3" in page.text
    assert f"{100 * float(last['test_accuracy']):.2f} %test accuracy after epoch 2" in page.text
    assert "epochs2" in page.text
    assert len(page.pictures) == 13


def test_run_stopped_within_an_epoch_says_so(run: Run) -> None:
    folder = run("spiking-mlp", without=("summary.json",))
    path = folder / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["position"] = {"epoch": 1, "batch": 3, "step": 1015}
    torch.save(content, path)
    text = Page(write_report(folder).read_text()).text
    assert "Training was stopped within epoch 2" in text
    assert "after 1,015 updates" in text


def test_without_initial_weights_only_those_after_are_there(run: Run) -> None:
    folder = run("relu-mlp", without=("checkpoints/initial.pt",))
    assert [layer.before for layer in collect_facts(folder).weights] == [None, None]
    page = Page(write_report(folder).read_text())
    assert sum(picture.text.startswith("Histogram") for picture in page.pictures) == 2


def test_without_checkpoint_the_curves_stay(run: Run) -> None:
    folder = run("spiking-mlp", without=("checkpoints/last.pt",))
    page = Page(write_report(folder).read_text())
    assert page.headings == ["Learning"]
    assert len(page.pictures) == 2
    assert "No spikes, weights and errors are shown: there is no checkpoint at checkpoints/last.pt" in page.text


def test_damaged_checkpoint_is_named(run: Run) -> None:
    folder = run("spiking-mlp")
    (folder / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    page = Page(write_report(folder).read_text())
    assert "checkpoints/last.pt is not a readable checkpoint" in page.text
    assert len(page.pictures) == 2


def test_without_data_weights_and_curves_stay(run: Run, tmp_path: Path) -> None:
    folder = run("spiking-lenet")
    config = (folder / "config.yaml").read_text()
    gone = "\n".join(
        "  data_dir: /nowhere/at/all" if line.startswith("  data_dir") else line for line in config.split("\n")
    )
    (folder / "config.yaml").write_text(gone)
    page = Page(write_report(folder).read_text())
    assert page.headings == ["Learning", "Weights"]
    assert "data set mnist that the run was trained on was not found" in page.text
    assert "--data-dir" in page.text
    assert "/nowhere" not in page.source
    accuracy = json.loads((folder / "summary.json").read_text())["test_accuracy"]
    assert f"{100 * accuracy:.2f} %" in page.text


def test_data_folder_can_be_named(run: Run, tiny_mnist: Path) -> None:
    folder = run("spiking-lenet")
    config = (folder / "config.yaml").read_text().replace(str(tiny_mnist), "/nowhere")
    (folder / "config.yaml").write_text(config)
    page = Page(write_report(folder, str(tiny_mnist)).read_text())
    assert "The first test sample" in page.headings
    with pytest.raises(UserError, match="nowhere-else"):
        write_report(folder, "/nowhere-else")


def test_data_of_another_shape_is_refused(run: Run, tiny_mnist: Path) -> None:
    folder = run("relu-mlp")
    config = (folder / "config.yaml").read_text().replace("shape: [1, 8, 8]", "shape: [1, 4, 16]")
    (folder / "config.yaml").write_text(config)
    assert "was not found" in Page(write_report(folder).read_text()).text
    with pytest.raises(UserError, match="was trained on"):
        write_report(folder, str(tiny_mnist))


def test_trained_on_a_device_that_is_not_here(run: Run) -> None:
    folder = run("relu-mlp")
    config = (folder / "config.yaml").read_text().replace("device: cpu", "device: cuda:7")
    (folder / "config.yaml").write_text(config)
    assert "The first test sample" in Page(write_report(folder).read_text()).headings


def test_regression_summary_shows_its_loss(run: Run) -> None:
    folder = run("relu-mlp")
    summary = json.loads((folder / "summary.json").read_text())
    del summary["test_accuracy"], summary["score"]
    (folder / "summary.json").write_text(json.dumps({**summary, "test_loss": 0.25}))
    assert "0.25test loss" in Page(write_report(folder).read_text()).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", None, "no config.yaml"),
        ("config.yaml", "data: digits\n", "shape and the classes"),
        ("metrics.csv", None, "no metrics.csv"),
        ("metrics.csv", "epoch,reward\n", "no rows"),
        ("metrics.csv", "epoch,reward\n1,much\n", "damaged"),
        ("metrics.csv", "epoch,reward\n1\n", "damaged"),
        ("metrics.csv", "reward\n1\n", "damaged"),
        ("summary.json", "{", "is not valid JSON"),
        ("summary.json", "[]", "should hold a dict, found list"),
        ("verify.json", "nonsense", "is not valid JSON"),
        ("verify.json", "{}", "should hold a list, found dict"),
    ],
)
def test_unusable_folder_is_a_users_mistake(run: Run, name: str, content: str | None, message: str) -> None:
    folder = run("relu-mlp")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(RunFolderError, match=message):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run folder"):
        write_report(tmp_path / "nothing")


def test_unwritable_target_leaves_what_was_there(run: Run) -> None:
    folder = run("relu-mlp")
    (folder / "report.html").mkdir()
    with pytest.raises(SaveError, match=r"report\.html"):
        write_report(folder)
    assert (folder / "report.html").is_dir()
    assert not list(folder.glob(".report.html*"))
