"""The other benchmarks, small: whole epochs, the curves, and their tables and plots."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import curves, epochs, rules, turns
from benchmarks.contenders import FLOOR, OURS, RECOMPUTED, SNNTORCH
from benchmarks.settings import Setting

POINT = {"T": 4, "width": 32, "batch": 8, "density": 0.1}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    for module in (turns, epochs):
        monkeypatch.setattr(module, "settings", lambda: [Setting(1)])


@pytest.mark.slow
def test_curves_measure_what_they_claim():
    found = curves.run({"T": [4], "density": [0.1]}, POINT, 3)
    assert found["T"]["4"] is found["density"]["0.1"]  # a shared point is measured once
    for points in found.values():
        for results in points.values():
            assert results[OURS]["rates"][:-1] == pytest.approx([0.1, 0.1], rel=0.2)
            assert results[SNNTORCH]["rates"] == pytest.approx(results[OURS]["rates"], abs=1e-3)
            assert all(results[name]["ms"] > 0 for name in (OURS, RECOMPUTED, SNNTORCH, FLOOR))
    text = curves.markdown(found, "How")
    assert f"| 4 | {found['T']['4'][OURS]['ms']:.1f} ms |" in text
    assert "Did not run" not in text
    assert curves.plot_curves(found).startswith(b"\x89PNG")


@pytest.mark.slow
def test_epochs_learn_and_are_timed(monkeypatch):
    monkeypatch.setattr(epochs, "settings", lambda: [Setting(1), Setting(2, passive=True)])
    settings = epochs.DIGITS | {"sizes": [64, 100, 10], "epochs": 2, "data_dir": None}
    results = epochs.run(settings)
    for name in (OURS, SNNTORCH):
        assert len(results[name]["seconds"]) == 2
        assert results[name]["accuracy"][-1] > 0.2
        assert set(results[name]["trial_ms"]) == {"1 thread", "2 threads, passive"}
    table = {"digits 64-100-10": results}
    text = epochs.markdown(table, "How")
    assert f"{sum(results[OURS]['seconds']):.1f} s |" in text
    assert "Goal" not in text
    assert epochs.plot_epochs(table).startswith(b"\x89PNG")


def test_the_goal_of_epochs_is_judged():
    ours = {"seconds": [4.0, 5.0, 5.0], "accuracy": [0.9, 0.95, 0.981], "peak_mb": 1.0}
    assert "0.9810 in 14.0 s, met" in epochs.markdown({"mnist, T 15": {OURS: ours}}, "")
    assert "not met" in epochs.markdown({"mnist, T 15": {OURS: ours | {"seconds": [6.0, 5.0, 5.0]}}}, "")


def test_without_mnist_the_digits_are_taken_and_said(tmp_path, capsys):
    assert epochs.settings_for(str(tmp_path))["data"] == "digits"
    assert "MNIST is not in" in capsys.readouterr().err


def test_mnist_is_taken_where_it_is(mnist_folder):
    assert epochs.settings_for(str(mnist_folder))["data"] == "mnist"


def test_rules_are_written(tmp_path):
    rules.main(["--quick", "--only", "ReLU 784-1000-1000-10", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "rules.json").read_text())["networks"]["ReLU 784-1000-1000-10"]
    assert found.keys() == rules.RULES.keys()
    assert (tmp_path / "rules.png").exists()
