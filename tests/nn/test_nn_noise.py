"""Noise and dropout: what they do to a signal, and that rewards pass as they should."""

import pytest
import torch
from references import network
from references.cases import build
from references.compare import close

from spikelfp import nn, propagate, rules
from spikelfp.errors import UserError
from spikelfp.functional.credit import backward_pass


def test_rewards_pass_noise_as_if_it_were_not_there():
    layer = nn.Noise(0.5)
    x = torch.randn(3, 4, 5).double().requires_grad_()
    out = layer(x)
    assert (out != x).all()
    message = torch.randn_like(out)
    with backward_pass():
        out.backward(message)
    assert torch.equal(x.grad, message)


def test_updates_behind_noise_are_those_of_the_noisy_signal():
    net = build(rules.Epsilon(), nn.Noise(0.5), nn.Linear(5, 4), nn.Tanh(), nn.Noise(0.5), nn.Linear(4, 3))
    x = torch.randn(2, 3, 5).double()
    noisy, between = [], []
    net[0].register_forward_hook(lambda *a: noisy.append(a[-1]))
    net[3].register_forward_hook(lambda *a: between.append(a[-1] - a[1][0]))
    out = net(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    found: dict = {}
    hidden, back_hidden = network.run(net[1:3], noisy[0].detach().numpy(), found)
    output, back_output = network.run(net[4], hidden + between[0].detach().numpy(), found)
    close(out, output, 1e-10, "output")
    noisy_reward = back_output(network.stabilise_all(output, reward.numpy(), 1e-6))
    # Messages pass: the reward of a + noise is m (a + noise), that of a is m a.
    noisy_hidden = hidden + between[0].detach().numpy()
    back_hidden(noisy_reward / noisy_hidden * hidden)
    for p in net.parameters():
        close(-p.grad, found[p], 1e-9, "update")


def test_noise_has_its_deviation_in_training_alone():
    layer = nn.Noise(0.3)
    added = layer(torch.zeros(10, 50, 50))
    assert abs(float(added.std()) - 0.3) < 0.01
    assert abs(float(added.mean())) < 0.01
    assert not torch.equal(added[0], added[1])
    assert torch.equal(layer.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))
    x = torch.ones(2, 3, 4)
    assert nn.Noise(0.0)(x) is x


def test_noise_of_a_constant_sequence_is_constant():
    out = nn.Noise(0.3)(nn.constant(torch.zeros(4, 5), 7))
    assert out.stride(0) == 0
    assert out.any()


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf")])
def test_impossible_noise_is_named(sigma):
    with pytest.raises(UserError, match=f"got {sigma}"):
        nn.Noise(sigma)


def test_dropped_elements_earn_nothing_and_the_others_their_share():
    """``a' = a · mask / (1 − p)``: the reward of ``a'`` is that of ``a`` where it was kept, and none is lost."""
    x = torch.randn(5, 3, 40).double().requires_grad_()
    out = nn.Dropout(0.4)(x)
    kept = out != 0
    assert 0.4 < kept.double().mean() < 0.8
    assert torch.equal(kept[0], kept[4])
    torch.testing.assert_close(out[kept], x[kept] / 0.6)
    message = torch.randn_like(out)
    with backward_pass():
        out.backward(message)
    torch.testing.assert_close(x * x.grad, out * message)
    assert not x.grad[~kept].any()


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), nn.Noise(0.4)])
def test_constant_sequences_get_the_messages_of_all_their_steps(layer):
    images = torch.randn(3, 40).double().requires_grad_()
    out = layer(nn.constant(images, 5))
    assert (out[0] != images).all()  # noisy; silenced, or scaled up for those that are
    message = torch.randn_like(out)
    with backward_pass():
        out.backward(message)
    scale = (out[0] / images if isinstance(layer, nn.Dropout) else torch.ones(3, 40)).detach()
    torch.testing.assert_close(images.grad, message.sum(0) * scale)


def test_dropout_masks_differ_from_pass_to_pass_and_within_a_batch():
    layer, x = nn.Dropout(0.5), torch.ones(2, 4, 100)
    assert not torch.equal(layer(x), layer(x))
    out = layer(x)
    assert not torch.equal(out[0, 0], out[0, 1])
