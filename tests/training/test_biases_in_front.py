"""Biases in front of a batch normalisation change nothing, so trainers leave them as they are."""

import pytest
import torch

from spikelfp import data, models, nn, propagate, rewards, rules
from spikelfp.nn.graph import biases_in_front
from spikelfp.training import TemporalTrainer


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 20)), nn.BatchNorm1d(20), nn.LIF(), nn.Linear(20, 10), nn.LIF()
    )  # fmt: skip
    torch.nn.init.constant_(net[1].bias, 0.1)  # a parameter of 0 contributes nothing, and is never updated
    return net


@pytest.mark.parametrize(
    ("method", "rule"),
    [("lfp", None), ("lfp", rules.Epsilon()), ("lfp", rules.AlphaBeta()), ("surrogate", None)],
)
def test_only_those_are_left_as_they_are(method, rule):
    net = network()
    before = {name: p.clone() for name, p in net.named_parameters()}
    trainer = TemporalTrainer(net, steps=4, method=method, rule=rule, device="cpu", batch_size=64, lr=1e-2)
    trainer.fit(data.load("digits").train.subset(torch.arange(256)), 2)
    same = {name for name, p in net.named_parameters() if torch.equal(p, before[name])}
    assert same == {"0.1.bias"}


def test_they_have_no_effect_on_what_is_trained():
    """Measured: eq. 9 with constant statistics hands them much reward, though no output depends on them."""
    net, x, labels = network(), torch.rand(4, 32, 1, 8, 8), torch.randint(10, (32,))
    outputs = net(x)
    propagate(outputs, rewards.SpikeSequence()(outputs, labels))
    (bias,) = biases_in_front(net)
    assert bias is net[0][1].bias
    assert bias.grad.abs().sum() > 0
    with torch.no_grad():
        bias += 3
    assert torch.equal(net(x), outputs)


def test_evaluation_lags_behind_a_bias_that_wanders():
    """The running mean is that of batches before: what is left alone costs nothing, what moves shifts all membranes."""
    norm = nn.BatchNorm1d(1)
    for shift in range(10):
        norm(torch.randn(4, 64, 1) + shift)
    norm.eval()
    assert float(norm.running_mean) < 6


def test_which_they_are():
    assert not biases_in_front(models.lif_mlp([4, 5, 3]))
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, bias=False), nn.BatchNorm2d(2))
    assert [id(bias) for bias in biases_in_front(net)] == [id(net[0].bias)]
    between = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Linear(3, 3))
    assert not biases_in_front(between)
    tied = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    tied[2].bias = tied[0].bias
    assert not biases_in_front(tied)

    class Around(torch.nn.Sequential):
        def forward(self, x):
            return self[1](x) + self[0](x)

    assert not biases_in_front(Around(nn.Linear(3, 3), nn.BatchNorm1d(3)))
