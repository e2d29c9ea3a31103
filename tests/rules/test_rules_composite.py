"""Composites: which layer gets which rule."""

import contextlib

import pytest
import torch
from references.cases import build
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass

A, B, C = rules.ZPlusMinus(), rules.AlphaBeta(), rules.Gamma()


def network():
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LIF(0.9, 0.3))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(8, 5), nn.LIF(0.9, 0.3), nn.Linear(5, 3), nn.LIF(0.9, 0.3))


def chosen(parts, default=None):
    """The rule of every layer that has one, by name."""
    net = network()
    rules.attach(net, rules.Composite(parts, default))
    layers = dict(net.named_modules())
    return {name: layers[name].rule for name in EPSILON}


EPSILON = dict.fromkeys(("0.0", "0.1", "0.2", "2", "3", "4", "5"), rules.Epsilon())


@pytest.mark.parametrize(
    ("parts", "changed"),
    [
        ([], {}),
        ([(torch.nn.Conv2d, A)], {"0.0": A, "0.1": A, "0.2": A}),  # what a layer drives follows it
        ([(nn.Linear, A)], {"2": A, "3": A, "4": A, "5": A}),
        ([((nn.LIF, nn.Conv2d), A)], {"0.0": A, "0.1": A, "0.2": A, "3": A, "5": A}),
        ([(nn.Linear, A), (nn.LIF, B)], {"0.2": B, "2": A, "3": B, "4": A, "5": B}),  # a selector of neurons is theirs
        ([("0.*", A)], {"0.0": A, "0.1": A, "0.2": A}),
        ([("[24]", A)], {"2": A, "3": A, "4": A, "5": A}),
        ([(0, A)], {"0.0": A, "0.1": A, "0.2": A}),
        ([(1, A)], {"0.1": A, "0.2": A}),  # BatchNorm has weights too
        ([(-1, A), (-2, B)], {"4": A, "5": A, "2": B, "3": B}),
        ([(torch.nn.Conv3d, A)], {}),  # types may be absent
        ([(-1, A), (nn.Linear, B), ("*", C)], {**dict.fromkeys(EPSILON, C), "2": B, "4": A}),  # the first one wins
        ([("*", C), (-1, A)], dict.fromkeys(EPSILON, C)),
    ],
)
def test_selectors(parts, changed):
    assert chosen(parts) == EPSILON | changed


def test_the_default_can_be_another_rule():
    assert chosen([(-1, A)], B) == {**dict.fromkeys(EPSILON, B), "4": A, "5": A}


@pytest.mark.parametrize("selector", ["classifier.*", 4, -5])
def test_a_selector_that_fits_no_layer_is_named_with_those_there_are(selector):
    with pytest.raises(UserError, match=r"0\.0, 0\.1, 2, 4"):
        chosen([(selector, A)])


def test_nothing_is_changed_when_a_selector_fits_nothing():
    net = network()
    with pytest.raises(UserError):
        rules.attach(net, rules.Composite([(nn.Linear, A), ("nowhere", B)]))
    assert net[2].rule == rules.Epsilon()


def test_using_gives_every_layer_its_own_rule_back():
    net = network()
    rules.attach(net, rules.Composite([(0, A), (-1, B)]))
    with contextlib.suppress(ZeroDivisionError), rules.using(net, rules.Composite([(nn.Linear, C)])):
        assert net[0][0].rule == rules.Epsilon()
        assert net[4].rule == C
        raise ZeroDivisionError
    assert (net[0][0].rule, net[2].rule, net[4].rule) == (A, rules.Epsilon(), B)


def test_the_rule_of_the_forward_pass_decides_the_backward_pass():
    net = build(rules.Epsilon(), nn.Linear(4, 3), nn.Tanh())
    x = torch.randn(2, 2, 4).double()
    with rules.using(net, A):
        out = net(x)
    with backward_pass():
        out.backward(torch.ones_like(out))
    inside = net[0].weight.grad.clone()
    net.zero_grad()
    rules.attach(net, A)
    out = net(x)
    with backward_pass():
        out.backward(torch.ones_like(out))
    assert torch.equal(net[0].weight.grad, inside)


@pytest.mark.parametrize(
    "composite",
    [
        rules.epsilon_zplusminus(),
        rules.epsilon_alphabeta(),
        rules.Composite([(0, A), (nn.BatchNorm2d, B), ("2", C), (-1, B), (nn.LIF, rules.Epsilon(1e-3))]),
    ],
)
def test_updates_of_mixed_networks(composite):
    net = build(composite, *network())
    assert_equals_slow(net, torch.randn(4, 2, 1, 4, 4).double() * 2, linear=False, tolerance=1e-9)


def test_papers_composites_treat_convolutions_apart():
    """v1, A.6.2."""
    for composite, rule in ((rules.epsilon_zplusminus(), A), (rules.epsilon_alphabeta(), B)):
        net = network()
        rules.attach(net, composite)
        assert net[0][0].rule == rule
        assert net[2].rule == net[4].rule == rules.Epsilon()


def test_a_layer_used_twice_has_one_rule():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert len(rules.Composite([(0, A)]).assign(net)) == 2
    rules.attach(net, rules.Composite([(0, A)]))
    assert shared.rule == A


@pytest.mark.parametrize("selector", [nn.Linear, "0", 0, -1])
@pytest.mark.parametrize("end", [nn.ReLU, nn.Heaviside, nn.LIF, nn.RecurrentLIF, None])
def test_the_epsilon_of_a_layer_is_that_of_the_neurons_it_drives_and_of_the_output(selector, end):
    """By type, name or position; a network of one layer, under a composite and under the plain rule."""
    rule, x, reward = rules.Epsilon(0.7), torch.randn(5, 3, 4).double() * 2, torch.randn(5, 3, 2).double()
    updates = []
    for given in (rule, rules.Composite([(selector, rule)]), rules.Epsilon()):
        torch.manual_seed(0)
        ends = [] if end is None else [nn.RecurrentLIF(2) if end is nn.RecurrentLIF else end()]
        if isinstance(given, rules.Composite) and end is nn.RecurrentLIF:
            given = rules.Composite([*given.parts, ("1.recurrent", rule), (nn.RecurrentLIF, rule)])
        net = build(given, nn.Linear(4, 2), *ends)
        propagate(net(x), reward)
        updates.append(net[0].weight.grad)
    assert torch.equal(updates[0], updates[1])
    assert not torch.allclose(updates[0], updates[2], rtol=1e-3)
