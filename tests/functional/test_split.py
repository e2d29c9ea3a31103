"""Sums of positive and negative contributions, against every contribution written out."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spikelfp.functional.credit import backward_pass
from spikelfp.functional.split import MagnitudeShare, SplitLinear, halves, input_halves, signed_sums

VALUES = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0, 3.0])
"""Numbers that meet zero and each other often, and whose products and sums are exact."""


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(VALUES, min_size=3, max_size=3),
    weight=st.lists(VALUES, min_size=6, max_size=6),
    bias=st.none() | st.lists(VALUES, min_size=2, max_size=2),
)
def test_signed_sums(x, weight, bias):
    w = [weight[:3], weight[3:]]
    a, k, b = (None if t is None else torch.tensor(t).double() for t in ([x], w, bias))
    plus, minus = signed_sums(F.linear, input_halves(a), halves(k), (None, None) if b is None else halves(b))
    for j in range(2):
        z = [wi * xi for wi, xi in zip(w[j], x, strict=True)] + ([] if bias is None else [bias[j]])
        assert plus[0, j] == sum(v for v in z if v > 0)
        assert minus[0, j] == sum(v for v in z if v < 0)


@settings(max_examples=60, deadline=None)
@given(
    x=st.lists(VALUES, min_size=3, max_size=3),
    weight=st.lists(VALUES, min_size=6, max_size=6),
    bias=st.lists(VALUES, min_size=2, max_size=2),
)
def test_each_contribution_takes_the_share_of_its_sign(x, weight, bias):
    """``r_ij = z_ij c_ij`` and ``d_w_ij = |w_ij| a_i c_ij``, with ``c = p`` where ``z_ij ≥ 0`` and ``q`` elsewhere."""
    p, q = [2.0, -3.0], [5.0, 0.5]
    w = [weight[:3], weight[3:]]
    a, k, b = (torch.tensor(t).double().requires_grad_() for t in ([x], w, bias))
    shares = tuple(torch.tensor([s]).double() for s in (p, q))
    out = SplitLinear.apply(a, k, b, F.linear, lambda *_: shares)
    with backward_pass():
        out.backward(torch.ones_like(out))
    rewards = [0.0] * 3
    for j in range(2):
        for i in range(3):
            z = w[j][i] * x[i]
            c = p[j] if z >= 0 else q[j]
            rewards[i] += z * c
            assert -k.grad[j, i] == abs(w[j][i]) * x[i] * c
        assert -b.grad[j] == abs(bias[j]) * (p[j] if bias[j] >= 0 else q[j])
    assert (a * a.grad).tolist() == [rewards]


@settings(max_examples=30, deadline=None)
@given(x=st.lists(VALUES, min_size=3, max_size=3), weight=st.lists(VALUES, min_size=3, max_size=3), bias=VALUES)
def test_magnitude_share(x, weight, bias):
    z = torch.tensor([[1.5]]).double().requires_grad_()
    tensors = (torch.tensor([x]).double(), torch.tensor([weight]).double(), torch.tensor([bias]).double())
    with backward_pass():
        MagnitudeShare.apply(z, *tensors, F.linear, 0.5).backward(torch.tensor([[-4.0]]).double())
    total = sum(abs(a * b) for a, b in zip(x, weight, strict=True)) + abs(bias) + 0.5
    assert z.grad.item() == pytest.approx(1.5 * -4 / total, rel=1e-14)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
)
def test_only_what_is_asked_for_gets_a_gradient(wanted):
    tensors = [torch.randn(2, 3).double(), torch.randn(4, 3).double(), torch.randn(4).double()]
    for tensor, own in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(own)
    out = SplitLinear.apply(*tensors, F.linear, lambda n, z, plus, minus: (n, 2 * n))
    with backward_pass():
        out.backward(torch.ones_like(out))
    assert [tensor.grad is not None for tensor in tensors] == list(wanted)
