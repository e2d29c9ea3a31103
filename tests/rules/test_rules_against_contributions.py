"""Every rule, in every kind of layer with weights, against rewards of single contributions written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.cases import NEURONS, RULES, build
from references.compare import assert_equals_slow

from spikelfp import nn

LAYERS = {
    "dense": (lambda: nn.Linear(6, 5), (6,), 5),
    "dense-without-bias": (lambda: nn.Linear(6, 5, bias=False), (6,), 5),
    "convolution": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 3, 3), 27),
    "convolution-strided-in-groups": (lambda: nn.Conv2d(4, 4, 2, stride=2, groups=2, bias=False), (4, 4, 4), 16),
}


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rule", RULES)
def test_neurons_in_the_middle_and_at_the_end(rule, layer, neuron):
    make, shape, features = LAYERS[layer]
    net = build(
        RULES[rule], make(), nn.Flatten(), NEURONS[neuron](features), nn.Linear(features, 3), NEURONS[neuron](3)
    )
    out = assert_equals_slow(net, torch.randn(3, 2, *shape).double(), linear=False)
    assert out.any()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rule", RULES)
def test_linear_outputs(rule, layer):
    make, shape, _ = LAYERS[layer]
    assert_equals_slow(build(RULES[rule], make()), torch.randn(2, 3, *shape).double(), linear=True, eps=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_linear_maps_in_a_row_pass_the_message_on(rule):
    net = build(RULES[rule], nn.Conv2d(2, 3, 2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 4))
    assert_equals_slow(net, torch.randn(2, 2, 2, 5, 5).double(), linear=True)


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    neuron=st.sampled_from(sorted(NEURONS)),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    biases=st.tuples(st.booleans(), st.booleans()),
    steps=st.integers(1, 5),
    batch=st.integers(1, 3),
    negative=st.booleans(),
    linear=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_dense_layers_of_any_shape(rule, neuron, sizes, biases, steps, batch, negative, linear, seed):
    torch.manual_seed(seed)
    net = build(
        RULES[rule],
        nn.Linear(sizes[0], sizes[1], biases[0]),
        NEURONS[neuron](sizes[1]),
        nn.Linear(sizes[1], sizes[2], biases[1]),
        *([] if linear else [NEURONS[neuron](sizes[2])]),
    )
    x = torch.randn(steps, batch, sizes[0]).double()
    # 1e-9: the product of two small denominators (a membrane, an output) magnifies the rounding of both.
    assert_equals_slow(net, x if negative else x.abs(), linear=linear, tolerance=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    groups=st.sampled_from([1, 2]),
    out_channels=st.sampled_from([2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
    bias=st.booleans(),
    negative=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_convolutions_of_any_shape(rule, groups, out_channels, kernel, stride, padding, bias, negative, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=bias)
    net = build(RULES[rule], conv, nn.ReLU())
    x = torch.randn(1, 2, 2, 4, 3).double()
    assert_equals_slow(net, x if negative else x.abs(), linear=False)
