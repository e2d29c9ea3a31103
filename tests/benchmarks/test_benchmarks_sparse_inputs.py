"""The benchmark of sparse inputs shows both forms the same recordings, and writes down what it measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks import sparse_inputs


@pytest.mark.parametrize(("steps", "least", "most"), [(20, 0.02, 0.06), (300, 0.003, 0.006)])
def test_recordings_are_as_sparse_as_those_of_a_camera(steps, least, most):
    x = sparse_inputs.sequences(steps, 3)
    assert x.shape == (steps, 3, 2, 34, 34)
    assert x.is_coalesced()
    assert (x.values() == 1).all()
    assert least < x._nnz() / x.numel() < most
    assert torch.equal(x.to_dense(), sparse_inputs.sequences(steps, 3).to_dense())


@pytest.mark.slow
def test_it_writes_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_inputs, "NETWORKS", {"tiny": sparse_inputs.MLP | {"steps": 4, "batch": 2}})
    sparse_inputs.main(["--quick", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "sparse_inputs.json").read_text())["networks"]["tiny"]
    assert results[sparse_inputs.DENSE]["ms"] > 0
    assert results[sparse_inputs.SPARSE]["rates"] == results[sparse_inputs.DENSE]["rates"]
    assert "| tiny | " in (tmp_path / "sparse_inputs.md").read_text()
