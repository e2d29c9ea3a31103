"""Layers on a grid, against the formula with the weights rounded by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn as torch_nn

from spikelfp import nn, propagate, rules
from spikelfp.functional.credit import backward_pass
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.rules import using

RULES = {
    "ε": rules.Epsilon(),
    "αβ": rules.AlphaBeta(),
    "z⁺z⁻": rules.ZPlusMinus(),
    "γ": rules.Gamma(),
    "surrogate": rules.Surrogate(),
}


def rounded(values, scale, top):
    """``s q``, number by number."""
    flat = [scale * max(-top, min(top, round(value / scale))) for value in values.detach().flatten().tolist()]
    return torch.tensor(flat, dtype=values.dtype).view_as(values)


def dense(dtype=torch.float64):
    return nn.Sequential(nn.Linear(6, 5), nn.LIF(0.9, 0.3), nn.Linear(5, 4), nn.LIF(0.9, 0.3)).to(dtype)


def convolution(dtype=torch.float64):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.LIF(0.9, 0.3), nn.Conv2d(4, 3, 2), nn.LIF(0.9, 0.2),
        nn.Flatten(), nn.Linear(3, 4), nn.LIF(0.9, 0.2),
    ).to(dtype)  # fmt: skip


NETS = {"dense": (dense, (6,)), "convolution": (convolution, (2, 4, 4))}


def weights(net):
    return [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", NETS)
def test_the_forward_pass_is_that_of_rounded_weights(kind, bits):
    make, shape = NETS[kind]
    net, plain = make(), make()
    WeightGrids(net, Quantization(bits))
    for layer, twin in zip(weights(net), weights(plain), strict=True):
        scale = layer.weight_scale.item()
        twin.weight.data = rounded(layer.weight, scale, 2 ** (bits - 1) - 1)
        twin.bias.data = rounded(layer.bias, scale / layer.bias_steps, 2**24)
    x = torch.rand(7, 3, *shape, dtype=torch.float64)
    seen = x
    for layer, twin in zip(net, plain, strict=True):
        out = twin(seen)
        torch.testing.assert_close(layer(seen), out, rtol=1e-12, atol=1e-12)
        seen = out
    assert net[0](x).std() > 0


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_integers_times_scale_are_the_weights_of_the_forward_pass_bit_for_bit(kind, bits):
    net = NETS[kind][0](torch.float32)
    WeightGrids(net, Quantization(bits))
    for layer in weights(net):
        integers, wide = layer.grid.to_integers(layer.weight), layer.bias_grid.to_integers(layer.bias)
        assert torch.equal(integers, integers.round())
        assert integers.abs().max() <= 2 ** (bits - 1) - 1
        seen = {}
        with torch.no_grad():
            layer.product(lambda x, w, b, seen=seen: seen.update(weight=w, bias=b) or x, torch.ones(1))
        assert torch.equal(integers * layer.grid.scale, seen["weight"])
        assert torch.equal(wide * layer.bias_grid.scale, seen["bias"])


@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_messages_pass_through_rounded_weights_and_steps_go_by_the_masters(kind):
    """By hand: autograd of the plain operation on rounded weights, times ``−|w|`` of the float ones."""
    if kind == "dense":
        net, x = nn.Sequential(nn.Linear(6, 5), nn.LIF()).double(), torch.randn(4, 3, 6).double()
        op = F.linear
    else:
        net, x = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LIF()).double(), torch.randn(4, 3, 2, 5, 5).double()

        def op(x, weight, bias):
            return F.conv2d(x.flatten(0, 1), weight, bias).unflatten(0, x.shape[:2])

    WeightGrids(net, Quantization(2))
    layer = net[0]
    masters = layer.weight.detach().clone()
    assert (layer.grid.to_integers(masters) == 0).any()
    x.requires_grad_()
    out = layer(x)
    message = torch.randn_like(out)
    with backward_pass():
        to_x, to_weight, to_bias = torch.autograd.grad(out, (x, layer.weight, layer.bias), message)
    weight = rounded(masters, layer.weight_scale.item(), 1).requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    expected = torch.autograd.grad(op(x, weight, bias), (x, weight, bias), message)
    torch.testing.assert_close(to_x, expected[0])
    torch.testing.assert_close(to_weight, -masters.abs() * expected[1])
    torch.testing.assert_close(to_bias, -bias.detach().abs() * expected[2])
    silent = layer.grid.to_integers(masters) == 0
    assert to_weight[silent].abs().min() > 0  # a weight rounded to 0 can still move


def test_under_a_gradient_it_is_the_straight_through_estimator():
    net = nn.Sequential(nn.Linear(6, 5), nn.LIF()).double()
    WeightGrids(net, Quantization(3))
    layer, x = net[0], torch.randn(4, 3, 6).double()
    with using(net, rules.Surrogate()):
        out = layer(x)
    message = torch.randn_like(out)
    with backward_pass():
        (found,) = torch.autograd.grad(out, layer.weight, message)
    torch.testing.assert_close(found, torch.einsum("tbn,tbk->nk", message, x))


@pytest.mark.parametrize("name", RULES)
def test_every_rule_sees_the_contributions_of_rounded_weights(name):
    """Where masters lie on the grid already, rounding changes nothing, under any rule."""
    net, plain = dense(torch.float32), dense(torch.float32)
    grids = WeightGrids(net, Quantization(4))
    for layer, twin in zip(weights(net), weights(plain), strict=True):
        with torch.no_grad():
            layer.weight.copy_(layer.grid.to_real(layer.grid.to_integers(layer.weight)))
            layer.bias.copy_(layer.bias_grid.to_real(layer.bias_grid.to_integers(layer.bias)))
        twin.load_state_dict({key: value for key, value in layer.state_dict().items() if key != "weight_scale"})
    assert grids.options.bits == 4
    x, reward = torch.rand(7, 3, 6), torch.randn(7, 3, 4)
    grads = []
    for each in (net, plain):
        with using(each, RULES[name]):
            out = each(x)
        if name == "surrogate":
            with backward_pass():
                out.backward(reward)
        else:
            propagate(out, reward)
        grads.append([p.grad for p in each.parameters()])
    assert all(grad.any() for grad in grads[1])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["αβ", "z⁺z⁻", "γ"])
def test_split_rules_split_the_rounded_weights(name):
    """Messages to the input are those of the rounded network, whatever the masters are."""
    net, plain = dense(), dense()
    WeightGrids(net, Quantization(3))
    for layer, twin in zip(weights(net), weights(plain), strict=True):
        twin.weight.data = layer.grid.to_real(layer.grid.to_integers(layer.weight.detach()))
        twin.bias.data = layer.bias_grid.to_real(layer.bias_grid.to_integers(layer.bias.detach()))
    messages = []
    reward = torch.randn(7, 3, 4).double()
    x = torch.rand(7, 3, 6).double()
    for each in (net, plain):
        seen = x.clone().requires_grad_()
        with using(each, RULES[name]):
            out = each(seen)
        propagate(out, reward)
        messages.append(seen.grad)
    assert messages[1].any()
    torch.testing.assert_close(messages[0], messages[1], rtol=1e-6, atol=1e-9)


def test_event_driven_products_take_the_rounded_weights(monkeypatch):
    """Sparse spikes go through the gathering kernels, dense products give the same."""
    results = []
    for way in ("always", "never"):
        monkeypatch.setenv("SPIKELFP_EVENTS", way)
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(300, 200), nn.LIF(0.9, 0.2), nn.Linear(200, 10), nn.LIF(0.9, 0.2))
        WeightGrids(net, Quantization(4))
        x = (torch.rand(6, 4, 300) < 0.2).float()
        out = net(x)
        propagate(out, torch.ones_like(out))
        results.append((out, [p.grad for p in net.parameters()]))
    (spikes, grads), (dense_spikes, dense_grads) = results
    assert torch.equal(spikes, dense_spikes)
    assert spikes.any()
    for a, b in zip(grads, dense_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_stochastic_parameters_that_are_zero_earn_a_step():
    net = nn.Sequential(nn.Linear(6, 5), nn.LIF()).double()
    WeightGrids(net, Quantization(2, "stochastic"))
    layer, x = net[0], torch.randn(4, 3, 6).double()
    assert torch.equal(layer.grid.to_real(layer.grid.to_integers(layer.weight)), layer.weight)
    zeros = layer.weight == 0
    assert zeros.any()
    message = torch.randn(4, 3, 5).double()
    with backward_pass():
        (found,) = torch.autograd.grad(layer(x), layer.weight, message)
    expected = torch.einsum("tbn,tbk->nk", message, x)
    magnitude = torch.where(zeros, layer.weight_scale / 4, layer.weight.abs())
    torch.testing.assert_close(found, -magnitude * expected)


def test_layers_without_grids_have_none():
    layer = nn.Linear(3, 2)
    assert layer.grid is None
    assert layer.bias_grid is None
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert isinstance(layer, torch_nn.Linear)
