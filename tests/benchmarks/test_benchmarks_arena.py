"""The arena: its data sets, its runs, its tables, and what is left out."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks.arena import __main__ as arena
from benchmarks.arena import tasks
from benchmarks.arena.counts import logistic_regression, once, vectors
from benchmarks.trained.table import Row
from spikelfp import data
from spikelfp.data.events.event import EVENT
from spikelfp.data.events.recordings import EventSplits
from spikelfp.data.events.sources.base import from_arrays
from spikelfp.data.events.sources.nmnist import PIPELINE, SENSOR
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_sequences


@pytest.fixture
def made(registrations_end):
    """The plug-in, whose data sets are registered within the test alone."""
    sys.modules.pop("benchmarks.arena.data", None)
    return importlib.import_module("benchmarks.arena.data")


@pytest.mark.parametrize(("name", "spikes"), [("intervals", 2), ("coincidence", 3)])
def test_counts_say_nothing(made, name, spikes):
    splits = data.load(name)
    for part in (splits.train, splits.test):
        sequences, labels = part.__getitems__(range(len(part)))
        assert sequences.values.shape == (made.STEPS, len(part), made.CHANNELS)
        assert (sequences.values.sum(0) == spikes).all()
        assert labels.bincount().tolist() == [len(part) // splits.outputs] * splits.outputs
    again = data.load(name)
    assert torch.equal(splits.train.values, again.train.values)
    assert not torch.equal(splits.train.values[: made.TEST], splits.test.values)


def test_times_are_those_of_the_class(made):
    splits = data.load("intervals")
    for values, label in zip(splits.train.values[:40], splits.train.labels[:40], strict=True):
        steps = values.nonzero()[:, 0].sort().values.double()
        volleys = steps[: made.CHANNELS], steps[made.CHANNELS :]
        assert abs(volleys[1].mean() - volleys[0].mean() - 4 * (label + 1)) < 1.2
    splits = data.load("coincidence")
    first, second = splits.train.values.split(made.CHANNELS // 2, dim=2)
    same = (first == second).all(2).all(1)
    assert torch.equal(same, splits.train.labels == 1)


def test_every_recording_is_in_the_test_part_of_one_fold(made, monkeypatch):
    assert made.FOLDS == tasks.FOLDS
    events = np.zeros(1, dtype=EVENT)
    parts = [from_arrays([events] * n, [i % 10 for i in range(n)], SENSOR) for n in (23, 10)]
    monkeypatch.setattr(made, "nmnist", lambda folder: EventSplits("nmnist", *parts, PIPELINE))
    seen: list[int] = []
    for number in range(made.FOLDS):
        splits = made.fold(None, number)
        test, train = splits.test.indices.tolist(), splits.train.indices.tolist()
        assert sorted(test + train) == list(range(33))
        seen += test
    assert sorted(seen) == list(range(33))


def test_every_run_is_one_that_the_command_takes(made):
    seen = set()
    for name, whole in tasks.TASKS.items():
        chosen = {len(row.choices) for row in whole.rows.values()}
        assert chosen == {4}, f"{name}: every method has as many choices"
        for each in (whole, tasks.shortened(whole)):
            for row in each.rows.values():
                for choice in (*row.choices, *(one | each.tuning for one in row.choices[:1])):
                    options = each.options | row.options | choice | (each.variants or ({},))[-1]
                    options = {key: value for key, value in options.items() if key != "plugin"}
                    if options["data"].startswith("mnist-part"):
                        options["data"] = "mnist"
                    if str(options) not in seen:
                        seen.add(str(options))
                        assert RunConfig(**options).flat.method == options["method"], name


TINY = tasks.Task(
    "two methods on digits",
    "one epoch",
    {"data": "digits", "model": "lif-mlp", "hidden": (8,), "steps": 3, "epochs": 1, "batch_size": 500},
    {"lfp": Row("LFP", {"method": "lfp"}), "surrogate": Row("surrogate gradient", {"method": "surrogate"})},
)
ONE = replace(TINY, rows={"lfp": TINY.rows["lfp"]})


def test_it_writes_a_table_and_says_what_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(arena, "at_hand", lambda name, folder: "no file" if name == "away" else "")
    given = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "1"]
    arena.main(given, {"tiny": ONE, "away": TINY})
    said = capsys.readouterr()
    assert "away is left out, since the data are not at hand: no file" in said.err
    assert "Left out, since the data are not at hand: no file" in said.out
    table = json.loads((tmp_path / "arena.json").read_text())["networks"]
    for key, row in table["tiny"]["rows"].items():
        (run,) = row["runs"]
        summary = json.loads((tmp_path / "runs" / f"tiny_{key}_s0" / "summary.json").read_text())
        shown = arena.cells(row)
        assert shown[:2] == [row["name"], f"{summary['test_accuracy']:.4f}"]
        assert shown[3] == f"{summary['peak_memory_mb']:.0f}"
        rates = summary["spike_rates"].values()
        assert shown[4] == f"{100 * sum(rates) / len(rates):.1f}"
        assert shown[5] == f"{100 * summary['update_density']:.0f}"
        assert run["finished"]
    assert (tmp_path / "arena.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_methods_that_are_named_run(tmp_path):
    given = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "1", "--methods", "surrogate"]
    arena.main(given, {"tiny": TINY})
    table = json.loads((tmp_path / "arena.json").read_text())["networks"]["tiny"]
    assert {key: len(row["runs"]) for key, row in table["rows"].items()} == {"lfp": 0, "surrogate": 1}
    with pytest.raises(SystemExit):
        arena.main([*given, "--methods", "lpf"], {"tiny": TINY})


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Two classes of recordings of a line of six channels: events on the lower or on the upper three."""
    folder, random = tmp_path_factory.mktemp("lines"), np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 6)):
        for label in range(2):
            (folder / part / str(label)).mkdir(parents=True)
            for number in range(count):
                channels = random.integers(0, 3, 40) + 3 * label
                channels[0] = 5  # the sensor is as wide for both
                events = np.stack([np.sort(random.integers(0, 9000, 40)), channels], 1)
                np.save(folder / part / str(label) / f"{number}.npy", events)  # [M, 2]: t, x
    return folder


def test_logistic_regression_sees_counts_in_their_place(lines, tmp_path):
    config = RunConfig(data=f"folder:{lines}", cache_dir=str(tmp_path), steps=4, levels=20)
    splits = load_sequences(config)[0]
    values, labels = vectors(splits.test, 3)
    assert values.shape == (12, 3 * 6)  # padded by two steps
    assert np.allclose(values.sum(1) * 20, 40, atol=15)  # all 40 events but those of a full element
    assert not values[:, 12:].any()
    lower = values.reshape(12, 3, 6)[:, :, :3].sum((1, 2)) > values.reshape(12, 3, 6)[:, :, 3:].sum((1, 2))
    assert (lower == (labels == 0)).all()
    found = logistic_regression(splits, 2)
    assert (found["accuracy"], found["validation"]) == (1.0, 1.0)


def test_counts_are_kept_and_stand_in_the_table(lines, tmp_path):
    file, options = tmp_path / "counts.json", {"data": f"folder:{lines}", "steps": 2, "cache_dir": str(tmp_path)}
    assert once(file, 2, options, collect=True) is None
    first = once(file, 2, options, collect=False)
    assert first == once(file, 2, options, collect=True)
    assert first["accuracy"] == 1.0
    assert once(file, 1, options, collect=True) is None
    table = {"lines": {"title": "lines", "about": "", "rows": {}, "counts": first}}
    assert "| logistic regression on counts | 1.0000 |" in arena.markdown(table, "How")


def test_the_page_has_a_column_for_each_task_that_was_run():
    def task(*scores, counts=None):
        runs = [{"scores": [0.1, score], "finished": True} for score in scores]
        named = {"lfp": {"name": "LFP", "runs": runs}, "f3": {"name": "F³", "runs": []}}
        return {"rows": named, "counts": counts}

    table = {"a": task(0.5, 0.6), "b": task(0.875, counts={"accuracy": 0.25}), "c": task(), "d": {"missing": "no file"}}
    page = arena.into_page(f"x\n{arena.BEGIN}old\n{arena.END}y\n", table)
    assert page.startswith(f"x\n{arena.BEGIN}\n")
    assert page.endswith(f"\n{arena.END}y\n")
    assert "old" not in page
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("|")]
    assert cells[0] == ["test accuracy, %", "a", "b"]
    assert cells[2:] == [["LFP", "55.0 ± 7.1", "87.5"], ["logistic regression on counts", "–", "25.0"]]


@pytest.mark.parametrize("page", arena.PAGES, ids=lambda page: page.name)
def test_the_pages_show_what_the_results_hold(page):
    held = Path(__file__).parents[2] / "benchmarks" / "results" / "arena.json"
    text = page.read_text()
    table = json.loads(held.read_text())["networks"]
    assert arena.into_page(text, table) == text, "python -m benchmarks.arena --collect writes it anew"


def test_a_classifier_of_counts_is_at_chance_where_times_say_all(made):
    for name in ("intervals", "coincidence"):
        splits = data.load(name)
        assert logistic_regression(splits, 1)["accuracy"] == pytest.approx(1 / splits.outputs, abs=1e-9)


def test_data_that_are_not_there_are_named(tmp_path):
    assert "mnist" in arena.at_hand("mnist", str(tmp_path))
    assert arena.at_hand("intervals", str(tmp_path)) == ""


@pytest.mark.slow
def test_the_quick_arena_runs(tmp_path, capsys):
    arena.main(["--quick", "--out", str(tmp_path)])
    assert set(json.loads((tmp_path / "arena.json").read_text())["networks"]) == {"intervals", "coincidence"}
