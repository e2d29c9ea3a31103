"""Surrogate gradients of the same network equal snnTorch's; plain gradients of spikes are zero."""

import contextlib

import pytest
import snntorch
import torch
from reference import SNNTORCH_RESETS
from snntorch import functional as sf
from snntorch import surrogate

from spikelfp import methods, nn, rules
from spikelfp.errors import UserError


@pytest.mark.parametrize("reset", SNNTORCH_RESETS)
def test_gradients_equal_snntorch_bptt(reset):
    net = nn.Sequential(nn.Linear(12, 30), nn.LIF(0.9, 1.0, reset), nn.Linear(30, 5), nn.LIF(0.9, 1.0, reset))
    x, y = torch.rand(10, 6, 12) * 2, torch.randint(5, (6,))
    with rules.using(net, rules.Surrogate(slope=25)):
        outputs = net(x)
    methods.rate_cross_entropy(outputs, y).backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()

    leaky = [
        snntorch.Leaky(beta=0.9, reset_mechanism=reset, spike_grad=surrogate.fast_sigmoid(slope=25)) for _ in range(2)
    ]
    mems = [layer.init_leaky() for layer in leaky]
    record = []
    for step in x:
        hidden, mems[0] = leaky[0](torch.nn.functional.linear(step, net[0].weight, net[0].bias), mems[0])
        out, mems[1] = leaky[1](torch.nn.functional.linear(hidden, net[2].weight, net[2].bias), mems[1])
        record.append(out)
    record = torch.stack(record)
    assert torch.equal(record, outputs.detach())
    sf.ce_rate_loss()(record, y).backward()
    if reset == "zero":
        # snnTorch differentiates the membrane it has just reset, we the one that fired; the direction is the same.
        for mine, p in zip(ours, net.parameters(), strict=True):
            assert torch.cosine_similarity(mine.flatten(), p.grad.flatten(), 0) > 0.9
        return
    for mine, p in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, rtol=1e-4, atol=1e-7)


def test_gradients_of_a_reset_at_once_are_those_of_autograd():
    """The reset, ``θ S`` before the decay, is detached as in snnTorch's other resets."""
    layer = nn.LIF(0.8, 0.5, "immediate", learn_beta=True)
    x, start, weights = torch.randn(10, 6, 7), torch.randn(6, 7), torch.randn(10, 6, 7)
    slope = surrogate.fast_sigmoid(slope=5)
    grads = []
    for written_out in (True, False):
        current, first = x.clone().requires_grad_(), start.clone().requires_grad_()
        beta = torch.tensor(0.8, requires_grad=True)
        if written_out:
            membrane, record = first, []
            for step in current:
                membrane = beta * (membrane - 0.5 * (membrane > 0.5).float()) + step
                record.append(slope(membrane - 0.5))
            spikes = torch.stack(record)
        else:
            with rules.using(layer, rules.Surrogate(slope=5)):
                spikes = layer.run(current, first)[0]
        assert 0.1 < spikes.mean() < 0.9
        (spikes * weights).sum().backward()
        grads.append((spikes.detach(), current.grad, first.grad, beta.grad if written_out else layer.decay.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    for expected, found in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_plain_gradients_of_spikes_are_zero():
    net = nn.Sequential(nn.Linear(4, 8), nn.LIF(), nn.Linear(8, 3), nn.Heaviside())
    with rules.using(net, rules.Gradient()):
        net(torch.rand(5, 2, 4) * 3).sum().backward()
    assert all(not p.grad.any() for p in net.parameters())


def test_using_gives_the_rules_back_even_after_an_error():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    before = [layer.rule for layer in net]
    with contextlib.suppress(ZeroDivisionError), rules.using(net, rules.Gradient()):
        assert all(isinstance(layer.rule, rules.Gradient) for layer in net)
        raise ZeroDivisionError
    assert [layer.rule for layer in net] == before


def test_unknown_surrogates_are_named():
    with pytest.raises(UserError, match="did you mean 'fast-sigmoid'"):
        rules.Surrogate("fast_sigmoid")
    with pytest.raises(UserError, match="slope"):
        rules.Surrogate(slope=-1)
