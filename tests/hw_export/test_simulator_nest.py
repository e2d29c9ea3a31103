"""NEST: a program of its own, whose parts are compared with the equations."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from export_nets import bernoulli, convolutional, dense

from hw_export import to_nir, verify
from hw_export.simulators import SIMULATORS, UnsupportedError, nest_, nest_program

nest = pytest.mark.skipif(not SIMULATORS["nest"].available(), reason="nest is not installed")


@pytest.mark.parametrize("beta", [0.01, 0.3, 0.5, 0.9, math.exp(-0.1), 0.999, float(np.float32(0.9))])
def test_the_time_constant_gives_the_decay(beta):
    found = math.exp(-1 / nest_program.time_constant(beta))
    assert abs(found - beta) <= (0 if beta > 0.4 else 4 * math.ulp(beta))


def test_one_number_for_a_layer_of_equals():
    assert nest_program.per_layer(np.array([2.0, 2.0])) == 2.0
    assert nest_program.per_layer(np.array([2.0, 3.0])) == [2.0, 3.0]


@nest
def test_a_sample_starts_from_rest_whatever_ran_before(tmp_path):
    """The first sample leaves membranes that would fire for hundreds of steps, and spikes on their way."""
    net = dense("subtract", beta=0.999)
    to_nir(net, tmp_path / "network.nir")
    x = bernoulli(24)
    x[:, 0] *= 1000
    (result,) = verify(net, tmp_path / "network.nir", x, ["nest"])
    assert result.status == "identical"
    alone = SIMULATORS["nest"].run(tmp_path / "network.nir", x[:, 1:2])
    after = SIMULATORS["nest"].run(tmp_path / "network.nir", x[:, :2])
    assert all(torch.equal(alone[name], after[name][:, 1:]) for name in alone)
    assert after["layer_2_lif"][:, 0].any()


@nest
def test_long_silence_between_spikes(tmp_path):
    """NEST's neurons that learn may send messages of their own after thousands of steps without a spike."""
    net = dense("subtract", sizes=(24, 6, 3))
    to_nir(net, tmp_path / "network.nir")
    x = torch.zeros(4000, 1, 24)
    x[[3, 4, 3990]] = bernoulli(24)[:3, :1]
    (result,) = verify(net, tmp_path / "network.nir", x, ["nest"])
    assert result.status == "identical"
    assert result.layers[0].spikes > 0


@nest
def test_the_kernel_of_this_process_is_not_touched(tmp_path):
    to_nir(dense("zero"), tmp_path / "network.nir")
    SIMULATORS["nest"].run(tmp_path / "network.nir", bernoulli(24))
    assert "nest" not in sys.modules


@nest
def test_a_process_that_dies_is_reported_with_its_last_line(tmp_path, monkeypatch):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no kernel today')")
    monkeypatch.setattr(nest_program, "__file__", str(broken))
    to_nir(dense("zero"), tmp_path / "network.nir")
    (result,) = verify(dense("zero"), tmp_path / "network.nir", bernoulli(24), ["nest"])
    assert (result.status, result.reason) == ("failed", "RuntimeError: the NEST process failed: no kernel today")


@nest
def test_too_many_synapses_are_unsupported(tmp_path, monkeypatch):
    monkeypatch.setattr(nest_, "LARGEST", 100)
    to_nir(convolutional("zero"), tmp_path / "network.nir", input_shape=(1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"has \d+ synapses after its first layer, limit 100"):
        SIMULATORS["nest"].run(tmp_path / "network.nir", bernoulli(1, 8, 8))
