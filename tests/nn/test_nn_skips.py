"""Skip connections (v3, eq. 11) and pooling."""

import pytest
import torch
from references.cases import RULES, build
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import ShapeError, UserError


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("end", [nn.Tanh, nn.LIF, None])
def test_sum(rule, end):
    block = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    ending = [] if end is None else [end()]
    net = build(RULES[rule], nn.Linear(4, 5), nn.Tanh(), nn.Sum(block, nn.Identity(), nn.Linear(5, 5)), *ending)
    if end is None and RULES[rule].normalize:
        with pytest.raises(UserError, match="ends in a sum of branches"):
            propagate(net(torch.randn(3, 2, 4).double()), torch.zeros(3, 2, 5).double())
        return
    assert_equals_slow(net, torch.randn(3, 2, 4).double() * 2, linear=end is None)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("end", [nn.Tanh, nn.LIF, None])
def test_concatenation(rule, end):
    ending = [] if end is None else [end()]
    wide = nn.Concat(nn.Linear(5, 2), nn.Identity(), nn.Sequential(nn.Linear(5, 3), nn.ReLU()))
    net = build(RULES[rule], nn.Linear(4, 5), nn.Tanh(), wide, nn.Linear(10, 3), *ending)
    assert_equals_slow(net, torch.randn(3, 2, 4).double() * 2, linear=end is None)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
@pytest.mark.parametrize("rule", RULES)
def test_pooling_of_spikes_and_of_currents(rule, pool):
    net = build(
        RULES[rule], nn.Conv2d(1, 2, 3), nn.LIF(0.9, 0.2), pool, nn.Conv2d(2, 3, 2), nn.MaxPool2d(1), nn.LIF(0.9, 0.2)
    )
    out = assert_equals_slow(net, torch.randn(4, 2, 1, 6, 6).double() * 2, linear=False)
    assert 0 < out.mean() < 1


def test_the_shares_of_a_sum_add_up():
    """Eq. 11 with ε → 0: ``r_i + r_k = r_j``; with the output's ε it is what eq. 11 says."""
    a, b = torch.randn(2, 1, 2, 6).double()
    a.requires_grad_(), b.requires_grad_()
    reward, eps = torch.randn(1, 2, 6).double(), 0.01
    propagate(a + b, reward, eps=eps)
    total = (a + b).detach()
    denominator = total + torch.where(total >= 0, eps, -eps)
    torch.testing.assert_close(a * a.grad, a.detach() / denominator * reward)
    torch.testing.assert_close(b * b.grad, b.detach() / denominator * reward)


def test_branches_keep_a_constant_sequence_constant():
    images = torch.randn(2, 5)
    net = nn.Sum(nn.Linear(5, 5), nn.Identity())
    out = net(nn.constant(images, 7))
    assert out.stride(0) == 0
    torch.testing.assert_close(out[3], net(images.unsqueeze(0))[0])
    assert nn.Concat(nn.Linear(5, 5), nn.Identity())(nn.constant(images, 7)).shape == (7, 2, 10)


def test_constant_and_varying_branches_mix():
    net = build(
        rules.Epsilon(), nn.Sum(nn.Sequential(nn.Linear(5, 5), nn.LIF(0.9, 0.3)), nn.Identity()), nn.Linear(5, 2)
    )
    images, updates = torch.randn(2, 5).double(), []
    reward = torch.randn(6, 2, 2).double()
    for x in (nn.constant(images, 6), nn.constant(images, 6).clone()):
        net.zero_grad()
        propagate(net(x), reward)
        updates.append([p.grad.clone() for p in net.parameters()])
    for a, b in zip(*updates, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="at least one branch"):
        nn.Sum()
    with pytest.raises(UserError, match="time or batch"):
        nn.Concat(nn.Identity(), dim=1)
    features = nn.Concat(nn.Identity(), nn.Identity(), dim=-1)
    assert features(torch.zeros(2, 3, 5)).shape == (2, 3, 10)
    with pytest.raises(UserError, match="dim -3 is time or batch"):
        nn.Concat(nn.Identity(), nn.Identity(), dim=-3)(torch.zeros(2, 3, 5))
    with pytest.raises(ShapeError, match=r"\(2, 3, 5\) and \(2, 3, 4\)"):
        nn.Sum(nn.Identity(), nn.Linear(5, 4))(torch.zeros(2, 3, 5))


@pytest.mark.parametrize("make", [nn.Sum, nn.Concat])
@pytest.mark.parametrize("state", [0, (), {}, (None,), (None, None, None), "ab"])
def test_states_are_one_for_each_branch(make, state):
    skip = make(nn.Sequential(nn.Linear(3, 3), nn.LIF()), nn.Identity())
    with pytest.raises(ShapeError, match=r"one for each of its 2 branches, or None for rest, got "):
        skip.run(torch.rand(4, 2, 3), state)
