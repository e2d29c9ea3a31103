"""Rewards of real targets: the steps of the losses, element by element and by autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import models, propagate, rewards, rules
from spikelfp.errors import ShapeError, UserError

REWARDS = {
    "squared": (rewards.SquaredError(), lambda e: e, lambda e: (e**2).sum() / 2),
    "absolute": (rewards.AbsoluteError(), lambda e: (e > 0) - (e < 0), lambda e: e.abs().sum()),
    "huber": (
        rewards.Huber(0.5),
        lambda e: max(-0.5, min(0.5, e)),
        lambda e: torch.nn.functional.huber_loss(e, torch.zeros_like(e), reduction="sum", delta=0.5),
    ),
}


@pytest.mark.parametrize("name", REWARDS)
@given(st.lists(st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32)), min_size=2, max_size=8))
@settings(deadline=None, max_examples=50)
def test_rewards_equal_their_formulas(name, pairs):
    reward, step, _ = REWARDS[name]
    outputs = torch.tensor([[[o] for o, _ in pairs]], dtype=torch.float64)
    targets = torch.tensor([[y] for _, y in pairs], dtype=torch.float64)
    expected = torch.tensor([[[o * step(y - o)] for o, y in pairs]], dtype=torch.float64)
    torch.testing.assert_close(reward(outputs, targets), expected)


@pytest.mark.parametrize("name", REWARDS)
def test_the_update_is_the_weighted_gradient_of_the_loss(name):
    """Theorem 1 on a ReLU network: ``p.grad = |w| dL/dw``."""
    reward, _, loss = REWARDS[name]
    net, x, targets = models.mlp([5, 16, 3]).double(), torch.randn(2, 7, 5).double(), torch.randn(7, 3).double()
    with rules.using(net, rules.Epsilon(eps=1e-12)):
        outputs = net(x)
    propagate(outputs, reward(outputs, targets), eps=1e-12)

    plain = [p.detach().clone().requires_grad_() for p in net.parameters()]
    hidden = torch.relu(x @ plain[0].T + plain[1])
    loss(targets - (hidden @ plain[2].T + plain[3])).backward()
    for p, q in zip(net.parameters(), plain, strict=True):
        torch.testing.assert_close(p.grad, q.detach().abs() * q.grad, rtol=1e-4, atol=1e-6)


def test_targets_hold_at_every_step_or_have_their_own():
    outputs, targets = torch.randn(5, 6, 2), torch.randn(6, 2)
    every = rewards.SquaredError()(outputs, targets)
    torch.testing.assert_close(every, torch.stack([o * (targets - o) for o in outputs]))
    torch.testing.assert_close(rewards.SquaredError()(outputs, targets.expand(5, 6, 2)), every)


def test_spike_rates():
    spikes, rates = (torch.rand(8, 5, 3) < 0.5).float(), torch.rand(5, 3)
    reward = rewards.SpikeRate()(spikes, rates)
    for b in range(5):
        for c in range(3):
            fired = sum(float(spikes[t, b, c]) for t in range(8)) / 8
            torch.testing.assert_close(reward[:, b, c], torch.full((8,), float(rates[b, c]) - fired))


@pytest.mark.parametrize("reward", [rewards.SquaredError(), rewards.Huber(), rewards.SpikeRate()])
def test_bad_targets_are_named(reward):
    outputs = torch.zeros(5, 4, 3)
    with pytest.raises(ShapeError, match=r"real targets .* got torch.int64"):
        reward(outputs, torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ShapeError, match="got list"):
        reward(outputs, [0.0])
    with pytest.raises(ShapeError, match=r"targets \[B, C\].*\(4,\)"):
        reward(outputs, torch.zeros(4))
    bad = torch.zeros(4, 3)
    bad[2, 1] = math.nan
    with pytest.raises(ShapeError, match=r"target nan at position \(2, 1\)"):
        reward(outputs, bad)


def test_bad_rates_and_deltas_are_named():
    with pytest.raises(ShapeError, match=r"\[0, 1\], got values from 0.0 to 1.5"):
        rewards.SpikeRate()(torch.zeros(5, 1, 2), torch.tensor([[0.0, 1.5]]))
    with pytest.raises(ShapeError, match=r"spikes \[T, B, C\]"):
        rewards.SpikeRate()(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(UserError, match="above 0, got 0"):
        rewards.Huber(0)
