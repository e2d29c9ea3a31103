"""Normalisation layers: v3, eq. 8-10, and torch's own outputs, gradients and running statistics."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.cases import RULES, build, plant
from references.compare import assert_equals_slow

from spikelfp import nn, propagate, rules
from spikelfp.errors import ShapeError

OPTIONS = {
    "default": {},
    "plain": {"affine": False},
    "untracked": {"track_running_stats": False},
    "slow": {"momentum": 0.3, "eps": 0.1},
    "cumulative": {"momentum": None},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_batch_norm_of_features(options, training):
    net = build(rules.Epsilon(), nn.Linear(4, 5), nn.BatchNorm1d(5, **OPTIONS[options]), nn.Tanh(), nn.Linear(5, 3))
    plant(net)(torch.randn(4, 3, 4).double())  # running statistics that are not those of the batch
    assert_equals_slow(net.train(training), torch.randn(3, 4, 4).double() + 1, linear=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_batch_norm_of_channels(options, training):
    norm = nn.BatchNorm2d(3, **OPTIONS[options])
    net = build(rules.Epsilon(), nn.Conv2d(2, 3, 2), norm, nn.LIF(0.9, 0.3), nn.Flatten(), nn.Linear(12, 2))
    plant(net)(torch.randn(4, 3, 2, 3, 3).double())
    assert_equals_slow(net.train(training), torch.randn(3, 2, 2, 3, 3).double(), linear=True)


@pytest.mark.parametrize("rule", RULES)
def test_batch_norm_follows_equation_9_and_10_under_every_rule(rule):
    """γ is a single connection for each channel: rules that split by sign have nothing to split."""
    net = build(RULES[rule], nn.BatchNorm1d(4), nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert_equals_slow(plant(net), torch.randn(4, 5, 4).double(), linear=True)


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 4), steps=st.integers(1, 4), batch=st.integers(2, 5), training=st.booleans(),
    seed=st.integers(0, 10_000),
)  # fmt: skip
def test_batch_norm_of_any_shape(channels, steps, batch, training, seed):
    torch.manual_seed(seed)
    net = build(rules.Epsilon(), nn.BatchNorm1d(channels), nn.ELU())
    assert_equals_slow(plant(net).train(training), torch.randn(steps, batch, channels).double(), linear=False)


def test_batch_norm_hands_its_reward_on_if_nothing_is_shifted():
    """Eq. 9 with ``E[a] = 0`` and ``β = 0``: the reward in is the reward out."""
    norm = nn.BatchNorm1d(6).double().eval()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6).double().requires_grad_()
    reward = torch.randn(2, 3, 6).double()
    propagate(norm(x), reward, eps=1e-14)
    torch.testing.assert_close(x * x.grad, reward, rtol=1e-9, atol=1e-9)


def test_statistics_are_constants_of_the_backward_pass():
    """In training torch's gradients of an input sum to zero over the batch; a reward must not vanish so."""
    norm = nn.BatchNorm1d(3).double()
    x = (torch.randn(1, 50, 3).double() + 2).requires_grad_()
    propagate(norm(x), torch.ones(1, 50, 3).double(), eps=1e-14)
    expected = norm.weight.detach() / (x.var((0, 1), correction=0) + norm.eps).sqrt() / norm(x)
    torch.testing.assert_close(x.grad, expected.detach(), rtol=1e-8, atol=1e-8)
    norm.rule = rules.Gradient()
    x.grad = None
    norm(x).square().sum().backward()
    assert x.grad.sum((0, 1)).abs().max() < 1e-9


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Gradient()])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["features", "channels"])
def test_outputs_and_running_statistics_equal_torchs(kind, options, rule):
    if kind == "features":
        ours, theirs, shape = nn.BatchNorm1d(5, **OPTIONS[options]), torch.nn.BatchNorm1d, (4, 3, 5)
    else:
        ours, theirs, shape = nn.BatchNorm2d(5, **OPTIONS[options]), torch.nn.BatchNorm2d, (4, 3, 5, 2, 2)
    ours.rule = rule
    other = theirs(5, **OPTIONS[options])
    for _ in range(3):
        x = torch.randn(shape) * 3 + 1
        torch.testing.assert_close(ours(x).flatten(0, 1), other(x.flatten(0, 1)), rtol=1e-5, atol=1e-5)
    mine, its = dict(ours.named_buffers()), dict(other.named_buffers())
    assert mine.keys() == its.keys()
    for name, buffer in its.items():
        torch.testing.assert_close(mine[name], buffer, rtol=1e-5, atol=1e-6)
    ours.eval(), other.eval()
    torch.testing.assert_close(ours(x).flatten(0, 1), other(x.flatten(0, 1)), rtol=1e-5, atol=1e-5)
    for name, buffer in its.items():
        torch.testing.assert_close(mine[name], buffer, rtol=1e-5, atol=1e-6)


def test_a_constant_sequence_counts_as_one_step_in_the_running_statistics():
    ours, other = nn.BatchNorm1d(5), torch.nn.BatchNorm1d(5)
    images = torch.randn(6, 5)
    out = ours(nn.constant(images, 9))
    torch.testing.assert_close(out[4], other(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.running_var, other.running_var)
    assert out.stride(0) == 0


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_layer_norm(rule, affine):
    net = build(
        RULES[rule], nn.Linear(4, 5), nn.LayerNorm(5, elementwise_affine=affine), nn.GELU(), nn.LayerNorm(5, bias=False)
    )
    assert_equals_slow(plant(net), torch.randn(2, 3, 4).double(), linear=True)


def test_layer_norm_over_several_axes():
    net = build(rules.Epsilon(), nn.LayerNorm((3, 2)), nn.Tanh())
    assert_equals_slow(plant(net), torch.randn(2, 2, 3, 2).double(), linear=False)


@pytest.mark.parametrize("rule", [rules.Epsilon(), rules.Gradient()])
def test_layer_norm_gives_torchs_outputs(rule):
    ours, other = nn.LayerNorm((3, 4), rule=rule), torch.nn.LayerNorm((3, 4))
    plant(other)
    ours.load_state_dict(other.state_dict())
    x = torch.randn(5, 2, 3, 4) * 3 + 1
    torch.testing.assert_close(ours(x), other(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.LayerNorm(4)])
def test_gradient_descent_has_torchs_gradients(norm):
    """Under plain gradients the statistics are differentiated."""
    ours = copy.deepcopy(norm).double()
    ours.rule = rules.Gradient()
    other = (torch.nn.BatchNorm1d(4) if isinstance(norm, nn.BatchNorm1d) else torch.nn.LayerNorm(4)).double()
    x = torch.randn(3, 5, 4).double()
    a, b = x.clone().requires_grad_(), x.flatten(0, 1).clone().requires_grad_()
    ours(a).pow(3).sum().backward()
    other(b).pow(3).sum().backward()
    torch.testing.assert_close(a.grad.flatten(0, 1), b.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-9)


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match="BatchNorm1d takes"):
        nn.BatchNorm1d(4)(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="BatchNorm2d takes"):
        nn.BatchNorm2d(4)(torch.zeros(3, 4, 5, 5))
    with pytest.raises(ShapeError, match="TokenNorm takes"):
        nn.TokenNorm(4)(torch.zeros(3, 2, 4))


@pytest.mark.parametrize("constant", [True, False])
def test_a_single_value_per_channel_is_normalised_by_the_running_statistics(constant):
    layer = nn.BatchNorm1d(3, rule=rules.Epsilon(constant_statistics=constant))
    layer(torch.randn(2, 8, 3))
    before = layer.running_mean.clone()
    x = torch.randn(1, 1, 3)
    alone = layer(x)
    torch.testing.assert_close(layer.running_mean, before)
    torch.testing.assert_close(alone, layer.eval()(x))
    with pytest.raises(ShapeError, match="more than one value per channel"):
        nn.BatchNorm1d(3, track_running_stats=False)(x)


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_other_channels_and_empty_batches_are_refused(make, options):
    layer, side = make(3, **options), () if make is nn.BatchNorm1d else (2, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(ShapeError, match=rf"{make.__name__} was built for 3 channels, got 4"):
        layer(torch.rand(5, 2, 4, *side))
    with pytest.raises(ShapeError, match="this one is empty"):
        layer(torch.rand(5, 0, 3, *side))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("axes", "shape"),
    [((4,), (5, 2, 3)), ((4,), (5, 2, 1)), ((2, 4), (5, 2, 4)), ((10, 4), (5, 2, 4)), ((4,), (2, 4)), ((4,), (4,))],
    ids=["other features", "features that broadcast", "the batch", "time and batch", "no time", "no batch"],
)
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_takes_the_axes_it_was_built_for(axes, shape, statistics, affine):
    rule = rules.Epsilon(constant_statistics=statistics)
    with pytest.raises(ShapeError, match=r"last axes .* time and batch not counted"):
        nn.LayerNorm(axes, elementwise_affine=affine, rule=rule)(torch.randn(shape))
