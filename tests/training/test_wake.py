"""Silent layers are woken, others are left alone."""

import pytest
import torch

from spikelfp import analysis, models, nn
from spikelfp.training import TemporalTrainer
from spikelfp.training.update import AWAKE, wake_silent_layers


def test_silent_hidden_layers_fire_afterwards():
    net = models.lif_mlp([20, 30, 30, 5])
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.01)
    x = torch.rand(10, 8, 20)
    assert not any(analysis.spike_rates(net, x).values())
    factors = wake_silent_layers(net, x)
    rates = list(analysis.spike_rates(net, x).values())
    assert min(rates[:-1]) >= AWAKE
    assert set(factors) == {"1", "3"}
    assert min(factors.values()) > 10


def test_layers_that_fire_are_left_alone():
    net = models.lif_mlp([20, 30, 5])
    x = torch.rand(10, 8, 20) * 5
    before = [p.clone() for p in net.parameters()]
    assert wake_silent_layers(net, x) == {}
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_relu_networks_are_left_alone():
    net = models.mlp([20, 30, 5])
    assert wake_silent_layers(net, torch.zeros(1, 8, 20)) == {}


def test_input_that_cannot_wake_a_layer_ends_the_attempt():
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LIF(), nn.Linear(6, 2), nn.LIF())
    wake_silent_layers(net, torch.zeros(3, 2, 4))
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("on", [True, False])
def test_the_trainer_wakes_once_and_only_if_asked(on):
    from spikelfp import data

    train = data.load("digits").train.subset(range(64))
    trainer = TemporalTrainer(models.lif_mlp([64, 32, 10]), steps=8, encoding="latency", wake=on)
    trainer.fit(train, 1)
    assert bool(trainer.woken) is on
