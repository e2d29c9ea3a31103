"""Time and batch: one step, sequences in parts, micro-batches, the order of samples."""

import pytest
import torch
from nn_networks import NETWORKS, network
from reference import PAPER, RESETS
from references.cases import RULES

from spikelfp import nn, propagate, rules
from spikelfp.functional.credit import backward_pass


def updates(net):
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def assert_same(net, expected, tolerance=1e-9):
    for name, p in net.named_parameters():
        scale = max(1.0, expected[name].abs().max().item())
        torch.testing.assert_close(
            p.grad, expected[name], rtol=tolerance, atol=tolerance * scale, msg=lambda m, name=name: f"{name}: {m}"
        )


def whole(net, x):
    """Output, a reward, and the updates of one pass over all of ``x``."""
    net.zero_grad()
    out = net(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    assert out.any()
    found = updates(net)
    net.zero_grad()
    return out.detach(), reward, found


@pytest.mark.parametrize("parts", [(1, 7), (4, 4), (3, 1, 4), (1,) * 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_sequence_in_parts_with_carried_state_equals_the_whole(name, parts):
    """Spikes forward, and rewards back through the state from one part to the one before."""
    net, x = network(name)
    out, reward, expected = whole(net, x)
    state, outs = None, []
    for part in x.split(parts):
        chunk, state = net.run(part, state)
        outs.append(chunk)
    torch.testing.assert_close(torch.cat(outs).detach(), out, rtol=1e-11, atol=1e-11)
    propagate(outs, reward.split(parts))
    assert_same(net, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_detached_state_carries_the_membrane_but_no_reward(name):
    net, x = network(name)
    out, reward, expected = whole(net, x)

    def detached(state):
        return tuple(map(detached, state)) if isinstance(state, tuple) else state if state is None else state.detach()

    head, state = net.run(x[:5])
    tail, _ = net.run(x[5:], detached(state))
    torch.testing.assert_close(torch.cat([head, tail]).detach(), out, rtol=1e-11, atol=1e-11)
    propagate(tail, reward[5:])
    found = updates(net)
    assert any(not torch.equal(found[key], expected[key]) for key in found)
    net.zero_grad()
    propagate(net.run(x[5:], detached(state))[0], reward[5:])
    assert_same(net, found)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_leaves_no_state_behind(name):
    net, x = network(name)
    first = net(x)
    net(torch.randn_like(x) * 5)
    assert torch.equal(net(x), first)


@pytest.mark.parametrize("rule", ["epsilon", "alpha2beta1", "zplusminus", "gamma", "zero"])
@pytest.mark.parametrize("name", NETWORKS)
def test_micro_batches_accumulate_to_one_batch(name, rule):
    net, x = network(name)
    rules.attach(net, RULES[rule])
    _, reward, expected = whole(net, x)
    for part in (slice(0, 1), slice(1, 4)):
        propagate(net(x[:, part]), reward[:, part])
    assert_same(net, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_samples_does_not_matter(name):
    net, x = network(name)
    out, reward, expected = whole(net, x)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = net(x[:, order])
    torch.testing.assert_close(shuffled.detach(), out[:, order], rtol=1e-11, atol=1e-11)
    propagate(shuffled, reward[:, order])
    assert_same(net, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_constant_input_gives_the_updates_of_the_written_out_sequence(name):
    net, x = network(name)
    still = nn.constant(x[0], 8)
    out, reward, expected = whole(net, still.clone())
    again = net(still)
    torch.testing.assert_close(again.detach(), out, rtol=1e-11, atol=1e-11)
    propagate(again, reward)
    assert_same(net, expected)


@pytest.mark.parametrize("denominator", ["inflow", "increment"])
@pytest.mark.parametrize("reset", RESETS)
def test_one_step_is_a_heaviside_layer(reset, denominator):
    """From rest ``U[1] = I``: it fires as a Heaviside neuron of ``I − θ``. θ does not flow into the membrane, so it
    is no contribution: the reward is divided by ``|I|``, as by a Heaviside neuron of ``I`` itself that fires.
    """
    theta = 0.7
    current = torch.randn(1, 50, 4).double() * 2
    message = torch.randn_like(current)
    a, b = current.clone().requires_grad_(), current.clone().requires_grad_()
    spikes = nn.LIF(0.9, theta, reset, denominator, **PAPER)(a)
    assert torch.equal(spikes, nn.Heaviside()(current - theta))
    assert 0.2 < spikes.mean() < 0.8
    with backward_pass():
        spikes.backward(message)
    with backward_pass():
        nn.Heaviside()(b).backward(message)
    torch.testing.assert_close(a.grad, b.grad * spikes.detach(), rtol=1e-12, atol=1e-12)
    # As outputs: all are rewarded, and where I < 0 a LIF neuron is pushed up by a reward, not further down.
    a.grad, b.grad = None, None
    reward = torch.randn_like(current)
    propagate(nn.LIF(0.9, theta, reset, denominator, **PAPER)(a), reward)
    propagate(nn.Heaviside()(b), reward)
    torch.testing.assert_close(a.grad, b.grad * current.sign(), rtol=1e-12, atol=1e-12)
