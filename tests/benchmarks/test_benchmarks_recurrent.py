"""The benchmark of recurrent networks: one tiny network, everyone from the same weights and events."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import recurrent, starting_weights
from benchmarks.contenders import FLOOR, OURS, SNNTORCH
from benchmarks.networks import RECURRENT

TINY = {"kind": "rnn", "sizes": [20, 24, 5], "steps": 6, "batch": 8, "start": {"how": "scaled", "rate": 0.2}}


def test_the_same_spikes_for_everyone(tmp_path, monkeypatch):
    monkeypatch.setattr(recurrent, "NAMES", (OURS, SNNTORCH, FLOOR))
    monkeypatch.setattr(recurrent, "with_start", lambda network: starting_weights.with_start(network, tmp_path))
    table = recurrent.run({"tiny": TINY}, [1], 2, 1)
    assert list(table) == ["tiny, 1 thread"]
    network, results = table["tiny, 1 thread"]
    assert network is TINY
    assert all(result["ms"] > 0 for result in results.values())
    assert results[OURS]["rates"][0] == pytest.approx(0.2, abs=0.08)
    assert results[SNNTORCH]["rates"] == pytest.approx(results[OURS]["rates"], abs=1e-3)


def test_events_are_those_of_their_class():
    made = starting_weights.make(TINY)
    assert made["images"].shape == (6, 8, 20)
    assert set(made["images"].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(made["labels"], torch.arange(8) % 5)
    assert [tuple(p.shape) for p in made["parameters"]] == [(24, 20), (24,), (24, 24), (5, 24), (5,)]


def test_goals_are_those_of_the_widest_network():
    assert [n for n, network in RECURRENT.items() if "goals" in network] == [n for n in RECURRENT if "512" in n]
