"""What each rule promises about the sum of the rewards it hands on (v3, after eq. 3; v1, A.3)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DENOMINATORS, RESETS
from references.cases import build

from spikelfp import nn, propagate, rules
from spikelfp.functional.credit import backward_pass

SMALL = 1e-15
"""An ε too small to be seen."""


def handed_on(layer: nn.Linear, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``r_ij`` ``[J, I]``, ``r_j`` and ``z_j`` ``[J]`` of one sample: each neuron rewarded alone, in its own copy."""
    neurons = layer.out_features
    copies = x.expand(1, neurons, -1).clone().requires_grad_()
    z = layer(copies)
    reward = torch.randn(neurons).double()
    propagate(z, torch.diag(reward).unsqueeze(0), eps=SMALL)
    return (copies * copies.grad)[0].detach(), reward, z[0, 0].detach()


def layer_and_input(rule, seed, inputs=7):
    torch.manual_seed(seed)
    return build(rule, nn.Linear(inputs, 5, bias=False))[0], torch.randn(inputs).double()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), inputs=st.integers(1, 9))
@pytest.mark.parametrize(
    "rule", [rules.Zero(), rules.Epsilon(SMALL), rules.Gamma(eps=SMALL), rules.Gamma(eps=SMALL, gamma=3)]
)
def test_all_of_the_reward_is_handed_on(rule, seed, inputs):
    shares, reward, _ = handed_on(*layer_and_input(rule, seed, inputs))
    torch.testing.assert_close(shares.sum(1), reward, rtol=1e-8, atol=1e-8)  # 1e-8: z may be near 0


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 1.0), (1.5, 0.5), (1.0, 0.0)])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_alphabeta_conserves_up_to_the_sign_of_the_neuron_and_is_bounded(alpha, beta, seed):
    layer, x = layer_and_input(rules.AlphaBeta(eps=SMALL, alpha=alpha, beta=beta), seed, inputs=12)
    shares, reward, z = handed_on(layer, x)
    both = ((layer.weight * x > 0).any(1) & (layer.weight * x < 0).any(1)).nonzero().flatten()
    assert len(both) >= 3
    torch.testing.assert_close(shares.sum(1)[both], (z.sign() * reward)[both], rtol=1e-9, atol=1e-9)
    assert (shares.abs() <= max(alpha, beta) * reward.abs()[:, None] + 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), inputs=st.integers(1, 9))
def test_zplusminus_never_hands_on_more_than_it_got(seed, inputs):
    shares, reward, _ = handed_on(*layer_and_input(rules.ZPlusMinus(SMALL), seed, inputs))
    torch.testing.assert_close(shares.abs().sum(1), reward.abs(), rtol=1e-8, atol=1e-8)
    assert (shares.abs().sum(1) <= reward.abs() + 1e-12).all()
    assert (shares.sum(1).abs() <= reward.abs() + 1e-12).all()


def test_alpha1beta0_gives_nothing_to_contributions_against_the_positive_side():
    """v1, A.3: with β = 0 "obstructive connections would not receive any updates"."""
    layer, x = layer_and_input(rules.AlphaBeta(alpha=1.0, beta=0.0), 3)
    propagate(layer(x.expand(1, 1, -1)), torch.ones(1, 1, 5).double())
    against = layer.weight * x < 0
    assert not layer.weight.grad[against].any()
    assert (layer.weight.grad[~against] != 0).all()


def test_a_large_gamma_leaves_only_contributions_of_the_neurons_own_sign():
    shares, reward, z = handed_on(*layer_and_input(rules.Gamma(eps=SMALL, gamma=1e9), 5, inputs=12))
    layer, x = layer_and_input(rules.Gamma(eps=SMALL), 5, inputs=12)
    own = (layer.weight * x).sign() == z.sign()[:, None]
    assert shares[~own].abs().max() < 1e-6
    torch.testing.assert_close((shares * own).sum(1), reward, rtol=1e-6, atol=1e-6)


def test_gamma_0_is_epsilon():
    x, reward = torch.randn(2, 3, 6).double(), torch.randn(2, 3, 4).double()
    grads = []
    for rule in (rules.Gamma(eps=SMALL, gamma=0.0), rules.Epsilon(SMALL)):
        torch.manual_seed(1)
        net = build(rule, nn.Linear(6, 5), nn.LIF(0.9, 0.3), nn.Linear(5, 4))
        propagate(net(x), reward)
        grads.append([p.grad for p in net.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Linear(6, 9, False), nn.Tanh(), nn.Linear(9, 7, False), nn.ReLU(), nn.Linear(7, 4, False)], (6,)),
        ([nn.Conv2d(2, 3, 3, bias=False), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten()], (2, 6, 6)),
        ([nn.Conv2d(2, 3, 3, bias=False), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()], (2, 6, 6)),
        ([nn.Sum(nn.Sequential(nn.Linear(6, 6, False), nn.GELU()), nn.Identity()), nn.Linear(6, 3, False)], (6,)),
        ([nn.Concat(nn.Sequential(nn.Linear(6, 4, False), nn.SiLU()), nn.Identity()), nn.Linear(10, 3, False)], (6,)),
        ([nn.Linear(6, 5, False), nn.LI(0.8), nn.ELU(), nn.Linear(5, 3, False)], (6,)),
    ],
)  # fmt: skip
def test_the_reward_of_every_layer_adds_up_to_that_of_the_outputs(layers, shape):
    """``Σ_i r_i = Σ_c r_c`` for networks without biases under LFP-0."""
    net = build(rules.Zero(), *layers)
    x = torch.randn(3, 2, *shape).double().requires_grad_()
    signals = [x]
    for layer in net:
        signals.append(layer(signals[-1]))
        signals[-1].retain_grad()
    # Outputs that are silent have no contributions to hand a reward to.
    reward = torch.randn_like(signals[-1]) * (signals[-1] != 0)
    start = reward / signals[-1].detach().where(signals[-1] != 0, torch.ones(()).double())
    with backward_pass():
        torch.autograd.backward(signals[-1], start)
    for signal in signals:
        total = (signal.detach() * signal.grad).sum()
        torch.testing.assert_close(total, reward.sum(), rtol=1e-9, atol=1e-9)


def test_a_bias_takes_its_share():
    net = build(rules.Zero(), nn.Linear(5, 3))
    x = torch.randn(1, 1, 5).double().requires_grad_()
    reward = torch.randn(1, 1, 3).double()
    propagate(net(x), reward, eps=0.0)
    of_bias = (-net[0].bias.grad * net[0].bias.sign()).sum()  # r_bj = sign(b_j) d_b_j
    torch.testing.assert_close((x * x.grad).sum() + of_bias, reward.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.AlphaBeta(), rules.ZPlusMinus()])
def test_a_membrane_never_hands_on_more_than_it_got(reset, denominator, rule):
    """``|r_I[t]| + |r_int[t]| ≤ |R[t]|``, so all currents together get at most what the spikes got."""
    neurons = build(rule, nn.LIF(0.9, 0.5, reset, denominator))
    current = torch.randn(12, 4, 50).double().requires_grad_()
    start = torch.randn(4, 50).double().requires_grad_()
    spikes, _ = neurons.run(current, (start,))
    assert 0 < spikes.mean() < 1
    reward = torch.randn_like(spikes)
    propagate(spikes, reward)
    handed = (current * current.grad).abs().sum(0) + (start * start.grad).abs()
    assert (handed <= reward.abs().sum(0) * (1 + 1e-12)).all()
    # A single reward at the last step: what it hands down the membrane shrinks from step to step.
    reward = torch.zeros_like(spikes)
    reward[-1] = 1.0
    current.grad, start.grad = None, None
    propagate(neurons.run(current, (start,))[0], reward)
    handed = (current * current.grad).abs().detach()
    assert (handed.sum(0) <= 1.0).all()
