"""Rewards of the layers against sums written out, and shattering against loops and noise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from spikelfp import analysis, models, nn, rewards, rules
from spikelfp.errors import ShapeError, UnknownNameError, UserError


def mlp(*widths, bias=True):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def test_rewards_are_those_of_each_contribution():
    """LFP-ε written out: ``r_i = Σ_j z_ij / (z_j + sign(z_j) ε) r_j`` at the outputs of each layer."""
    net, eps = mlp(4, 5, 3), 0.1
    x, labels = torch.randn(1, 6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    reward = rewards.Softmax()
    found = analysis.layer_rewards(net, x, labels, reward, rule=rules.Epsilon(eps))
    assert list(found) == ["<input>", "0", "1", "2"]
    w, b, v, c = (p.detach() for p in net.parameters())
    hidden = x[0] @ w.T + b
    a = hidden.relu()
    o = a @ v.T + c
    r = reward(o.unsqueeze(0), labels)[0]

    def stable(z):
        return z + eps * torch.where(z >= 0, 1.0, -1.0)

    for n in range(6):
        own = [sum(float(a[n, i] * v[k, i] / stable(o[n, k]) * r[n, k]) for k in range(3)) for i in range(5)]
        torch.testing.assert_close(found["1"].reward[0, n], torch.tensor(own, dtype=torch.float64))
        first = [sum(float(x[0, n, h] * w[i, h] / stable(hidden[n, i])) * own[i] for i in range(5)) for h in range(4)]
        torch.testing.assert_close(found["<input>"].reward[0, n], torch.tensor(first, dtype=torch.float64))
    torch.testing.assert_close(found["2"].reward[0], r * o / stable(o))
    torch.testing.assert_close(found["1"].message * a, found["1"].reward)
    assert all(p.grad is None for p in net.parameters())


def test_totals_are_conserved_without_biases():
    net = mlp(4, 6, 5, 3, bias=False)
    x, labels = torch.randn(1, 8, 4, dtype=torch.float64), torch.arange(8) % 3
    found = analysis.layer_rewards(net, x, labels, rewards.Softmax(), rule=rules.Epsilon(1e-12))
    totals = [each.total for each in found.values()]
    assert totals == pytest.approx([totals[0]] * len(totals), rel=1e-6)
    assert all(each.magnitude > 0 for each in found.values())


def test_output_neurons_get_the_reward_itself():
    torch.manual_seed(0)
    net = models.models["lif-mlp"]((6,), 3, hidden=(5,))
    x, labels = torch.rand(8, 4, 6), torch.tensor([0, 1, 2, 0])
    reward = rewards.SpikeSequence()
    found = analysis.layer_rewards(net, x, labels, reward)
    last = list(found)[-1]
    torch.testing.assert_close(found[last].reward, reward(net(x).detach(), labels))
    assert found[last].message is None
    spikes = analysis.record(net, x)
    hidden = next(iter(spikes))
    assert found[hidden].reward.any()
    paper = [layer for layer in net if isinstance(layer, nn.LIF)]
    for layer in paper:
        layer.margin = 1
    found = analysis.layer_rewards(net, x, labels, reward)
    assert not found[hidden].reward[spikes[hidden] == 0].any()  # the paper's rule: no spike, no reward


def test_gradients_are_those_of_autograd():
    net = mlp(4, 5, 3)
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    found = analysis.layer_rewards(net, x, None, lambda o, _: torch.ones_like(o), rule=rules.Gradient())
    leaf = x.clone().requires_grad_()
    with rules.lending(net, rules.Gradient()):
        grad = torch.autograd.grad(net(leaf).sum(), leaf)[0]
    torch.testing.assert_close(found["<input>"].message, grad)
    torch.testing.assert_close(found["<input>"].reward, grad * x)


def test_autocorrelation_is_a_loop_over_the_lags():
    values = analysis.noise("brownian", 23, seed=3)
    mean = float(values.mean())
    v = [float(each) - mean for each in values]
    wanted = [sum(v[i] * v[i + k] for i in range(23 - k)) / sum(each**2 for each in v) for k in range(7)]
    assert analysis.autocorrelation(values, 6).tolist() == pytest.approx(wanted)


def test_noises_differ_as_they_should():
    white, brownian = (analysis.autocorrelation(analysis.noise(kind, 2000, 1), 5) for kind in ("white", "brownian"))
    assert white[0] == brownian[0] == 1
    assert white[1:].abs().max() < 0.1
    assert brownian[1:].min() > 0.9


def test_gradients_of_a_deep_network_shatter():
    """Balduzzi et al. 2017: the deeper the network, the less is a gradient like its neighbours."""

    def next_to(depth):
        found = []
        for seed in range(3):
            net = mlp(1, *[30] * depth, 2)
            torch.manual_seed(seed)
            for layer in net:
                if isinstance(layer, nn.Linear):
                    torch.nn.init.kaiming_normal_(layer.weight)
                    torch.nn.init.normal_(layer.bias, std=0.1)
            found.append(float(analysis.shattering(net, points=101, lags=1, rule=rules.Gradient()).autocorrelation[1]))
        return sum(found) / 3

    assert next_to(20) < next_to(1) - 0.2


def test_the_signal_of_gradients_is_the_derivative_along_the_grid():
    net = mlp(1, 7, 2)
    found = analysis.shattering(net, points=11, target=1, lags=4, rule=rules.Gradient())
    step = 1e-6
    ends = [net((found.grid + side).view(1, -1, 1))[0, :, 1].detach() for side in (step, -step)]
    torch.testing.assert_close(found.signal, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)
    assert found.autocorrelation.shape == (5,)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (
            lambda: analysis.layer_rewards(mlp(4, 3), torch.ones(1, 2, 4).long(), None, rewards.Softmax()),
            UserError, "floating-point",
        ),
        (
            lambda: analysis.layer_rewards(mlp(4, 3), torch.ones(1, 2, 4).double(), None, lambda o, _: o[0]),
            ShapeError, "rewards have shape",
        ),
        (lambda: analysis.shattering(mlp(1, 3), target=3), UserError, "no output 3"),
        (lambda: analysis.shattering(mlp(1, 3), points=10.0), UserError, "points is a whole number"),
        (lambda: analysis.shattering(mlp(1, 3), target=1.5), UserError, "target is a whole number"),
        (lambda: analysis.shattering(mlp(1, 3), low=-float("inf")), UserError, "two finite numbers"),
        (lambda: analysis.shattering(nn.Sequential(nn.ReLU())), UserError, "no weights"),
        (lambda: analysis.autocorrelation(torch.tensor([1.0, torch.nan]), 1), UserError, "NaN"),
        (lambda: analysis.autocorrelation(torch.ones(3), 1.5), UserError, "lags is a whole number"),
        (lambda: analysis.autocorrelation([1.0, 2.0], 1), UserError, "got list"),
        (lambda: analysis.noise("white", -1), UserError, "points is a whole number"),
        (lambda: analysis.layer_rewards(mlp(1, 3), torch.ones(1, 2, 1), None, "softmax"), UserError, "a function of"),
        (lambda: analysis.shattering(mlp(1, 3), points=2), UserError, "points is a whole number of at least 3, got 2"),
        (lambda: analysis.autocorrelation(torch.ones(3), 3), UserError, "lags"),
        (lambda: analysis.noise("pink", 3), UnknownNameError, "pink"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
