"""Rockpool: its decay, its shifted membrane, and what it must not import."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from export_nets import bernoulli, dense

from hw_export import to_nir
from hw_export.simulators import SIMULATORS
from hw_export.simulators.base import without
from hw_export.simulators.rockpool_ import time_constants


@pytest.mark.parametrize("beta", [0.5, 0.6, 0.875, 0.9, 0.99])
def test_the_time_constant_gives_the_decay_exactly(beta):
    decay = torch.full((3,), beta)
    assert torch.equal(torch.exp(-1.0 / time_constants(decay)), decay)


def test_a_time_constant_for_each_neuron():
    decay = torch.tensor([0.1, 0.3, 0.95])
    found = torch.exp(-1.0 / time_constants(decay))
    assert torch.allclose(found, decay, rtol=3e-7, atol=0)


def test_subtracting_later_is_subtracting_more_from_a_shifted_membrane():
    """The change of variable of the adapter, in plain float64."""
    random = np.random.default_rng(0)
    beta, theta = 0.8, 1.5
    taken = theta / beta
    shift = taken - theta
    current = random.normal(0.5, 1.0, 2000)
    ours = theirs = 0.0
    theirs, fired, spikes, other = shift, 0, [], []
    for value in current:
        ours = beta * ours + value - theta * fired
        fired = int(ours > theta)
        spikes.append(fired)
        theirs = beta * theirs + value + (1 - beta) * shift
        other.append(int(theirs > taken))
        theirs -= taken * other[-1]
    assert spikes == other
    assert 200 < sum(spikes) < 1800


def test_samna_is_not_imported(tmp_path):
    """The one in the package index runs pip when it is imported, and Rockpool looks whether it is there."""
    if not SIMULATORS["rockpool"].available():
        pytest.skip("rockpool is not installed")
    to_nir(dense("subtract"), tmp_path / "network.nir")
    SIMULATORS["rockpool"].run(tmp_path / "network.nir", bernoulli(24))
    assert "samna" not in sys.modules


def test_without_a_module_it_cannot_be_imported_for_a_while(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this"), pytest.raises(ModuleNotFoundError):
        import this  # noqa: F401
    assert "this" not in sys.modules
    with without("math"):
        import math
    assert math.sqrt(4) == 2, "what was imported before stays"
