"""The benchmark of methods on event data, on a folder of tiny recordings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import event_data
from benchmarks.events.baseline import logistic_regression, vectors
from benchmarks.events.ledger import Ledger
from benchmarks.events.runs import load
from benchmarks.events.tasks import TASKS, Task, command
from spikelfp.training.config import RunConfig

GRIDS = {
    "lfp": {"lr": (1e-2, 2e-2), "reward": ("spike-sequence",)},
    "surrogate": {"lr": (1e-2,), "loss": ("rate", "count")},
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
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


@pytest.fixture
def task(recordings):
    data = f"folder:{recordings}"
    options = {"data": data, "model": "lif-rnn", "hidden": (16,), "steps": 5, "epochs": 2, "batch_size": 8}
    return Task(options, GRIDS, {"steps": 2, "levels": 20})


def test_the_benchmark_tunes_tests_and_goes_on(task, tmp_path, capsys):
    words = ["--out", str(tmp_path), "--cache-dir", str(tmp_path / "cache"), "--seeds", "2"]
    event_data.main(words, {"lines": task})
    found = json.loads((tmp_path / "event_data.json").read_text())["networks"]["lines"]
    assert found["logistic_regression"]["accuracy"] == 1.0
    for method, grid in GRIDS.items():
        tuning = found[method]["tuning"]
        assert [one["choice"]["lr"] for one in tuning] == [lr for lr in grid["lr"] for _ in grid.get("loss", (1,))]
        assert len(found[method]["test"]) == 2
        best = max(tuning, key=lambda one: one["accuracy"])["choice"]
        assert f"--method {method} --lr {best['lr']:g}" in found[method]["command"]
    written = (tmp_path / "event_data.runs.json").read_text()
    assert len(json.loads(written)) == 1 + 2 * (2 + 2)
    event_data.main([*words, "--resume"], {"lines": task})
    assert (tmp_path / "event_data.runs.json").read_text() == written
    assert json.loads((tmp_path / "event_data.json").read_text())["networks"]["lines"] == found
    assert "| lines | " in capsys.readouterr().out


def test_the_ledger_finds_what_is_new_only(tmp_path):
    path, calls = tmp_path / "runs.json", []

    def once(ledger, settings):
        return ledger.once(settings, lambda: {"number": calls.append(settings) or len(calls)})

    first = Ledger(path, resume=True)
    assert once(first, {"lr": 1.0, "data_dir": "a"}) == {"number": 1}
    assert once(first, {"data_dir": "b", "lr": 1.0}) == {"number": 1}
    assert once(first, {"lr": 2.0}) == {"number": 2}
    assert once(Ledger(path, resume=True), {"lr": 2.0}) == {"number": 2}
    assert once(Ledger(path, resume=False), {"lr": 2.0}) == {"number": 3}


def test_the_goals_are_judged():
    def found(lfp, surrogate):
        one = {"choice": {"lr": 0.1}, "accuracy": 0.5, "train_accuracy": 0.6}
        methods = {
            name: {"tuning": [one], "test": [{"accuracy": value} for value in values], "command": f"--method {name}"}
            for name, values in (("lfp", lfp), ("surrogate", surrogate))
        }
        return {"logistic_regression": {"accuracy": 0.38}, **methods}

    table = {"nmnist": found([0.8, 0.9], [0.86, 0.86]), "braille": found([0.6, 0.6], [0.61, 0.62])}
    text = event_data.markdown(table, "How")
    assert "| nmnist | 0.850 ± 0.071 | 0.860 ± 0.000 | 0.380 | -1.0 points (goal at least -0, not met) |" in text
    assert "-1.5 points (goal at least -2, met)" in text
    assert "| nmnist | lfp | --lr 0.1 | 0.500 | 0.600 |" in text


def test_the_commands_are_those_of_train():
    for task in TASKS.values():
        for method, grid in task.grids.items():
            assert len(list(task.choices(method))) == len(list(task.choices("lfp")))
            fields = task.options | {name: values[0] for name, values in grid.items()}
            RunConfig(method=method, **fields)  # knows all of them
    assert command({"hidden": (20, 10), "lr": 2e-3, "batch_size": 32}) == "--hidden 20,10 --lr 0.002 --batch-size 32"


def test_logistic_regression_sees_counts_in_their_place(task, tmp_path):
    splits = load({"data": task.options["data"], "cache_dir": str(tmp_path)} | task.counts)
    values, labels = vectors(splits.test, 3)
    assert values.shape == (12, 3 * 6)  # padded by a step
    assert np.allclose(values.sum(1) * 20, 40, atol=15)  # all 40 events but those of a full element
    assert not values[:, 12:].any()
    lower = values.reshape(12, 3, 6)[:, :, :3].sum((1, 2)) > values.reshape(12, 3, 6)[:, :, 3:].sum((1, 2))
    assert (lower == (labels == 0)).all()
    found = logistic_regression(splits, 2)
    assert found["accuracy"] == 1.0
    assert found["validation"] == 1.0
