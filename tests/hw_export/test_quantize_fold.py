"""BatchNorm as part of the layer in front of it."""

from __future__ import annotations

import copy

import pytest
import torch
from export_nets import pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_export import quantize
from hw_export.quantize import compare, fold_batchnorm
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.quantized import Quantization, WeightGrids


def trained(norm: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """A BatchNorm with statistics and an affine map as after training, some gains below 0."""
    random = torch.Generator().manual_seed(seed)
    norm.running_mean.normal_(generator=random)
    norm.running_var.uniform_(0.1, 3, generator=random)
    if norm.weight is not None:
        torch.nn.init.normal_(norm.weight, generator=random)
        torch.nn.init.normal_(norm.bias, generator=random)
    return norm


def spiking() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), trained(nn.BatchNorm2d(4), 1), nn.LIF(0.9, 0.7),
        nn.Conv2d(4, 6, 3), nn.AvgPool2d(2), trained(nn.BatchNorm2d(6), 2), nn.LIF(0.9, 0.7),
        nn.Flatten(), nn.Linear(24, 10), nn.Dropout(0.2), trained(nn.BatchNorm1d(10), 3), nn.LIF(0.9, 0.7),
    )  # fmt: skip


def by_hand(net: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Output of ``net`` in float64, every BatchNorm from its formula."""
    x = x.double()
    for layer in copy.deepcopy(net).double().eval():
        if isinstance(layer, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            axis = 2 if isinstance(layer, nn.Layer) else 1
            shape = [1] * x.dim()
            shape[axis] = -1
            weight = torch.ones(1).double() if layer.weight is None else layer.weight.reshape(shape)
            bias = torch.zeros(1).double() if layer.bias is None else layer.bias.reshape(shape)
            mean, var = layer.running_mean.reshape(shape), layer.running_var.reshape(shape)
            x = weight * (x - mean) / (var + layer.eps).sqrt() + bias
        else:
            x = layer(x)
    return x


CHAINS = {
    "ours, dense": lambda bias, affine: (
        nn.Sequential(nn.Linear(5, 7, bias=bias), trained(nn.BatchNorm1d(7, affine=affine))), (3, 4, 5)
    ),
    "ours, convolution": lambda bias, affine: (
        nn.Sequential(nn.Conv2d(2, 6, 3, groups=2, bias=bias), trained(nn.BatchNorm2d(6, affine=affine))),
        (3, 4, 2, 6, 6),
    ),
    "ours, pooled": lambda bias, affine: (
        nn.Sequential(nn.Conv2d(2, 3, 3, bias=bias), nn.AvgPool2d(2), trained(nn.BatchNorm2d(3, affine=affine))),
        (3, 4, 2, 6, 6),
    ),
    "twice": lambda bias, affine: (
        nn.Sequential(
            nn.Linear(5, 7, bias=bias), trained(nn.BatchNorm1d(7, affine=affine)), nn.Dropout(0.5),
            trained(nn.BatchNorm1d(7), 5), nn.ReLU(), nn.Linear(7, 2), trained(nn.BatchNorm1d(2), 6),
        ),
        (3, 4, 5),
    ),
    "torch, dense": lambda bias, affine: (
        torch.nn.Sequential(torch.nn.Linear(5, 7, bias=bias), trained(torch.nn.BatchNorm1d(7, affine=affine))), (9, 5)
    ),
    "torch, convolution": lambda bias, affine: (
        torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, bias=bias), trained(torch.nn.BatchNorm2d(3, affine=affine))),
        (4, 2, 6, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_folded_is_what_the_formula_gives(chain, bias, affine):
    net, shape = CHAINS[chain](bias, affine)
    x = torch.randn(shape)
    before = copy.deepcopy(net.state_dict())
    expected = by_hand(net, x)
    folded = fold_batchnorm(net)
    assert type(folded) is type(net)
    assert not any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in folded.modules())
    assert torch.allclose(folded(x).double(), expected, rtol=1e-5, atol=1e-5)
    doubled = fold_batchnorm(net.double())
    assert torch.allclose(doubled(x.double()), expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(net.state_dict()[key].to(own), own) for key, own in before.items()), "the original is left"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.1))
def test_of_any_shape(seed, inputs, channels, eps):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(inputs, channels), trained(nn.BatchNorm1d(channels, eps=eps), seed)).double()
    x = torch.randn(2, 3, inputs, dtype=torch.float64)
    assert torch.allclose(fold_batchnorm(net)(x), net.eval()(x), rtol=1e-10, atol=1e-10)


def test_other_layers_keep_their_names_also_in_nested_networks():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), trained(nn.BatchNorm1d(4))), nn.LIF(), nn.Linear(4, 2), nn.LIF())
    folded = fold_batchnorm(net)
    assert [name for name, _ in folded.named_modules()] == ["", "0", "0.0", "1", "2", "3"]


@pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d, nn.BatchNorm2d])
def test_networks_with_batchnorm_quantise(norm):
    net = spiking().eval()
    x = nn.constant(pixels(1, 8, 8, count=30), 15)
    made = quantize(net, 10, input_scale=16, calibration=x)
    assert [layer.layer for layer in made.report] == ["0", "3", "8"]
    found = compare(net, made, x)
    for rate in found.rates:
        assert rate.float_rate > 0
        assert rate.agreement > 0.97
    floats = compare(net, quantize(net, None), x)
    assert all(rate.agreement > 0.999 for rate in floats.rates)


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), "'0' has no layer of weights in front"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LIF(), nn.BatchNorm1d(4)), "'2' stands after '1', a LIF"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.BatchNorm2d(2)), "after '1', a MaxPool2d"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2, padding=1), nn.BatchNorm2d(2)), "a AvgPool2d"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.BatchNorm1d(72)), "after '1', a Flatten"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), "no running statistics"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(5)), "takes 5 channels, the layer in front has 3"),
    ],
)
def test_what_cannot_be_folded_is_refused_by_name(net, text):
    with pytest.raises(UserError, match=text):
        fold_batchnorm(net())
    with pytest.raises(UserError, match=text):
        quantize(net())


def test_integers_of_training_are_not_scaled_away():
    net = nn.Sequential(nn.Linear(4, 3), trained(nn.BatchNorm1d(3)), nn.LIF())
    WeightGrids(net, Quantization(bits=4))
    with pytest.raises(UserError, match="'0' was trained with quantised weights, and '1' after it"):
        quantize(net, 4)
    x = torch.rand(6, 5, 4)
    assert torch.equal(quantize(net, 32)(x), net.eval()(x))
