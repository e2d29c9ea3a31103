"""The autograd functions that turn backpropagation into LFP, one by one."""

import pytest
import torch

from spikelfp import nn, propagate
from spikelfp.functional.credit import (
    HalfCredit,
    MagnitudeStep,
    NormalisedReward,
    SecantActivation,
    SecantReLU,
    backward_pass,
)


def back(function, x, message, *arguments):
    x = x.clone().requires_grad_()
    out = function.apply(x, *arguments)
    with backward_pass():
        out.backward(message)
    return out.detach(), x.grad


def test_magnitude_step_turns_a_gradient_into_an_update():
    w, message = torch.tensor([2.0, -3.0, 0.0]), torch.tensor([5.0, 7.0, 9.0])
    out, grad = back(MagnitudeStep, w, message)
    assert torch.equal(out, w)
    assert grad.tolist() == [-10.0, -21.0, 0.0]


def test_half_credit():
    out, grad = back(HalfCredit, torch.tensor([2.0, -3.0]), torch.tensor([5.0, 7.0]))
    assert out.tolist() == [2.0, -3.0]
    assert grad.tolist() == [2.5, 3.5]


@pytest.mark.parametrize("how", ["sample", "step"])
def test_the_largest_normalised_reward_of_a_sample_is_its_weight_or_all_stay_zero(how):
    x = torch.tensor([3.0, -2.0, 0.5]).expand(4, 2, 3).clone().requires_grad_()
    message = torch.randn(4, 2, 3)
    message[:, 1] = 0.0
    with backward_pass(weight=0.5):
        NormalisedReward.apply(x, how).backward(message)
    reward, given = (x * x.grad).detach(), (x * message).detach()
    largest = given.abs().amax((0, 2) if how == "sample" else 2, keepdim=True)
    torch.testing.assert_close(reward[:, 0], (0.5 * given / largest)[:, 0])
    assert not reward[:, 1].any()


@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.1])
def test_the_short_way_of_relu_is_that_of_any_activation(eps):
    z, message = torch.randn(2, 4, 50).double()
    z[0, :5] = 0.0
    for a, b in zip(
        back(SecantReLU, z, message, eps), back(SecantActivation, z, message, torch.relu, eps, False), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_an_output_reward_belongs_to_one_backward_pass():
    z = torch.randn(1, 2, 3).double().requires_grad_()
    out = nn.Heaviside()(z)
    reward = torch.randn_like(out)
    propagate(out, reward, retain_graph=True)
    first = z.grad.clone()
    propagate(out, reward, retain_graph=True)
    torch.testing.assert_close(z.grad, 2 * first)
    z.grad = None
    with backward_pass():
        out.backward(torch.zeros_like(out))
    assert not z.grad.any()


def test_several_outputs_take_their_own_rewards():
    """Two heads: neurons and linear outputs in one pass equal two passes."""
    body = nn.Sequential(nn.Linear(4, 6), nn.LIF(0.9, 0.3)).double()
    spiking, linear = nn.Sequential(nn.Linear(6, 3), nn.LIF(0.9, 0.3)).double(), nn.Linear(6, 2).double()
    modules = torch.nn.ModuleList([body, spiking, linear])
    x = torch.randn(5, 2, 4).double() * 2
    hidden = body(x)
    outs = [spiking(hidden), linear(hidden)]
    rewards = [torch.randn_like(out) for out in outs]
    propagate(outs, rewards)
    together = [p.grad.clone() for p in modules.parameters()]
    modules.zero_grad()
    for head, reward in zip((spiking, linear), rewards, strict=True):
        propagate(head(body(x)), reward)
    for p, grad in zip(modules.parameters(), together, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-10, atol=1e-10)
