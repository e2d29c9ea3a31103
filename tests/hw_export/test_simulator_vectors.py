"""Neurons that all differ, in other simulators: spike for spike, or refused in a line."""

from __future__ import annotations

import pytest
import torch
from export_nets import bernoulli

from hw_export import to_nir, verify
from hw_export.simulators import SIMULATORS
from spikelfp import nn

ONE_FOR_ALL = {"spikingjelly"}
CASES = [(name, reset) for name in SIMULATORS for reset in sorted(SIMULATORS[name].resets)]


def between(low, high, *shape, seed):
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def dense(reset):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(24, 16), nn.LIF(between(0.5, 0.95, 16, seed=1), between(0.5, 1.5, 16, seed=2), reset),
        nn.Linear(16, 10), nn.LIF(between(0.5, 0.95, 10, seed=3), 0.7, reset),
        nn.Linear(10, 6), nn.LIF(0.9, between(0.3, 0.9, 6, seed=4), reset),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
    return net


def convolutional(reset):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.AvgPool2d(2),
        nn.LIF(between(0.5, 0.95, 4, 1, 1, seed=1), between(0.1, 0.3, 4, 1, 1, seed=2), reset), nn.Conv2d(4, 3, 3),
        nn.LIF(0.8, between(0.1, 0.3, 3, 2, 2, seed=3), reset), nn.Flatten(), nn.Linear(12, 5), nn.LIF(0.9, 0.2, reset),
    )  # fmt: skip


@pytest.mark.parametrize(("simulator", "reset"), CASES, ids=["-".join(case) for case in CASES])
@pytest.mark.parametrize(("make", "shape"), [(dense, (24,)), (convolutional, (1, 8, 8))])
def test_neurons_that_all_differ(tmp_path, simulator, reset, make, shape):
    if not SIMULATORS[simulator].available():
        pytest.skip(f"{simulator} is not installed")
    net = make(reset)
    to_nir(net, tmp_path / "network.nir", input_shape=shape)
    (result,) = verify(net, tmp_path / "network.nir", bernoulli(*shape), [simulator])
    if simulator in ONE_FOR_ALL:
        assert result.status == "unsupported"
        assert "one decay and one threshold" in result.reason
        return
    assert result.status == "identical", result
    assert all(0 < layer.spikes < layer.compared for layer in result.layers)


def test_the_membrane_at_a_difference_is_that_of_the_neuron(tmp_path):
    """A file whose last layer has another threshold fires elsewhere; our side of the first difference is named."""
    if not SIMULATORS["nengo"].available():
        pytest.skip("nengo is not installed")
    net = dense("zero")
    other = dense("zero")
    other[5].threshold = other[5].threshold * 1.2
    to_nir(other, tmp_path / "network.nir")
    (result,) = verify(net, tmp_path / "network.nir", bernoulli(24), ["nengo"])
    first = result.layers[-1].first
    assert result.status == "different"
    assert first.threshold == net[5].threshold[first.neuron].item()
    assert (first.membrane > first.threshold) == bool(first.ours)
