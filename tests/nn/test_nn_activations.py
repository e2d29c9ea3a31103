"""Activation functions: the reward passes (v3, eq. 6), with the sign turned around where footnote 12 says so."""

import warnings

import pytest
import torch
from references.cases import RULES, build
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import SignWarning
from spikelfp.functional.credit import backward_pass

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky-relu": nn.LeakyReLU(0.3),
    "silu": nn.SiLU(),
    "gelu": nn.GELU(),
    "elu": nn.ELU(0.7),
    "tanh": nn.Tanh(),
    "heaviside": nn.Heaviside(),
    "sigmoid": nn.Sigmoid(),
    "sigmoid-turned": nn.Sigmoid(opposite_sign=True),
}
TORCHS = {
    "relu": torch.nn.ReLU(),
    "leaky-relu": torch.nn.LeakyReLU(0.3),
    "silu": torch.nn.SiLU(),
    "gelu": torch.nn.GELU(),
    "elu": torch.nn.ELU(0.7),
    "tanh": torch.nn.Tanh(),
    "sigmoid": torch.nn.Sigmoid(),
}


@pytest.mark.filterwarnings("ignore::spikelfp.errors.SignWarning")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rule", RULES)
def test_in_the_middle_and_at_the_end(rule, activation):
    phi = ACTIVATIONS[activation]
    net = build(RULES[rule], nn.Linear(4, 6), phi, nn.Linear(6, 5), phi)
    assert_equals_slow(net, torch.randn(3, 2, 4).double() * 2, linear=False)


@pytest.mark.filterwarnings("ignore::spikelfp.errors.SignWarning")
@pytest.mark.parametrize("name", TORCHS)
def test_forward_and_plain_gradient_are_torchs(name):
    ours = ACTIVATIONS[name]
    a, b = (torch.linspace(-4, 4, 51).double().requires_grad_() for _ in range(2))
    with rules.using(ours, rules.Gradient()):
        out = ours(a)
    with backward_pass():
        out.sum().backward()
    expected = TORCHS[name](b)
    expected.sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(a.grad, b.grad)
    assert torch.equal(ours(a), out)  # and under LFP


def test_sigmoid_with_a_turned_sign():
    """v3, footnote 12: at ``z < 0`` the opposite of the output's reward is taken as that of the pre-activation."""
    z = torch.tensor([[[-2.0, -0.5, 0.5, 2.0]]]).double().requires_grad_()
    reward = torch.tensor([[[1.0, -2.0, 3.0, 4.0]]]).double()
    propagate(nn.Sigmoid(opposite_sign=True)(z), reward, eps=1e-12)
    torch.testing.assert_close((z * z.grad).detach(), reward * torch.tensor([-1.0, -1, 1, 1]), rtol=1e-5, atol=1e-5)
    # The message is then r / |z|: a reward raises the output, whatever the sign of z.
    torch.testing.assert_close(z.grad, reward / z.detach().abs(), rtol=1e-5, atol=1e-5)


def test_activations_keep_the_sign_they_claim_to():
    """v3, section 3.4."""
    z = torch.linspace(-6, 6, 121).double()
    for activation in ACTIVATIONS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SignWarning)
            kept = bool((z * activation(z.view(1, 1, -1)).flatten() >= 0).all())
        assert kept == activation.keeps_sign


def test_sigmoid_warns_once_and_only_where_it_matters():
    x = torch.randn(1, 2, 3)
    layer = nn.Sigmoid()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            layer(x)
        with rules.using(layer, rules.Gradient()):
            layer(x)
        nn.Sigmoid(opposite_sign=True)(x)
    with pytest.warns(SignWarning, match="section 3.4"):
        layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)


def test_heaviside_fires_strictly_above_zero():
    assert nn.Heaviside()(torch.tensor([[[-1.0, -0.0, 0.0, 1e-30]]])).tolist() == [[[0.0, 0.0, 0.0, 1.0]]]


def test_hidden_silent_neurons_earn_nothing_and_silent_outputs_do():
    z = torch.tensor([[[-1.0, 2.0]]]).double().requires_grad_()
    spikes = nn.Heaviside()(z)
    with backward_pass():
        (spikes * torch.tensor([3.0, 3.0])).sum().backward()
    assert z.grad.tolist()[0][0][0] == 0
    z.grad = None
    propagate(nn.Heaviside()(z), torch.ones(1, 1, 2).double(), eps=1e-6)
    torch.testing.assert_close((z * z.grad).detach(), torch.ones(1, 1, 2).double(), rtol=1e-5, atol=1e-5)
