"""Deep spiking networks: spikes reach the output at the start, and states carry over."""

import pytest
import torch

from spikelfp import models, nn, propagate, rewards
from spikelfp.models import ModelSpec, build
from spikelfp.training.update import SILENT, wake_silent_layers

SPIKING = [name for name in models.models if models.is_spiking(name)]


def small(name):
    return build(ModelSpec(name, (2, 16, 16), 4, hidden=(30, 30), width=8, depth=2, heads=2))


@pytest.mark.parametrize("name", ["lif-vgg-like", "lif-resnet18", "lif-vit"])
def test_spikes_reach_every_layer_at_the_start(name):
    net, rates = small(name), {}
    for path, layer in net.named_modules():
        if isinstance(layer, nn.LIF):
            layer.register_forward_hook(lambda layer, given, out, path=path: rates.update({path: out.mean().item()}))
    x = nn.constant(torch.rand(16, 2, 16, 16), 10)
    net.train()(x)
    assert min(list(rates.values())[:-1]) > SILENT, rates
    assert max(rates.values()) < 0.8
    assert wake_silent_layers(net, x) == {}  # nothing to do


@pytest.mark.parametrize("name", ["lif-vgg-like", "lif-resnet18", "lif-vit"])
def test_a_reward_reaches_every_layer_at_the_start(name):
    net = small(name).train()
    out = net(nn.constant(torch.rand(16, 2, 16, 16), 8))
    propagate(out, rewards.SpikeSequence()(out, torch.arange(16) % 4))
    for path, parameter in net.named_parameters():
        assert torch.isfinite(parameter.grad).all(), path
        assert parameter.grad.any() == parameter.any(), path  # a parameter of exactly 0 (BatchNorm's β) stays so


@pytest.mark.parametrize("name", SPIKING)
@torch.no_grad()
def test_a_sequence_in_parts_equals_the_whole(name):
    net, x = small(name), torch.rand(9, 3, 2, 16, 16)
    wake_silent_layers(net.train(), x)  # also takes the statistics of BatchNorm
    net.eval()
    whole, end = net.run(x)
    head, state = net.run(x[:4])
    middle, state = net.run(x[4:5], state)
    tail, state = net.run(x[5:], state)
    assert torch.equal(torch.cat([head, middle, tail]), whole)
    assert torch.equal(whole, net(x))
    # Membranes of the outputs: a product of few rows may sum in another order than one of many.
    assert torch.allclose(state[-1], end[-1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(net.run(x[5:])[1][-1], end[-1], rtol=1e-3, atol=1e-3)
