"""Layers of a user's own: right under every rule, or refused."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from spikelfp import nn, propagate, rules
from spikelfp.errors import SignWarning, UserError

RULES = [rules.Epsilon(0.01), rules.Zero(), rules.AlphaBeta(), rules.ZPlusMinus(), rules.Gamma()]


class Masked(nn.Layer):
    """A dense layer without some of its connections, and half of a bias."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs))
        self.bias = torch.nn.Parameter(torch.randn(outputs))
        self.register_buffer("mask", (torch.rand(outputs, inputs) < 0.5).float())
        self.rule = None

    def forward(self, x):
        return self.rule.linear(lambda x, w, b: F.linear(x, w * self.mask, b / 2), x, self.weight, self.bias)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("last", [nn.LIF, nn.Identity])
def test_masked_weights_learn_as_the_dense_layer_of_the_connections_that_exist(rule, last):
    masked = nn.Sequential(nn.Linear(6, 8), nn.LIF(0.9, 0.3), Masked(8, 5), last()).double()
    dense = nn.Sequential(nn.Linear(6, 8), nn.LIF(0.9, 0.3), nn.Linear(8, 5), last()).double()
    with torch.no_grad():
        for p, q in zip(dense[0].parameters(), masked[0].parameters(), strict=True):
            p.copy_(q)
        dense[2].weight.copy_(masked[2].weight * masked[2].mask)
        dense[2].bias.copy_(masked[2].bias / 2)
    x = torch.randn(7, 3, 6, dtype=torch.float64)
    for net in (masked, dense):
        rules.attach(net, rule)
        out = net(x)
        propagate(out, torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out))
    assert dense[2].weight.grad.abs().sum() > 0
    torch.testing.assert_close(masked[0].weight.grad, dense[0].weight.grad)
    torch.testing.assert_close(masked[2].weight.grad, dense[2].weight.grad * masked[2].mask)
    torch.testing.assert_close(masked[2].bias.grad, dense[2].bias.grad)  # |b| m / 2 = |b / 2| m


class Forgetful(nn.Layer):
    def __init__(self):
        super().__init__()
        self.lif = nn.LIF()

    def forward(self, x):
        return self.lif(x)


@pytest.mark.parametrize(
    "net",
    [
        Forgetful(),
        nn.Sequential(nn.Linear(4, 4), Forgetful()),
        nn.Sequential(torch.nn.Sequential(nn.Linear(4, 4), nn.RecurrentLIF(4))),
    ],
)
def test_a_module_that_would_lose_the_state_of_its_neurons_is_refused(net):
    assert net(torch.rand(3, 2, 4)).shape == (3, 2, 4)
    with pytest.raises(UserError, match=r"has a (Recurrent)?LIF inside, whose state run\(x, state\) would lose"):
        net.run(torch.rand(1, 2, 4))


def test_modules_without_memory_run_as_they_are():
    net = nn.Sequential(torch.nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 4)), nn.LIF())
    out, state = net.run(torch.rand(3, 2, 4))
    assert out.shape == (3, 2, 4)
    assert state[0] is None


class Slope(nn.Activation):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.1))

    def phi(self, z):
        return torch.where(z > 0, z, self.slope * z)


def test_a_parameter_inside_of_an_activation_is_refused():
    net, x = nn.Sequential(nn.Linear(4, 4), Slope()), torch.randn(3, 2, 4)
    with pytest.raises(UserError, match=r"Slope has a parameter, slope, inside of its activation function"):
        net(x)
    rules.attach(net, rules.Gradient())
    net(x).sum().backward()
    assert net[1].slope.grad != 0
    rules.attach(net, rules.Epsilon())
    net.requires_grad_(True)[1].slope.requires_grad_(False)
    propagate(net(x), torch.ones(3, 2, 4))


class Shifted(nn.Activation):
    def phi(self, z):
        return z - 0.5


def test_an_activation_that_does_not_keep_the_sign_warns_once():
    net, x = nn.Sequential(nn.Linear(4, 40), Shifted()), torch.randn(3, 2, 4)
    with pytest.warns(SignWarning, match="Shifted"):
        net(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x)
