"""The benchmark of updates without a backward pass: tiny networks, what is measured of them, and the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import forward_only_speed as speed
from benchmarks.record import RESULTS
from spikelfp import methods


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    for name, value in {"WIDTH": 16, "INPUTS": 12, "BATCHES": 2}.items():
        monkeypatch.setattr(speed, name, value)


def test_it_writes_a_table(tmp_path, capsys):
    threads = torch.get_num_threads()
    speed.main(
        ["--rounds", "2", "--updates", "1", "--depth", "1", "--depth", "3", "--samples", "4", "--out", str(tmp_path)]
    )
    assert torch.get_num_threads() == threads
    found = json.loads((tmp_path / "forward_only_speed.json").read_text())["networks"]
    assert list(found) == ["1 × 16, 4", "3 × 16, 4"]
    for results in found.values():
        assert list(results) == ["gradient", "f3", "dfa", "drtp"]
        assert all(own["cpu_ms"] > 0 and own["wall_ms"] > 0 for own in results.values())
        assert results["gradient"]["speed"] == 1
    text = (tmp_path / "forward_only_speed.md").read_text()
    assert f"| 3 × 16, 4 | f3 | {found['3 × 16, 4']['f3']['cpu_ms']:.2f} ms |" in text
    assert text.count("(goal") == 1  # from three hidden layers on
    assert capsys.readouterr().out == text + "\n"


def test_activations_are_those_of_the_graphs_that_live_at_once():
    """Backpropagation holds the outputs of all hidden layers, methods with cuts those of one block."""
    hidden = 4 * 16 * 4
    for depth in (3, 5):
        held = {name: speed.Contender(method, depth, 4).activations() for name, method in speed.METHODS.items()}
        assert held["gradient"] >= depth * hidden
        assert 0 < held["f3"] < held["gradient"]
        assert 0 < held["drtp"] < held["gradient"]
    deep, flat = (speed.Contender(methods.F3, depth, 4).activations() for depth in (6, 3))
    assert deep == flat


def test_every_method_learns_from_the_same_samples_in_turn():
    contenders = [speed.Contender(method, 1, 4) for method in speed.METHODS.values()]
    before = [p.clone() for p in contenders[0].trainer.net.parameters()]
    for each in contenders:
        assert all(torch.equal(p, own) for p, own in zip(each.trainer.net.parameters(), before, strict=True))
        for _ in range(3):
            each.update()
        assert each.made == each.trainer.position.step == 3
        assert any(not torch.equal(p, own) for p, own in zip(each.trainer.net.parameters(), before, strict=True))
    assert contenders[1].trainer.method.table.seen.all()  # of 8 samples, in two batches


def test_the_page_says_what_was_measured():
    found = json.loads((RESULTS / "forward_only_speed.json").read_text())["networks"]
    page = " ".join((Path(__file__).parents[2] / "docs" / "forward_only.md").read_text().split())
    for batch, words in ((50, "is {} times as fast in batches of 50"), (512, "and {} times in batches of 512")):
        first, second, third = (f"{found[f'{depth} × 500, {batch}']['f3']['speed']:.2f}" for depth in (3, 5, 10))
        assert words.format(f"{first}, {second} and {third}") in page
