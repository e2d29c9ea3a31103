"""Networks whose neurons have a floor and a margin, against loops written from the formulas."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from reference import DENOMINATORS, RESETS, lif_network_updates

from spikelfp import models, nn, propagate, rules
from spikelfp.functional.credit import earners
from spikelfp.functional.lif import LIFParameters, lif_scan, reward_scan
from spikelfp.kernels import KERNELS, choice
from spikelfp.nn.recompute import recomputed

EPS = 1e-6
CHOICES = [(0.0, 0.5), (1.0, 0.8), (0.5, 0.5), (2.0, 1.0)]


@pytest.mark.parametrize("events", ["always", "never"])
@pytest.mark.parametrize(("floor", "margin"), CHOICES)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("reset", RESETS)
def test_dense_networks_learn_as_the_naive_loop(reset, denominator, floor, margin, events, monkeypatch):
    monkeypatch.setenv(choice.EVENTS, events)
    sizes = [5, 70, 66, 3]  # wide enough for messages event by event
    neuron = {"floor": floor, "margin": margin}
    layers = [
        layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.LIF(0.8, 0.4, reset, denominator, **neuron))
    ]
    net = nn.Sequential(*layers).double()
    x, reward = torch.rand(6, 2, 5).double(), torch.randn(6, 2, 3).double()
    spikes = net(x)
    assert 0 < spikes.mean() < 1
    propagate(spikes, reward, weight=1.0)
    dense = [layer for layer in net if isinstance(layer, nn.Linear)]
    expected = [[torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)] for layer in dense]
    stated = [(layer.weight.tolist(), layer.bias.tolist()) for layer in dense]
    for b in range(2):
        arguments = (x[:, b].tolist(), stated, reward[:, b].tolist(), 0.8, 0.4, reset, denominator, EPS, floor, margin)
        for own, (dw, db) in zip(expected, lif_network_updates(*arguments), strict=True):
            own[0] += torch.tensor(dw, dtype=torch.float64)
            own[1] += torch.tensor(db, dtype=torch.float64)
    for layer, (dw, db) in zip(dense, expected, strict=True):
        for found, own in ((layer.weight.grad, dw), (layer.bias.grad, db)):
            torch.testing.assert_close(-found, own, rtol=1e-8, atol=1e-8 * float(own.abs().max()))


def naive_convolutions(x, kernels, reward, p, pool):
    """``d_w`` of convolutions (pooled, the first of them) with LIF neurons after each, from the last to the first."""
    inputs, currents, membranes, winners = [], [], [], []
    for k, w in enumerate(kernels):
        inputs.append(x)
        z = F.conv2d(x.flatten(0, 1), w, padding=1)
        if pool and k == 0:
            z, which = F.max_pool2d(z, 2, return_indices=True)
            winners.append(which)
        current = z.unflatten(0, x.shape[:2])
        x, membrane = lif_scan(current, torch.zeros_like(current[0]), p)
        currents.append(current)
        membranes.append(membrane)
    updates = []
    for k in reversed(range(len(kernels))):
        n, _ = reward_scan(reward, currents[k], membranes[k], torch.zeros_like(reward[0]), p, EPS)
        flat = n.flatten(0, 1)
        if pool and k == 0:
            flat = F.max_unpool2d(flat, winners[0], 2, output_size=inputs[0].shape[-2:])
        updates.append(
            kernels[k].abs() * torch.nn.grad.conv2d_weight(inputs[k].flatten(0, 1), kernels[k].shape, flat, padding=1)
        )
        if k:
            m = torch.nn.grad.conv2d_input(inputs[k].flatten(0, 1).shape, kernels[k], flat, padding=1)
            m = m.unflatten(0, inputs[k].shape[:2])
            reward = torch.where(membranes[k - 1] > p.margin * p.threshold, m, 0)
    return updates[::-1]


@pytest.mark.parametrize("events", ["always", "never"])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(("floor", "margin"), CHOICES)
def test_convolutions_learn_as_the_naive_loop(floor, margin, pool, events, monkeypatch):
    monkeypatch.setenv(choice.EVENTS, events)
    neuron = {"threshold": 0.4, "floor": floor, "margin": margin}
    layers = [nn.Conv2d(2, 5, 3, padding=1, bias=False), *([nn.MaxPool2d(2)] if pool else []), nn.LIF(0.8, **neuron)]
    layers += [nn.Conv2d(5, 4, 3, padding=1, bias=False), nn.LIF(0.8, **neuron)]
    net = nn.Sequential(*layers).double()
    x = (torch.rand(5, 2, 2, 6, 6) < 0.3).double()
    spikes = net(x)
    reward = torch.randn_like(spikes)
    propagate(spikes, reward, weight=1.0)
    convs = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    assert convs[1].choice.events == (events == "always")
    p = LIFParameters(0.8, 0.4, floor=floor, margin=margin)
    expected = naive_convolutions(x, [layer.weight.detach() for layer in convs], reward, p, pool)
    for layer, update in zip(convs, expected, strict=True):
        torch.testing.assert_close(-layer.weight.grad, update, rtol=1e-9, atol=1e-9)


def updates_of(net, x, reward, run=None):
    net.zero_grad()
    spikes = net(x) if run is None else run(net, x)
    propagate(spikes, reward)
    return spikes.detach(), [p.grad.clone() for p in net.parameters()]


def lif_network(**neuron):
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(9, 80), nn.LIF(0.9, 0.5, **neuron), nn.Linear(80, 70), nn.RecurrentLIF(70, 0.9, 0.6, **neuron),
        nn.Linear(70, 66), nn.Synaptic(0.6, 0.8, 0.7, **neuron), nn.Linear(66, 4), nn.LIF(0.9, 0.5, **neuron),
    ).double()  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(3)
    return net


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("how", ["events", "kernels", "parts"])
def test_every_way_to_run_learns_the_same(how, constant, monkeypatch):
    net, reward = lif_network(floor=0.7, margin=0.5), torch.randn(11, 3, 4).double()
    x = nn.constant(torch.rand(3, 9).double() * 2, 11) if constant else torch.rand(11, 3, 9).double() * 2
    monkeypatch.setenv(choice.EVENTS, "never")
    expected = updates_of(net, x, reward)
    assert expected[0].any()
    run = None
    if how == "kernels":
        monkeypatch.setenv(KERNELS, "torch")
    else:
        monkeypatch.setenv(choice.EVENTS, "always")
        run = (lambda net, x: recomputed(net, x, 4)[0]) if how == "parts" else None
    spikes, found = updates_of(net, x, reward, run)
    assert torch.equal(spikes, expected[0])
    for a, b in zip(found, expected[1], strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_margin_is_heard_behind_a_network_in_parts(monkeypatch):
    """The parts are made again for their backward pass, so that all neurons get their message meanwhile."""
    found = []
    for events, parts in (("never", None), ("always", None), ("always", 3)):
        monkeypatch.setenv(choice.EVENTS, events)
        torch.manual_seed(0)
        first = nn.Sequential(nn.Linear(9, 80), nn.LIF(0.9, 0.5, margin=0.5, floor=1))
        last = nn.Sequential(nn.Linear(80, 70), nn.LIF(0.9, 0.5))
        net = nn.Sequential(first if parts is None else nn.Recomputed(first, parts), last).double()
        torch.manual_seed(2)
        found.append(updates_of(net, torch.rand(7, 2, 9).double(), torch.randn(7, 2, 70).double()))
    for spikes, updates in found[1:]:
        assert torch.equal(spikes, found[0][0])
        for a, b in zip(updates, found[0][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("how", ["sample", "step"])
@pytest.mark.parametrize("make", [nn.LIF, lambda **o: nn.RecurrentLIF(8, **o)])
def test_normalised_rewards_are_those_of_all_that_hear(make, how):
    """The largest reward of a layer is taken over neurons that fire and those above the margin."""
    torch.manual_seed(0)
    layer, out = make(threshold=0.6, margin=0.5, floor=1).double(), nn.Linear(8, 3).double()
    rule = rules.Epsilon(normalize=how)
    x = torch.rand(6, 2, 8).double().requires_grad_()
    rules.attach(out, rule)
    spikes = layer(x)
    sent = []
    spikes.register_hook(lambda m: sent.append(m.clone()))
    z = out(spikes)
    reward = torch.randn_like(z)
    propagate(z, reward)
    trace = layer.run(x, trace=True)[0]
    heard = trace.membrane > 0.3
    assert (heard & (trace.spikes == 0)).any()
    rewards = torch.where(heard, sent[0], 0).abs()
    largest = rewards.amax((0, 2) if how == "sample" else 2)
    assert ((largest - 1).abs() < 1e-9).logical_or(largest == 0).all()
    assert (largest > 0).any()


MOVES = {
    "none": lambda x: x,
    "flat": lambda x: x.flatten(2),
    "permuted": lambda x: x.permute(0, 1, -1, 2, 3),
    "permuted and flat": lambda x: x.permute(0, 1, 3, 4, 2).flatten(2),
    "flat, then turned": lambda x: x.flatten(2).transpose(-1, -2).unsqueeze(0),
    "a matrix turned": lambda x: x.flatten(0, 2).flatten(1).t(),
    "copied": lambda x: x.transpose(2, 3).contiguous().float().squeeze(),
    "split": lambda x: x.movedim(2, 0).unflatten(1, (2, 2)).unsqueeze(-1),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_who_hears_is_known_after_moves(move):
    layer = nn.LIF(0.9, 0.6, margin=0.5)
    x = torch.randn(4, 3, 2, 5, 6).double().requires_grad_()
    spikes = layer(x)
    assert not spikes.grad_fn.name().startswith("View")
    expected = layer.run(x, trace=True)[0].membrane > 0.3
    moved = move(spikes)
    found = earners(moved)()
    assert found.shape == moved.shape
    assert torch.equal(found, move(expected.double()) > 0)


def test_neurons_of_the_paper_hear_nothing_more():
    x = torch.randn(4, 3, 8).requires_grad_()
    assert earners(nn.LIF(floor=2, margin=1)(x)) is None
    assert earners(x) is None
    assert earners(torch.relu(nn.LIF(margin=0.5)(x))) is None


@pytest.mark.parametrize("constant", [False, True])
def test_a_margin_costs_no_memory_in_the_forward_pass(constant):
    """Who hears is read from what is kept anyway."""
    kept = []
    for margin in (1.0, 0.5):
        sizes = []
        layer = nn.LIF(0.9, margin=margin)
        x = torch.rand(3, 40).requires_grad_()
        x = nn.constant(x, 12) if constant else x.expand(12, 3, 40) * 1.5

        def pack(t, sizes=sizes):
            sizes.append((tuple(t.shape), t.dtype))
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            layer(x)
        kept.append(sizes)
    assert kept[0] == kept[1]
    assert math.prod(kept[0][0][0])


@pytest.mark.parametrize("credit", ["scan", "step"])
def test_rewards_given_to_neurons_are_theirs_whatever_the_margin(credit):
    x, reward = torch.randn(6, 2, 5).double(), torch.randn(6, 2, 5).double()
    found = []
    for margin in (1.0, 0.3):
        layer = nn.LIF(0.9, 0.7, margin=margin, rule=rules.Epsilon(credit=credit))
        given = x.clone().requires_grad_()
        propagate(layer(given), reward)
        found.append(given.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("rule", [rules.Surrogate(), rules.Gradient()], ids=repr)
def test_gradients_do_not_know_them(rule):
    found = []
    for neuron in ({}, {"floor": 2.0, "margin": 0.3}):
        net = lif_network(**neuron)
        rules.attach(net, rule)
        out = net(torch.ones(5, 2, 9).double())
        (out * torch.arange(4)).sum().backward()
        found.append([out.detach(), *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.parametrize("rule", [rules.Gamma(), rules.AlphaBeta(), rules.Zero()], ids=repr)
def test_other_rules_send_almost_spikes_the_message_of_a_spike(rule):
    """The message to an input of 0 that is heard is that to a small positive one."""
    torch.manual_seed(0)
    x = torch.randn(5, 2, 6).double()
    layer, out = nn.LIF(0.9, 0.6, margin=0.5).double(), nn.Linear(6, 4).double()
    spikes, membrane = layer.run(x, trace=True)[0]
    given = spikes.detach().clone().requires_grad_()
    rules.attach(out, rule)
    z = out(given)
    reward = torch.randn_like(z)
    propagate(z, reward)
    near = torch.where(spikes > 0, spikes, 1e-13).requires_grad_()
    propagate(out(near), reward)
    heard = membrane > 0.3
    assert (heard & (spikes == 0)).any()
    torch.testing.assert_close(given.grad[heard], near.grad[heard], rtol=1e-5, atol=1e-5)


def test_models_take_them():
    net = models.lif_mlp([5, 4, 3], floor=1.0, margin=0.6)
    assert [(layer.floor, layer.margin) for layer in net if isinstance(layer, nn.LIF)] == [(1.0, 0.6)] * 2
