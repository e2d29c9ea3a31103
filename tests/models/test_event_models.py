"""The networks for recordings of events: a small convolutional one and a recurrent one."""

from __future__ import annotations

import pytest
import torch

from spikelfp import models, nn, propagate, rewards
from spikelfp.errors import ShapeError, UserError
from spikelfp.models import ModelSpec, build, is_spiking
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_splits, make_trainer
from spikelfp.training.update import SILENT, wake_silent_layers

NEURON = {"beta": 0.7, "threshold": 0.8, "reset": "zero", "denominator": "increment"}


def shapes(net, kind):
    return [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, kind)]


def rates(net, x):
    """Mean output of each layer of neurons on ``x``."""
    found = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, out: found.append(out.mean().item()))
        for layer in net
        if isinstance(layer, nn.Neurons)
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    return found


def camera(density=0.05):
    return (torch.rand(20, 8, 2, 34, 34) < density).float()


def test_the_sizes_of_lif_conv():
    net = models.lif_conv((2, 34, 34), 10)
    assert shapes(net, nn.Conv2d) == [(12, 2, 5, 5), (32, 12, 5, 5)]
    assert shapes(net, nn.Linear) == [(10, 32 * 5 * 5)]
    assert shapes(models.lif_conv((1, 20, 28), 3, width=4), nn.Conv2d) == [(4, 1, 5, 5), (11, 4, 5, 5)]
    assert shapes(models.lif_conv((1, 20, 28), 3, width=4), nn.Linear) == [(3, 11 * 2 * 4)]


def test_options_reach_lif_conv():
    net = build(ModelSpec("lif-conv", (2, 16, 18), 5, pool="avg", width=6, bias=False, neuron=NEURON))
    assert [tuple(p.shape) for p in net.parameters()] == [(6, 2, 5, 5), (16, 6, 5, 5), (5, 16)]
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in net) == 2
    neurons = [layer for layer in net if isinstance(layer, nn.LIF)]
    assert len(neurons) == 3
    assert {tuple(getattr(layer, name) for name in NEURON) for layer in neurons} == {tuple(NEURON.values())}


def test_options_reach_lif_rnn():
    net = build(ModelSpec("lif-rnn", (24,), 5, hidden=(9, 7), bias=False, neuron=NEURON))
    assert [tuple(p.shape) for p in net.parameters()] == [(9, 24), (9, 9), (7, 9), (7, 7), (5, 7)]
    neurons = [layer for layer in net if isinstance(layer, nn.Neurons)]
    assert [type(layer) for layer in neurons] == [nn.RecurrentLIF, nn.RecurrentLIF, nn.LIF]
    assert {tuple(getattr(layer, name) for name in NEURON) for layer in neurons} == {tuple(NEURON.values())}
    biased = models.lif_rnn([24, 9, 5])
    assert [name for name, _ in biased.named_parameters() if name.endswith("bias")] == ["1.bias", "3.bias"]


def test_both_are_spiking_networks_by_name():
    assert {"lif-conv", "lif-rnn"} <= set(models.models)
    assert is_spiking("lif-conv")
    assert is_spiking("lif-rnn")


def test_lif_rnn_computes_its_formula():
    """Against the recursion written out neuron by neuron, U[t] = β U[t−1] + W X[t] + b + V S[t−1] − θ S[t−1]."""
    net = models.lif_rnn([3, 4, 2], beta=0.8, threshold=0.5).double()
    x = torch.randint(0, 3, (12, 2, 3)).double() / 2
    (dense, hidden, out) = net[1], net[2], net[3]
    expected = torch.zeros(12, 2, 2, dtype=torch.float64)
    total = 0
    for sample in range(2):
        membrane, fired = [0.0] * 4, [0] * 4
        last, spiked = [0.0] * 2, [0] * 2
        for t in range(12):
            current = [
                dense.bias[i].item()
                + sum(dense.weight[i, j].item() * x[t, sample, j].item() for j in range(3))
                + sum(hidden.recurrent.weight[i, j].item() * fired[j] for j in range(4))
                for i in range(4)
            ]
            membrane = [0.8 * membrane[i] + current[i] - 0.5 * fired[i] for i in range(4)]
            fired = [int(u > 0.5) for u in membrane]
            total += sum(fired)
            for c in range(2):
                drive = out.bias[c].item() + sum(out.weight[c, i].item() * fired[i] for i in range(4))
                last[c] = 0.8 * last[c] + drive - 0.5 * spiked[c]
                spiked[c] = int(last[c] > 0.5)
                expected[t, sample, c] = spiked[c]
    assert 10 < total < 86  # neither silent nor always firing
    assert torch.equal(net(x), expected)


def test_flat_and_camera_inputs_give_the_same_spikes():
    net = build(ModelSpec("lif-rnn", (2, 5, 6), 3, hidden=(20,)))
    x = (torch.rand(6, 4, 2, 5, 6) < 0.2).float()
    assert torch.equal(net(x), net(x.flatten(2)))
    assert net(x).shape == (6, 4, 3)


def test_sparse_events_make_both_fire_from_the_start():
    """Without the larger initial weights the trainer would have to wake their layers."""
    conv = models.lif_conv()
    assert all(SILENT < rate < 0.5 for rate in rates(conv, camera())[:-1])
    assert wake_silent_layers(conv, camera()) == {}
    line = (torch.rand(26, 32, 24) < 0.05).float()  # of a tactile sensor: one in twenty channels of a step
    for sizes in ([24, 64, 27], [24, 64, 64, 27]):
        rnn = models.lif_rnn(sizes)
        assert all(SILENT < rate < 0.5 for rate in rates(rnn, line)[:-1])
        assert wake_silent_layers(rnn, line) == {}


@pytest.mark.parametrize(
    "spec", [ModelSpec("lif-conv", (2, 34, 34), 4), ModelSpec("lif-rnn", (2, 34, 34), 4, hidden=(50,))]
)
def test_a_reward_reaches_every_parameter_at_the_start(spec):
    net, x = build(spec), camera()
    spikes = net(x)
    propagate(spikes, rewards.SpikeSequence()(spikes, torch.arange(8) % 4))
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).float().mean() > 0.2, name


def order_task(samples):
    """Two channels that fire one after the other: which came first? Both are equally active over all."""
    labels, every = torch.randint(0, 2, (samples,)), torch.arange(samples)
    x = torch.zeros(12, samples, 2)
    x[0:2, every, labels] = 1.0
    x[3:5, every, 1 - labels] = 1.0
    return x, labels


def test_lif_rnn_learns_the_order_of_events():
    net = models.lif_rnn([2, 100, 2], beta=0.8)
    optimizer = torch.optim.Adam(net.parameters(), 2e-2, betas=(0.9, 0.99))
    reward = rewards.SpikeSequence()
    for _ in range(60):
        x, labels = order_task(32)
        spikes = net(x)
        optimizer.zero_grad()
        propagate(spikes, reward(spikes, labels) / 32)
        optimizer.step()
    x, labels = order_task(64)
    assert (net(x).sum(0).argmax(-1) == labels).float().mean() > 0.9


@pytest.mark.parametrize("shape", [(2, 15, 34), (2, 34)])
def test_lif_conv_says_what_it_needs(shape):
    with pytest.raises(ShapeError, match=r"16×16|channels, height, width"):
        models.lif_conv(shape, 10)


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="width of a network"):
        models.lif_conv(width=0)
    with pytest.raises(UserError, match="at least 1"):
        models.lif_rnn([24, 0, 5])
    with pytest.raises(UserError, match="an input and an output"):
        models.lif_rnn([24])


def test_without_hidden_layers_it_is_one_dense_layer():
    assert [type(layer) for layer in models.lif_rnn([24, 5])] == [nn.Flatten, nn.Linear, nn.LIF]


def test_lif_rnn_trains_on_static_data_by_its_name():
    config = RunConfig(data="digits", model="lif-rnn", hidden=(40,), steps=5, epochs=4, lr=0.02, device="cpu")
    splits = load_splits(config)
    config = config.resolved(len(splits.train), splits.train.levels)
    net = config.build(splits.shape, splits.classes)
    assert sum(p.numel() for p in net.parameters()) == 64 * 40 + 40 + 40 * 40 + 40 * 10 + 10
    trainer = make_trainer(net, config)
    trainer.fit(splits.train, 4)
    assert trainer.evaluate(splits.test).accuracy > 0.4
