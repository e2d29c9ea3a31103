"""Steps with the default floor and margin are timed beside those of the paper's rule."""

import json
from pathlib import Path

from benchmarks import margin
from benchmarks.record import RESULTS
from spikelfp import nn


def test_both_rules_are_timed_with_new_and_trained_weights(tmp_path):
    margin.main(["--quick", "--out", str(tmp_path), "--data-dir", str(tmp_path)])
    found = json.loads((tmp_path / "margin.json").read_text())["networks"]
    assert list(found) == ["64-1000-10, T 15", "64-512-10, recurrent, T 15"]
    for of_times in found.values():
        assert list(of_times) == ["new", "trained"]
        assert all(list(ms) == list(margin.RULES) and min(ms.values()) > 0 for ms in of_times.values())
    text = (tmp_path / "margin.md").read_text()
    assert text.count("×") == 4


def test_the_rules_are_those_of_the_paper_and_of_the_defaults():
    paper, ours = (nn.LIF(**own) for own in margin.RULES.values())
    assert (paper.floor, paper.margin) == (0, 1)
    assert f"floor {ours.floor:g}, margin {ours.margin:g}" in margin.RULES


def test_the_pages_say_what_was_measured():
    found = json.loads((RESULTS / "margin.json").read_text())["networks"]
    paper, ours = margin.RULES
    ratios = [f"{ms[ours] / ms[paper]:.2f}" for of_times in found.values() for ms in of_times.values()]
    pages = Path(__file__).parents[2] / "docs"
    training = " ".join((pages / "training.md").read_text().split())
    assert f"takes {ratios[0]} and {ratios[1]} times" in training
    assert f"{ratios[2]} and {ratios[3]} times on a recurrent network" in training
    assert f"{min(ratios)} to {max(ratios)} times as long" in (pages / "performance.md").read_text()
