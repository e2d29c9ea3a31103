"""Points of a line, deep networks on them, and the signals that come back."""

import numpy as np
import pytest
import torch

from spikelfp import nn, propagate, rewards, rules
from spikelfp.reproduce.shattering import arriving, deep, neighbours
from spikelfp.reproduce.side_by_side import sigmoid_loss
from spikelfp.reproduce.simple_reward import line
from spikelfp.reproduce.toy import neutral_share, rates_of, smooth


def test_the_line_goes_from_minus_four_to_four():
    found = line(0.0005, 100)
    assert (len(found.x), len(found.x_test)) == (15_900, 100)
    points = torch.cat([found.x, found.x_test]).flatten().sort().values
    torch.testing.assert_close(points, torch.arange(16_000) * 0.0005 - 4, rtol=0, atol=1e-6)
    for x, y in ((found.x, found.y), (found.x_test, found.y_test)):
        assert torch.equal(y == 1, x[:, 0] > 0)
    assert not torch.equal(line(0.0005, 100, seed=1).x_test, found.x_test)


@pytest.mark.parametrize("rule", [rules.Gradient(), rules.Epsilon(), rules.AlphaBeta(), rules.ZPlusMinus()], ids=str)
def test_scaling_behind_each_layer_changes_no_shape(rule):
    points = line(0.2, 0)
    net = deep(3, 8, "he", rule, 0)
    x = points.x[None].clone().requires_grad_()
    outputs = net(x)
    if rule.of_gradients:
        sigmoid_loss(outputs[0], points.y).backward()
        plain = x.grad
    else:
        propagate(outputs, rewards.Sigmoid()(outputs, points.y))
        plain = x.detach() * x.grad
    expected = (plain / plain.abs().max())[0, :, 0].double().numpy()
    np.testing.assert_allclose(arriving(net, points.x, points.y), expected, rtol=1e-4, atol=1e-6)


def test_deep_networks_have_the_weights_they_are_said_to_have():
    net = deep(3, 200, "he", rules.Epsilon(), 0)
    dense = [layer for layer in net if isinstance(layer, nn.Linear)]
    assert [layer.weight.shape for layer in dense] == [(200, 1), (200, 200), (200, 200), (2, 200)]
    assert float(dense[1].weight.detach().std()) == pytest.approx(0.1, rel=0.05)
    assert float(dense[1].bias.detach().std()) == pytest.approx(1, rel=0.2)
    assert float(deep(3, 200, "torch", rules.Epsilon(), 0)[2].weight.detach().abs().max()) <= 200**-0.5


def test_neighbours_of_a_smooth_signal_are_alike():
    assert neighbours(np.sin(np.linspace(0, 6, 400))) > 0.98
    assert abs(neighbours(np.random.default_rng(0).standard_normal(4000))) < 0.1
    assert neighbours(np.ones(10)) is None


def test_neutral_weights_are_counted_over_all_layers():
    layers = [torch.tensor([[1.0, 0.25], [-0.2, 0.3]]), torch.tensor([[-10.0, 2.6]])]
    assert neutral_share(layers) == pytest.approx(2 / 6)
    assert neutral_share(layers, 0.26) == pytest.approx(3 / 6)


def test_rates_are_multiples_of_powers_of_ten():
    assert rates_of((1, 5), range(-2, 0)) == [0.01, 0.05, 0.1, 0.5]


def test_curves_are_averaged_over_the_batches_before():
    np.testing.assert_allclose(smooth(np.array([1.0, 2, 3, 7]), 2), [1, 1.5, 2.5, 5])
