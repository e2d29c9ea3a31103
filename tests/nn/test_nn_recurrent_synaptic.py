"""Recurrent neurons with a synaptic current: forward against snnTorch and a loop, backward against a longer way."""

from __future__ import annotations

import pytest
import snntorch
import torch

from spikelfp import nn, propagate, rules
from spikelfp.errors import ShapeError, UserError

RESETS = ["subtract", "immediate", "zero"]


def layer_and_input(reset="subtract", bias=True):
    torch.manual_seed(0)
    layer = nn.RecurrentSynaptic(nn.Linear(7, 7, bias=bias), 0.6, 0.9, 0.5, reset).double()
    return layer, torch.randn(15, 4, 7).double()


@pytest.mark.parametrize("reset", RESETS)
def test_steps_are_the_three_equations(reset):
    layer, x = layer_and_input(reset)
    weight, bias = layer.recurrent.weight.detach(), layer.recurrent.bias.detach()
    fired, current, membrane = (torch.zeros(4, 7).double() for _ in range(3))
    for step, spikes in zip(x, layer(x), strict=True):
        current = 0.6 * current + step + fired @ weight.T + bias
        if reset == "subtract":
            membrane = 0.9 * membrane + current - 0.5 * fired
        elif reset == "immediate":
            membrane = 0.9 * (membrane - 0.5 * fired) + current
        else:
            membrane = 0.9 * membrane * (1 - fired) + current
        fired = (membrane > 0.5).double()
        assert torch.equal(spikes, fired)
    assert 50 < layer(x).sum() < 400


def test_spikes_are_those_of_snntorch():
    layer, x = layer_and_input()
    layer, x = layer.float(), x.float()
    theirs = snntorch.RSynaptic(alpha=0.6, beta=0.9, threshold=0.5, linear_features=7)
    theirs.recurrent.load_state_dict(layer.recurrent.state_dict())
    state, out = [torch.zeros(4, 7)] * 3, []
    with torch.no_grad():
        for step in x:
            state = theirs(step, *state)
            out.append(state[0])
    assert torch.equal(layer(x), torch.stack(out))


@pytest.mark.parametrize("reset", RESETS)
def test_rewards_take_the_way_of_a_synapse_in_front_of_recurrent_neurons(reset):
    """Unrolled by hand from layers of one step each: a sum, a leaky integrator with its state, neurons with theirs."""
    layer, x = layer_and_input(reset)
    x.requires_grad_()
    out = layer(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    expected = [x.grad.clone(), *(p.grad.clone() for p in layer.parameters())]
    x.grad = None
    layer.zero_grad()

    synapse, neurons = nn.LI(0.6), nn.LIF(0.9, 0.5, reset)
    fired, current, membrane, steps = torch.zeros(1, 4, 7).double(), None, None, []
    for step in x.split(1):
        total, current = synapse.run(step + layer.recurrent(fired), current)
        fired, membrane = neurons.run(total, membrane)
        steps.append(fired)
    propagate(steps, reward.split(1))
    found = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(a.any() for a in found)
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_without_memory_in_the_synapse_it_is_recurrent_lif_but_for_alpha():
    layer, x = layer_and_input()
    layer.alpha = 1e-300
    plain = nn.RecurrentLIF(layer.recurrent, 0.9, 0.5)
    assert torch.equal(layer(x), plain(x))


def test_a_sequence_in_parts_equals_the_whole():
    layer, x = layer_and_input()
    whole, last = layer.run(x)
    first, state = layer.run(x[:6])
    rest, end = layer.run(x[6:], state)
    assert torch.equal(torch.cat([first, rest]), whole)
    assert all(torch.equal(a, b) for a, b in zip(last, end, strict=True))
    assert torch.equal(last[0], whole[-1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [nn.RecurrentLIF, nn.RecurrentSynaptic])
def test_parts_with_normalised_rewards_have_the_updates_of_the_whole(kind, seed):
    torch.manual_seed(seed)
    layer = kind(7, threshold=0.5).double()
    rules.attach(layer, rules.Epsilon(normalize="step"))
    x, reward = torch.randn(2, 12, 4, 7).double()
    x.requires_grad_()
    propagate(layer(x), reward)
    expected = [x.grad.clone(), *(p.grad.clone() for p in layer.parameters())]
    x.grad = None
    layer.zero_grad()
    first, state = layer.run(x[:5])
    propagate([first, layer.run(x[5:], state)[0]], list(reward.split([5, 7])))
    for found, e in zip([x.grad, *(p.grad for p in layer.parameters())], expected, strict=True):
        torch.testing.assert_close(found, e, rtol=1e-10, atol=1e-12)


def test_recomputed_parts_give_the_same_updates():
    layer, x = layer_and_input()
    out = layer(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    expected = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    out, _ = nn.recomputed(layer, x, 4)
    propagate(out, reward)
    for p, e in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-10, atol=1e-12)


def test_bad_values_are_refused():
    with pytest.raises(UserError, match="decay alpha"):
        nn.RecurrentSynaptic(3, alpha=0.0)
    with pytest.raises(ShapeError, match="RecurrentSynaptic takes"):
        nn.RecurrentSynaptic(3)(torch.zeros(3))
    assert "alpha=0.8, beta=0.9" in repr(nn.RecurrentSynaptic(3))
