"""Zeros, signs and options of the rules."""

import pytest
import torch
from references.cases import RULES, build

from spikelfp import nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.functional.credit import stabilise, to_message


def cancelling():
    """Two inputs whose contributions cancel: ``z = 0`` with ``z_ij ≠ 0``."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[2.0, -2.0]])
    return layer


def test_the_sign_of_zero_is_one():
    """v3, section 3.1.2; of the negative zero too."""
    z = torch.tensor([0.0, -0.0, 1.0, -1.0], dtype=torch.float64)
    assert stabilise(z, 0.5).tolist() == [0.5, 0.5, 1.5, -1.5]
    assert to_message(torch.ones(4).double(), z, 0.5).tolist() == [2.0, 2.0, 1 / 1.5, -1 / 1.5]
    assert to_message(torch.ones(4).double(), z, 0.0).tolist() == [0.0, 0.0, 1.0, -1.0]


def test_a_neuron_at_zero_is_divided_by_epsilon():
    net = build(rules.Epsilon(eps=0.5), cancelling(), nn.Heaviside())
    propagate(net(torch.ones(1, 1, 2).double()), torch.full((1, 1, 1), 3.0).double())
    assert net[0].weight.grad.tolist() == [[-12.0, -12.0]]  # d = |w| a r / ε


@pytest.mark.parametrize("end", [nn.Heaviside, nn.ReLU, nn.Tanh, nn.Identity])
def test_lfp_0_passes_nothing_through_a_neuron_at_zero(end):
    net = build(rules.Zero(), cancelling(), end())
    propagate(net(torch.ones(1, 1, 2).double()), torch.ones(1, 1, 1).double(), eps=0.0)
    assert net[0].weight.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_in_nothing_out(rule):
    """Without input there is no contribution: no update but of the bias, and nothing is divided by zero."""
    net = build(RULES[rule], nn.Linear(3, 4), nn.LIF(0.9, 0.3), nn.Linear(4, 2), nn.LIF(0.9, 0.3))
    spikes = net(torch.zeros(5, 2, 3).double())
    propagate(spikes, torch.randn_like(spikes))
    assert not net[0].weight.grad.any()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
    bare = build(RULES[rule], nn.Linear(3, 4, bias=False), nn.LIF(0.9, 0.3))
    spikes = bare(torch.zeros(5, 2, 3).double())
    propagate(spikes, torch.randn_like(spikes))
    assert bare[0].weight.grad.tolist() == torch.zeros(4, 3).tolist()


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_of_zero_stays(rule):
    net = build(RULES[rule], nn.Linear(3, 4), nn.Tanh())
    net[0].weight.data[1] = 0.0
    net[0].bias.data[2] = 0.0
    out = net(torch.randn(2, 2, 3).double())
    propagate(out, torch.randn_like(out))
    assert not net[0].weight.grad[1].any()
    assert not net[0].bias.grad[2].any()
    assert net[0].weight.grad[[0, 2, 3]].all()


@pytest.mark.parametrize("rule", RULES)
def test_forward_passes_are_the_same_under_every_rule(rule):
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.LIF(0.9, 0.3)]
    x = torch.randn(4, 2, 2, 4, 4).double()
    plain = build(rules.Gradient(), *layers)(x)
    assert torch.equal(build(RULES[rule], *layers)(x), plain)


@pytest.mark.parametrize("rule", RULES)
def test_frozen_parameters_get_no_update_and_hinder_none(rule):
    net = build(RULES[rule], nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, reward = torch.randn(2, 2, 3).double(), torch.randn(2, 2, 2).double()
    propagate(net(x), reward)
    expected = net[0].weight.grad.clone()
    net.zero_grad()
    net[2].requires_grad_(False)
    net[0].bias.requires_grad_(False)
    propagate(net(x), reward)
    assert torch.equal(net[0].weight.grad, expected)
    assert net[2].weight.grad is None
    assert net[0].bias.grad is None


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: rules.Zero(eps=1e-3), "eps=0.001"),
        (lambda: rules.Epsilon(eps=-1e-3), "-0.001"),
        (lambda: rules.Epsilon(eps=float("nan")), "nan"),
        (lambda: rules.AlphaBeta(alpha=2.0, beta=2.0), "alpha=2.0, beta=2.0"),
        (lambda: rules.AlphaBeta(alpha=0.5, beta=-0.5), "beta=-0.5"),
        (lambda: rules.AlphaBeta(eps=0.0), "eps"),
        (lambda: rules.ZPlusMinus(eps=0.0), "eps"),
        (lambda: rules.Gamma(gamma=-1.0), "-1.0"),
        (lambda: rules.Gamma(gamma=float("inf")), "inf"),
        (lambda: rules.rules["alpha-beta"], "did you mean 'alphabeta'"),
    ],
)
def test_options_out_of_range_are_named(make, named):
    with pytest.raises(UserError, match=named):
        make()


def test_rules_by_name_take_their_options():
    shared = {"eps": 1e-4, "normalize": True}
    assert rules.make_rule("zero", normalize=True) == rules.Zero(normalize=True)
    assert rules.make_rule("epsilon", **shared) == rules.Epsilon(1e-4, True)
    alphabeta = rules.AlphaBeta(eps=1e-4, normalize=True, alpha=1.5, beta=0.5)
    assert rules.make_rule("alphabeta", **shared, alpha=1.5) == alphabeta
    assert rules.make_rule("zplusminus", **shared) == rules.ZPlusMinus(1e-4, True)
    assert rules.make_rule("gamma", **shared, gamma=2.0) == rules.Gamma(eps=1e-4, normalize=True, gamma=2.0)
    mixed = rules.make_rule("epsilon-alphabeta", **shared, alpha=1.5)
    assert mixed.default == rules.Epsilon(1e-4, True)
    assert mixed.parts[0][1] == alphabeta
    assert rules.make_rule("epsilon-zplusminus", **shared).parts[0][1] == rules.ZPlusMinus(1e-4, True)
    frozen = {rules.make_rule(name, constant_statistics=False) for name in ("zero", "epsilon", "zplusminus", "gamma")}
    assert not any(rule.constant_statistics for rule in frozen)
