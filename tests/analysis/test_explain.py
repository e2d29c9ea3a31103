"""Explanations: relevance against sums written out, conservation, events, deletion, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from spikelfp import explain, models, nn, rules
from spikelfp.data import load
from spikelfp.errors import ShapeError, UserError
from spikelfp.training import TemporalTrainer

CONSERVING = [rules.Zero(), rules.Epsilon(1e-9), rules.Gamma(eps=1e-9, gamma=0.25)]


def network(*layers):
    return torch.nn.Sequential(*layers).double()


def lrp(x, weights, biases, target, eps):
    """LRP-ε of a network of ReLU for one sample, every contribution ``z_ij`` written out."""
    activations = [x]
    for number, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = w @ activations[-1] + b
        activations.append(z if number == len(weights) - 1 else np.maximum(z, 0))
    reward = np.zeros(len(activations[-1]))
    reward[target] = activations[-1][target]
    for a, w, b in reversed(list(zip(activations[:-1], weights, biases, strict=True))):
        z = w @ a + b
        split = np.zeros(len(a))
        for j in range(len(z)):
            if z[j] == 0 or reward[j] == 0:
                continue
            for i in range(len(a)):
                split[i] += a[i] * w[j, i] / (z[j] + (eps if z[j] >= 0 else -eps)) * reward[j]
        reward = split
    return reward


@pytest.mark.parametrize("eps", [1e-6, 0.25])
def test_relevance_is_that_of_every_contribution_written_out(eps):
    net = network(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    x = torch.randn(1, 7, 6, dtype=torch.float64)
    found = explain.relevance(net, x, rule=rules.Epsilon(eps))
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach().numpy() for layer in linear]
    biases = [layer.bias.detach().numpy() for layer in linear]
    predicted = net(x)[0].argmax(1)
    for sample in range(7):
        wanted = lrp(x[0, sample].numpy(), weights, biases, int(predicted[sample]), eps)
        np.testing.assert_allclose(found[0, sample].numpy(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", CONSERVING, ids=str)
def test_it_is_conserved_without_biases(rule):
    net = network(
        nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5, bias=False)
    )
    x = torch.rand(1, 3, 2, 8, 8, dtype=torch.float64)
    found = explain.relevance(net, x, torch.tensor([0, 4, 2]), rule=rule)
    wanted = net(x)[0].gather(1, torch.tensor([[0], [4], [2]]))[:, 0]
    torch.testing.assert_close(found[0].flatten(1).sum(1), wanted, rtol=1e-5, atol=1e-8)


def test_a_step_of_spiking_neurons_conserves_what_its_inflow_brings():
    net = network(nn.Linear(8, 20, bias=False), nn.LIF(0.9), nn.Linear(20, 3, bias=False), nn.LIF(0.9))
    for p in net.parameters():
        p.data.abs_().mul_(2)
    x = torch.rand(1, 5, 8, dtype=torch.float64)
    spikes = net(x)
    assert spikes.any()
    found = explain.relevance(net, x, 1)
    torch.testing.assert_close(found.sum((0, 2)), spikes[0, :, 1], rtol=1e-5, atol=1e-5)


def test_a_class_that_never_fires_has_no_relevance_and_an_earlier_step_has_some():
    net = network(nn.Linear(2, 1, bias=False), nn.LIF(0.5))
    net[0].weight.data[:] = 0.8
    x = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
    assert net(x).flatten().tolist() == [0.0, 1.0, 0.0]  # 0.8, then 0.4 + 0.8
    found = explain.relevance(net, x, 0)
    # R = 1 at the second step: 2/3 of it flowed in there, and 1/3 came from the first step.
    assert found[:, 0, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 0], rel=1e-5)
    assert not explain.relevance(net, torch.zeros_like(x), 0).any()


def test_of_gradients_it_is_gradient_times_input():
    net = network(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    found = explain.relevance(net, x, 2, rule=rules.Gradient())
    plain = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    plain.load_state_dict(net.state_dict())
    leaf = x.clone().requires_grad_()
    plain(leaf)[..., 2].sum().backward()
    torch.testing.assert_close(found, x * leaf.grad)


def test_nothing_of_the_network_changes():
    net = models.lif_mlp([64, 12, 10]).train()
    net[-1].eval()  # a layer may be in another mode than the network
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    x = torch.rand(4, 3, 1, 8, 8)
    weights, state = [p.clone() for p in net.parameters()], torch.get_rng_state()
    first, again = explain.relevance(net, x), explain.relevance(net, x)
    assert torch.equal(first, again)
    assert first.shape == x.shape
    assert not x.requires_grad
    assert net.training
    assert not net[-1].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, w) and (p.grad == 1).all() for p, w in zip(net.parameters(), weights, strict=True))


def test_steps_of_a_constant_input_have_a_relevance_of_their_own():
    net = models.lif_mlp([64, 32, 10])
    picture = torch.rand(1, 2, 1, 8, 8) * 3
    shown = picture.expand(6, -1, -1, -1, -1)
    target = torch.tensor([int(net(shown).sum((0, 1)).argmax())] * 2)
    torch.testing.assert_close(
        explain.relevance(net, shown, target), explain.relevance(net, shown.contiguous(), target)
    )


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    splits = load("digits")
    net = models.lif_mlp([64, 64, 10])
    trainer = TemporalTrainer(net, method="lfp", steps=6, lr=1e-2)
    trainer.fit(splits.train, 4)
    x, labels = splits.test.__getitems__(range(200))
    return net, x.expand(6, *x.shape), labels


def test_deleting_the_relevant_inputs_costs_more_than_random_ones(trained):
    net, x, labels = trained
    found = explain.relevance(net, x)
    for over_time in (False, True):
        curve = explain.deletion(net, x, labels, found, shares=(0, 0.2, 0.4, 1.0), over_time=over_time)
        assert curve.accuracy[0] == curve.random[0] > 0.85
        assert curve.accuracy[1] < curve.random[1] - 0.1
        assert curve.accuracy[-1] == curve.random[-1] < 0.3  # nothing is left
        assert curve.gap > 0.05


def test_deletion_deletes_the_inputs_of_the_largest_relevance():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            seen.append(x)
            return x[..., :2]

    x = torch.tensor([[[3.0, 1.0, 0.0, 2.0], [1.0, 0.0, 4.0, 5.0]]])
    worth = torch.tensor([[[0.1, -1.0, 9.0, 0.5], [0.3, 9.0, 0.2, 0.4]]])
    explain.deletion(Spy(), x, torch.tensor([0, 1]), worth, shares=(0.0, 0.34, 1.0))
    assert seen[0].tolist() == x.tolist()
    assert seen[1].tolist() == [[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0]]]  # a third of three, rounded up: two
    assert not seen[2].any()
    assert [int((row != 0).sum()) for row in seen[4][0]] == [1, 1]  # as many, at random


def test_steps_that_do_not_count_are_not_explained():
    net = network(nn.Linear(2, 1, bias=False), nn.LIF(0.5))
    net[0].weight.data[:] = 0.8
    x = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[3.0, 0.0]]], dtype=torch.float64)
    mask = torch.tensor([[True], [True], [False]])
    whole, masked = explain.relevance(net, x, 0), explain.relevance(net, x, 0, mask=mask)
    torch.testing.assert_close(masked[:2], explain.relevance(net, x[:2], 0))
    assert whole[2, 0, 0] > 0.5
    assert masked[2, 0, 0] == 0
    labels = torch.zeros(1, dtype=torch.long)
    late = network(nn.Linear(2, 2, bias=False), nn.LIF(0.5))
    late[0].weight.data[:] = torch.tensor([[0.8, 0.0], [0.0, 5.0]])
    x = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]], dtype=torch.float64)
    assert explain.deletion(late, x, labels, x, shares=(0,)).accuracy == (0.0,)  # two late spikes of class 1
    first = torch.tensor([[True], [False], [False]])
    assert explain.deletion(late, x, labels, x, shares=(0,), mask=first).accuracy == (1.0,)
    with pytest.raises(ShapeError, match="mask"):
        explain.relevance(net, x, 0, mask=first[:2])


def test_events_are_listed_with_the_most_relevant_first():
    x, worth = torch.zeros(3, 2, 1, 2, 2), torch.zeros(3, 2, 1, 2, 2)
    x[0, 1, 0, 1, 0], x[2, 1, 0, 0, 1] = 2.0, 1.0
    worth[0, 1, 0, 1, 0], worth[2, 1, 0, 0, 1] = 0.25, 0.5
    found = explain.events(x, worth, 1)
    assert found.places.tolist() == [[2, 0, 0, 1], [0, 0, 1, 0]]
    assert found.values.tolist() == [1.0, 2.0]
    assert found.relevance.tolist() == [0.5, 0.25]


CLASSES = torch.zeros(4, dtype=torch.long)


def test_what_is_explained_does_not_depend_on_the_mode_of_torch():
    net = network(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.rand(2, 4, 6).double()
    wanted, weights = explain.relevance(net, x), explain.weight_relevance(net, x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = x.clone()  # in the second mode, a tensor that no graph can hold
            torch.testing.assert_close(explain.relevance(net, again), wanted, rtol=0, atol=0)
            torch.testing.assert_close(explain.weight_relevance(net, again), weights, rtol=0, atol=0)
    with torch.inference_mode():
        made = network(nn.Linear(6, 3))
    with pytest.raises(UserError, match=r"made in torch\.inference_mode"):
        explain.relevance(made, x)
    assert explain.relevance(copy.deepcopy(made), x).shape == x.shape


def test_targets_in_lists_and_arrays_go_with_their_samples():
    net = network(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x, target = torch.rand(2, 5, 6).double(), torch.tensor([0, 2, 1, 1, 0])
    wanted = explain.weight_relevance(net, x, target)
    for own in (target.tolist(), target.numpy(), target.to(torch.uint8)):
        torch.testing.assert_close(explain.weight_relevance(net, x, own, batch_size=2), wanted)


def test_shares_are_any_sequence_in_any_order():
    torch.manual_seed(0)
    net = network(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.rand(1, 40, 6).double()
    labels = explain.predicted(net, x)
    found = explain.relevance(net, x)
    curve = explain.deletion(net, x, labels, found, shares=np.array([0.0, 0.5, 0.9]))
    again = explain.deletion(net, x, labels, found, shares=torch.tensor([0.9, 0.0, 0.9, 0.5]).double())
    assert len(set(curve.accuracy)) > 1
    assert again.accuracy == tuple(curve.accuracy[place] for place in (2, 0, 2, 1))


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda net, x: explain.relevance(net, x.to_sparse()), UserError, "dense"),
        (lambda net, x: explain.relevance(net, x.numpy()), UserError, "ndarray"),
        (lambda net, x: explain.relevance(net, x * float("nan")), UserError, "NaN"),
        (lambda net, x: explain.relevance(net, x, 3), UserError, "no class 3: the network has 3 outputs"),
        (lambda net, x: explain.relevance(net, x, -1), UserError, "no class -1"),
        (lambda net, x: explain.relevance(net, x, 1.0), UserError, "whole number"),
        (lambda net, x: explain.relevance(net, x, torch.zeros(3).long()), ShapeError, "4 samples"),
        (lambda net, x: explain.relevance(torch.nn.Linear(6, 3).double(), x), UserError, "Linear"),
        (lambda net, x: explain.deletion(net, x, torch.zeros(4).long(), x[:, :2]), ShapeError, "relevance has shape"),
        (lambda net, x: explain.deletion(net, x, torch.zeros(3).long(), x), ShapeError, "3 labels"),
        (lambda net, x: explain.deletion(net, x, torch.zeros(4), x), ShapeError, "labels are classes"),
        (lambda net, x: explain.deletion(net, x, torch.zeros(4).long(), x, shares=(2,)), UserError, "shares"),
        (lambda net, x: explain.events(x[0], x[0]), ShapeError, "inputs"),
        (lambda net, x: explain.events(x, x, 4), UserError, "no sample 4"),
        (lambda net, x: explain.events(x, x, 1.5), UserError, "sample is a whole number"),
        (lambda net, x: explain.events(x, x * float("nan")), UserError, "relevance holds NaN"),
        (lambda net, x: explain.events(x.to_sparse(), x), UserError, "dense"),
        (lambda net, x: explain.relevance(lambda x: x, x), UserError, "a module of torch, got function"),
        (lambda net, x: explain.relevance(net, x, "a"), UserError, "target is a class"),
        (lambda net, x: explain.relevance(net, x, 0, mask=[[True]]), ShapeError, "got list"),
        (lambda net, x: explain.relevance(net, x[:0]), ShapeError, "with a step at least"),
        (lambda net, x: explain.weight_relevance(net, x[:, :0]), ShapeError, "a sample at least"),
        (lambda net, x: explain.weight_relevance(net, x, batch_size=-1), UserError, "batch_size"),
        (lambda net, x: explain.weight_relevance(net, x, torch.zeros(9).long(), batch_size=4), ShapeError, "4 samples"),
        (
            lambda net, x: explain.weight_relevance(net, x, mask=torch.ones(len(x), 9).bool(), batch_size=4),
            ShapeError,
            "a mask is boolean",
        ),
        (lambda net, x: explain.deletion(net, x, CLASSES, x, batch_size=0), UserError, "batch_size"),
        (lambda net, x: explain.deletion(net, x, CLASSES, x * float("nan")), UserError, "relevance holds NaN"),
        (lambda net, x: explain.deletion(net, x, CLASSES, x.numpy()), UserError, "got ndarray"),
        (lambda net, x: explain.deletion(net, x, CLASSES + 3, x), UserError, "no class 3"),
        (lambda net, x: explain.deletion(net, x, CLASSES - 1, x), UserError, "got the label -1"),
        (lambda net, x: explain.deletion(net, x[:, :0], CLASSES[:0], x[:, :0]), ShapeError, "0 labels"),
    ],
)
def test_what_cannot_be_explained_is_refused(call, kind, said):
    net = network(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(kind, match=said):
        call(net, torch.rand(1, 4, 6, dtype=torch.float64))


@pytest.mark.parametrize("eps", [1e-6, 0.25])
def test_relevance_of_weights_is_summed_over_the_contributions_of_samples(eps):
    torch.manual_seed(0)
    net = network(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    net[0].weight.requires_grad_(False)  # frozen weights have a relevance, too
    x, classes = torch.randn(1, 7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 1])
    wanted = [torch.zeros(5, 4), torch.zeros(3, 5)]
    stable = lambda z: z + eps * (1 if z >= 0 else -1)  # noqa: E731
    w, b, v, c = (p.detach() for p in net.parameters())
    for sample, target in zip(x[0], classes, strict=True):
        hidden = w @ sample + b
        a, o = hidden.relu(), (v @ hidden.relu() + c)[target]
        for j in range(5):
            own = a[j] * v[target, j] / stable(o) * o
            wanted[1][target, j] += own
            for i in range(4):
                wanted[0][j, i] += w[j, i] * sample[i] / stable(hidden[j]) * own
    found = explain.weight_relevance(net, x, classes, rule=rules.Epsilon(eps), batch_size=3)
    torch.testing.assert_close(found["0.weight"], wanted[0].double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["2.weight"], wanted[1].double(), rtol=1e-5, atol=1e-6)
    assert net[0].weight.grad is None
    assert not net[0].weight.requires_grad


def test_relevance_of_weights_under_gradients_is_weight_times_gradient():
    net = network(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    found = explain.weight_relevance(net, x, 2, rule=rules.Gradient())
    with rules.using(net, rules.Gradient()) if hasattr(rules, "using") else rules.lending(net, rules.Gradient()):
        grad = torch.autograd.grad(net(x)[..., 2].sum(), net[0].weight)[0]
    torch.testing.assert_close(found["0.weight"], net[0].weight.detach() * grad)
