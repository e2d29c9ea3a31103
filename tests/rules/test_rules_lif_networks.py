"""Networks of spiking neurons, several layers deep, under every rule, against connection-by-connection sums."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import DENOMINATORS, RESETS
from references.cases import NEURONS, RULES, SPIKING, build, plant
from references.compare import assert_equals_slow

from spikelfp import nn


@settings(max_examples=40, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    sizes=st.lists(st.integers(1, 6), min_size=3, max_size=5),
    kinds=st.lists(st.sampled_from(SPIKING), min_size=4, max_size=4),
    steps=st.integers(1, 7),
    seed=st.integers(0, 10_000),
)
def test_dense_networks_of_any_depth(rule, sizes, kinds, steps, seed):
    torch.manual_seed(seed)
    layers = []
    for (a, b), kind in zip(pairwise(sizes), kinds, strict=False):
        layers += [nn.Linear(a, b), NEURONS[kind](b)]
    net = build(RULES[rule], *layers)
    # 1e-8: each layer divides by membranes, and small ones magnify the rounding of the layers behind.
    assert_equals_slow(net, torch.randn(steps, 2, sizes[0]).double() * 2, linear=False, tolerance=1e-8)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("rule", RULES)
def test_convolutional_network_with_normalisation_and_skips(rule, reset, denominator):
    def neurons():
        return nn.LIF(0.9, 0.3, reset, denominator, learn_beta=True)

    residual = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), neurons())
    net = build(
        RULES[rule],
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.MaxPool2d(2), neurons(),
        nn.Sum(residual, nn.Identity()), nn.Concat(nn.Identity(), nn.Conv2d(3, 1, 1)), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4, 5), neurons(), nn.Linear(5, 3), neurons(),
    )  # fmt: skip
    out = assert_equals_slow(plant(net), torch.randn(4, 2, 1, 4, 4).double() * 2, linear=False, tolerance=1e-9)
    assert 0 < out.mean() < 1


@pytest.mark.parametrize("rule", RULES)
def test_leaky_readout(rule):
    net = build(RULES[rule], nn.Linear(4, 6), nn.LIF(0.9, 0.3), nn.Linear(6, 3), nn.LI(0.8))
    assert_equals_slow(net, torch.randn(6, 2, 4).double() * 2, linear=True, tolerance=1e-9)
