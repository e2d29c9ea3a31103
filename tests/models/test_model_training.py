"""Every model learns three classes of images under LFP-ε."""

import pytest
import torch
import torch.nn.functional as F

from spikelfp import models, nn, propagate, rewards
from spikelfp.models import ModelSpec, build
from spikelfp.training.update import wake_silent_layers

CLASSES = 3


def images(count, side):
    """A bright bar in the upper, middle or lower third, and noise."""
    labels = torch.arange(count) % CLASSES
    rows = torch.arange(side) * CLASSES // side
    bars = (rows == labels.unsqueeze(1)).float()[:, None, :, None].expand(-1, 1, -1, side)
    return (bars + 0.15 * torch.randn(count, 1, side, side)).clamp(0, 1), labels


def train(net, side, updates, lr, steps=1, batch=32):
    """Train on fresh images, with a one-cycle schedule."""
    optimizer = torch.optim.Adam(net.parameters(), lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=updates)
    reward = rewards.SpikeSequence() if steps > 1 else rewards.Softmax()
    wake_silent_layers(net.train(), nn.constant(images(batch, side)[0], steps))  # as the trainer does
    for _ in range(updates):
        x, labels = images(batch, side)
        out = net(nn.constant(x, steps))
        optimizer.zero_grad()
        propagate(out, reward(out, labels) / batch)
        optimizer.step()
        schedule.step()
    return net


@torch.no_grad()
def evaluate(net, side, steps=1):
    """Outputs of unseen images in evaluation mode, and the labels."""
    x, labels = images(60, side)
    return net.eval()(nn.constant(x, steps)).sum(0), labels


def accuracy(net, side, steps=1):
    outputs, labels = evaluate(net, side, steps)
    return (outputs.argmax(-1) == labels).float().mean().item()


@pytest.mark.parametrize(
    ("name", "options", "side", "updates", "lr"),
    [
        ("mlp", {"hidden": (32,)}, 16, 30, 3e-3),
        ("lenet", {}, 16, 15, 3e-3),
        ("vgg-like", {"width": 8}, 16, 30, 3e-3),
        pytest.param("vgg16", {"width": 8}, 32, 60, 3e-3, marks=pytest.mark.slow),
        pytest.param("vgg16-bn", {"width": 8}, 32, 120, 3e-4, marks=pytest.mark.slow),
        ("resnet18", {"width": 8}, 16, 50, 3e-4),
        pytest.param("resnet34", {"width": 8}, 16, 60, 2e-4, marks=pytest.mark.slow),
        ("vit", {"width": 32, "depth": 2, "heads": 2}, 16, 40, 3e-3),
        (
            "vit",
            {"width": 16, "depth": 2, "heads": 4, "tokens": "all", "activation": "tanh", "head_width": 32},
            16,
            40,
            3e-3,
        ),
    ],
)
def test_static_networks_learn(name, options, side, updates, lr):
    net = build(ModelSpec(name, (1, side, side), CLASSES, **options))
    outputs, labels = evaluate(train(net, side, updates, lr), side)
    assert F.cross_entropy(outputs, labels) < 0.5  # ln 3 = 1.1 by chance
    assert (outputs.argmax(-1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("name", "options", "updates", "lr"),
    [
        ("lif-mlp", {"hidden": (40, 40)}, 30, 3e-3),
        ("lif-lenet", {}, 40, 3e-3),
        pytest.param("lif-vgg-like", {"width": 8}, 60, 3e-3, marks=pytest.mark.slow),
        pytest.param("lif-resnet18", {"width": 8}, 60, 1e-3, marks=pytest.mark.slow),
        ("lif-vit", {"width": 32, "depth": 1, "heads": 2}, 40, 3e-3),
    ],
)
def test_spiking_networks_learn(name, options, updates, lr):
    net = build(ModelSpec(name, (1, 16, 16), CLASSES, **options))
    assert accuracy(train(net, 16, updates, lr, steps=6), 16, steps=6) > 0.8


@pytest.mark.parametrize("activation", ["leaky-relu", "silu", "gelu", "elu", "tanh"])
def test_networks_of_other_activations_learn(activation):
    net = models.mlp([256, 32, 32, CLASSES], activation=activation)
    assert accuracy(train(net, 16, 30, 3e-3), 16) > 0.9


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_heaviside_networks_learn(noise):
    net = models.mlp([256, 64, 64, CLASSES], activation="heaviside", noise=noise)
    assert accuracy(train(net, 16, 60, 3e-3), 16) > 0.9
