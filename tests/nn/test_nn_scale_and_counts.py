"""Scale, FlattenAxes and neurons that fire several times a step."""

from __future__ import annotations

import math

import pytest
import torch

from spikelfp import nn, propagate
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import backward_pass


def test_scale_multiplies_and_adds_for_each_element():
    x = torch.randn(5, 3, 2, 4, requires_grad=True)
    scale, shift = torch.randn(2, 4), torch.randn(2, 4)
    out = nn.Scale(scale, shift)(x)
    assert torch.allclose(out, x * scale + shift)
    message = torch.randn_like(out)
    with backward_pass():
        out.backward(message)
    assert torch.allclose(x.grad, message * scale)


def test_a_constant_sequence_stays_one():
    out = nn.Scale(2.0)(nn.constant(torch.ones(3, 4), 6))
    assert out.stride(0) == 0
    assert torch.equal(out, torch.full((6, 3, 4), 2.0))


def test_the_constants_travel_with_the_network_and_are_not_trained():
    layer = nn.Scale(torch.arange(3.0), 0.5)
    assert list(layer.parameters()) == []
    other = nn.Scale(torch.zeros(3))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(torch.ones(1, 1, 3)), layer(torch.ones(1, 1, 3)))
    assert layer.double()(torch.ones(1, 1, 3).double()).dtype == torch.float64
    assert repr(layer) == "Scale(scale=(3,), shift=0.5)"


def test_rewards_pass_through_a_scale_to_the_weights_in_front():
    net = nn.Sequential(nn.Linear(4, 3), nn.Scale(torch.tensor([1.0, 2.0, 0.0])), nn.LIF(0.9, 0.1))
    out = net(torch.rand(6, 5, 4))
    propagate(out, torch.ones_like(out))
    assert net[0].weight.grad[:2].any()
    assert not net[0].weight.grad[2].any(), "a factor of 0 hands nothing on"


def test_scales_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"built for steps of \(3,\), got \(4,\)"):
        nn.Scale(torch.ones(3))(torch.ones(2, 2, 4))
    with pytest.raises(UserError, match="scale of a Scale must be finite"):
        nn.Scale(float("nan"))
    with pytest.raises(UserError, match="shift of a Scale must be finite"):
        nn.Scale(1.0, torch.tensor([math.inf]))


def test_flatten_axes_joins_neighbours():
    x = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(nn.FlattenAxes(1, 2)(x), x.flatten(3, 4))
    assert torch.equal(nn.FlattenAxes(0, 1)(x), x.flatten(2, 3))
    with pytest.raises(ShapeError, match="does not fit"):
        nn.FlattenAxes(1, 3)(x)
    with pytest.raises(UserError, match="got 2 to 1"):
        nn.FlattenAxes(2, 1)


@pytest.mark.parametrize("beta", [1.0, 0.8])
def test_a_neuron_fires_as_often_as_its_threshold_can_be_taken_off(beta):
    """Counted one spike after the other."""
    x = (torch.rand(40, 50) * 5 - 1).double()
    found, membrane = nn.MultiSpikeLIF(beta, 0.7).run(x[:, None])
    for column, counts, end in zip(x.T, found[:, 0].T, membrane[0], strict=True):
        v = 0.0
        for current, count in zip(column.tolist(), counts.tolist(), strict=True):
            v = beta * v + current
            before, fired = v, 0
            while v > 0.7:
                v, fired = v - 0.7, fired + 1
            assert fired == count
        assert end == pytest.approx(before)
    assert found.max() > 3


def test_where_no_membrane_reaches_twice_its_threshold_it_is_lif_with_immediate_reset():
    x = torch.rand(30, 4, 6) * 0.4
    assert torch.equal(nn.MultiSpikeLIF(0.9, 0.5)(x), nn.LIF(0.9, 0.5, "immediate")(x))
    assert nn.LIF(0.9, 0.5, "immediate")(x).sum() > 50


def test_counts_in_parts_equal_the_whole():
    layer, x = nn.MultiSpikeLIF(0.9, 0.5), torch.rand(12, 3, 4) * 3
    whole, last = layer.run(x)
    first, state = layer.run(x[:5])
    rest, end = layer.run(x[5:], state)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert torch.equal(last, end)


def test_no_reward_passes_through_counts():
    net = nn.Sequential(nn.Linear(4, 3), nn.MultiSpikeLIF())
    with pytest.raises(UserError, match="MultiSpikeLIF neurons are for inference"):
        net(torch.rand(5, 2, 4)).sum().backward()
    with pytest.raises(UserError, match="threshold must be"):
        nn.MultiSpikeLIF(1.0, 0.0)
    assert repr(nn.MultiSpikeLIF(0.5, 2.0)) == "MultiSpikeLIF(beta=0.5, threshold=2.0)"
