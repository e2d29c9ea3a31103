"""Sparsity and changes of weights against loops over the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp import analysis, models, nn, pruning
from spikelfp.errors import ShapeError, UserError


def of(measure, *tensors, **options):
    """Measure single tensors."""
    return measure(*({"w": each} for each in tensors), **options)["w"]


SHAPES = st.tuples(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6))


def drawn(seed, *shape):
    """Weights with ties and zeros."""
    numbers = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (numbers * 3).round() / 3 if seed % 2 else numbers


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_gini_is_the_mean_difference_of_pairs(case):
    """The index is also ``Σ_ij ||w_i| − |w_j|| / (2 N Σ_i |w_i|)``."""
    size = drawn(*case).abs().flatten().tolist()
    found = of(analysis.gini, drawn(*case))
    if not sum(size):
        assert math.isnan(found)
        return
    wanted = sum(abs(a - b) for a in size for b in size) / (2 * len(size) * sum(size))
    assert found == pytest.approx(wanted, abs=1e-12)


def test_gini_of_equal_weights_and_of_a_single_one():
    assert of(analysis.gini, torch.full((4, 5), -2.0)) == pytest.approx(0, abs=1e-12)
    alone = torch.zeros(4, 5)
    alone[1, 1] = 3
    assert of(analysis.gini, alone) == pytest.approx(1 - 1 / 20)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_theta_sparsity_and_median_are_those_of_loops(case, theta):
    w = drawn(*case)
    flat = [abs(value) for value in w.flatten().tolist()]
    assert of(analysis.theta_sparsity, w, theta=theta) == sum(v <= theta * max(flat) for v in flat) / len(flat)
    assert of(analysis.median_magnitude, w) == pytest.approx(float(np.median(flat)), abs=1e-15)
    upper = float(np.percentile(flat, 75))
    if upper:
        assert of(analysis.median_magnitude, w, relative=True) == pytest.approx(float(np.median(flat)) / upper)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_changes_are_counted_one_by_one(case, other):
    before, after = drawn(*case), drawn(other, *case[1:])
    after[0] = before[0]
    pairs = list(zip(before.flatten().tolist(), after.flatten().tolist(), strict=True))
    signs = of(analysis.sign_changes, before, after)
    assert (signs.changed, signs.weights) == (sum(a * b < 0 for a, b in pairs), len(pairs))
    moved = of(analysis.update_density, before, after)
    assert moved.share == sum(a != b for a, b in pairs) / len(pairs)


def test_tiny_weights_keep_their_sign():
    assert of(analysis.sign_changes, torch.tensor([[1e-30]]), torch.tensor([[-1e-30]])).changed == 1  # the product is 0


def test_networks_and_their_state_dicts_agree():
    net = models.models["lif-mlp"]((6,), 3, hidden=(5,))
    names = ["0.weight", "2.weight"]
    assert list(analysis.weights_of(net)) == [name for name in net.state_dict() if "weight" in name]
    for measure in (analysis.gini, analysis.theta_sparsity, analysis.median_magnitude):
        assert measure(net) == measure(net.state_dict())
        assert len(measure(net)) == len(names)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_measures_are_those_of_the_numbers_in_float64(dtype):
    w = torch.randn(40, 25, generator=torch.Generator().manual_seed(0)).to(dtype)
    for theta in (0.1, 0.123, 0.3):
        size = w.double().abs().flatten().tolist()
        wanted = sum(each <= theta * max(size) for each in size) / len(size)
        assert of(analysis.theta_sparsity, w, theta=theta) == wanted
    assert of(analysis.gini, w) == of(analysis.gini, w.double())


def test_equal_weights_are_not_sparse_at_all():
    for number in range(2, 40):
        assert 0 <= of(analysis.gini, torch.full((number, 3), -0.1)) < 1e-12


def pruned_by_torch():
    net = nn.Sequential(nn.Linear(4, 4))
    torch.nn.utils.prune.l1_unstructured(net[0], "weight", 0.5)
    return net


def test_weights_that_are_computed_are_no_parameters():
    net = pruned_by_torch()
    for each in (net, net.state_dict()):
        with pytest.raises(UserError, match=r"0.weight_orig is a weight before.*from_torch"):
            analysis.gini(each)
    pruning.from_torch(net)
    assert list(analysis.gini(net)) == ["0.weight"]
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    old_style = {"0.weight_g": torch.ones(4, 1), "0.weight_v": torch.ones(4, 4)}
    for each in (normed, normed.state_dict(), old_style):
        with pytest.raises(UserError, match="a part from which a weight is computed"):
            analysis.sign_changes(each, each)


def test_embeddings_and_scales_are_no_weights():
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm((2, 4)), nn.Scale(torch.ones(3, 4)))
    assert list(analysis.weights_of(net)) == ["0.weight"]


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: analysis.gini(nn.Sequential(nn.LIF())), UserError, "no weights"),
        (lambda: analysis.gini([1.0]), UserError, "got list"),
        (lambda: of(analysis.gini, torch.tensor([[float("nan")]])), UserError, "NaN"),
        (lambda: of(analysis.gini, torch.zeros(0, 2)), UserError, "no floating-point"),
        (lambda: of(analysis.gini, torch.ones(2, 2).int()), UserError, "no weights"),
        (lambda: of(analysis.theta_sparsity, torch.ones(2, 2), theta=1.5), UserError, "theta"),
        (lambda: of(analysis.theta_sparsity, torch.ones(2, 2), theta="a"), UserError, "theta"),
        (lambda: of(analysis.gini, torch.eye(2).to_sparse()), UserError, "dense"),
        (lambda: of(analysis.sign_changes, torch.ones(2, 2), torch.ones(2, 3)), ShapeError, "before"),
        (lambda: analysis.gini(torch.ones(2, 2)), UserError, "got Tensor"),
        (
            lambda: analysis.update_density(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)),
            UserError,
            "0.weight is a weight of one",
        ),
    ],
)
def test_what_has_no_measure_is_refused(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
