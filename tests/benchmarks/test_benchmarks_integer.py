"""The benchmark of the simulator measures what it says, and writes it down."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import integer
from spikelfp import models

TINY = {"make": lambda: models.lif_mlp([784, 24, 10], reset="zero"), "batch": 8}


@pytest.mark.parametrize("spikes", [False, True])
def test_both_run_the_same_network(spikes):
    network = TINY | {"spikes": spikes}
    runs = integer.contenders(network, 6)
    with torch.no_grad():
        real, whole = runs[integer.FLOAT](), runs["integers"]()
    assert real.shape == whole.outputs.shape
    hidden = next(iter(whole.spikes.values())).float().mean()
    assert 0.02 < hidden < 0.3
    assert (whole.outputs.float() != real).float().mean() < 0.1


def test_it_writes_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(integer, "NETWORKS", {"tiny": TINY})
    integer.main(["--rounds", "2", "--out", str(tmp_path)])
    table = json.loads((tmp_path / "integer.json").read_text())["networks"]
    assert table["tiny"][integer.FLOAT] > 0
    assert table["tiny"]["integers"] > 0
    assert "| tiny | " in (tmp_path / "integer.md").read_text()
