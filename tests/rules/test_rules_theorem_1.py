"""Theorem 1 (v3, section 3.3, A.2): LFP-0 with ``r_c = o_c (−dL/do_c)`` is gradient descent scaled by ``|w|``.

The gradient is autograd's, of the same network put together from torch's functions alone.
"""

import pytest
import torch
import torch.nn.functional as F
from references.cases import build

from spikelfp import nn, propagate, rewards, rules


def dense(activation):
    return (nn.Linear(6, 9), activation(), nn.Linear(9, 7), activation(), nn.Linear(7, 3)), (6,)


def nothing():
    return nn.Identity()


NETWORKS = {
    "relu": lambda: dense(nn.ReLU),
    "leaky-relu": lambda: dense(lambda: nn.LeakyReLU(0.2)),
    "linear": lambda: dense(nothing),
    "max-pooling": lambda: (
        (nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=2), nn.LeakyReLU(),
         nn.Flatten(), nn.Linear(16, 3)), (2, 8, 8),
    ),
    "average-pooling": lambda: (
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 5),
         nn.ReLU(), nn.Linear(5, 3)), (2, 8, 8),
    ),
    "sum": lambda: (
        (nn.Linear(6, 8), nn.ReLU(), nn.Sum(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), nn.Identity()),
         nn.ReLU(), nn.Linear(8, 3)), (6,),
    ),
    "concatenation": lambda: (
        (nn.Linear(6, 8), nn.ReLU(), nn.Concat(nn.Sequential(nn.Linear(8, 4), nn.LeakyReLU(0.1)), nn.Identity()),
         nn.Linear(12, 3)), (6,),
    ),
}  # fmt: skip

LOSSES = {
    "softmax-cross-entropy": (lambda o, y: F.cross_entropy(o, y, reduction="sum"), rewards.Softmax()),
    "sigmoid-cross-entropy": (
        lambda o, y: F.binary_cross_entropy_with_logits(o, F.one_hot(y, 3).double(), reduction="sum"),
        rewards.Sigmoid(),
    ),
    "squared-error": (lambda o, y: (o - F.one_hot(y, 3)).square().sum() / 2, None),
}


def plain(layer, x):
    """One step ``[B, …]`` through a layer, by torch's functions."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = plain(part, x)
        return x
    if isinstance(layer, nn.Sum):
        return sum(plain(branch, x) for branch in layer.branches)
    if isinstance(layer, nn.Concat):
        return torch.cat([plain(branch, x) for branch in layer.branches], 1)
    return {
        nn.Linear: lambda: F.linear(x, layer.weight, layer.bias),
        nn.Conv2d: lambda: F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups),
        nn.ReLU: lambda: x.clamp(min=0),
        nn.LeakyReLU: lambda: F.leaky_relu(x, layer.negative_slope),
        nn.MaxPool2d: lambda: F.max_pool2d(x, 2),
        nn.AvgPool2d: lambda: F.avg_pool2d(x, 2),
        nn.Flatten: lambda: x.flatten(1),
        nn.Identity: lambda: x,
    }[type(layer)]()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_lfp_0_is_weight_scaled_gradient_descent(network, loss):
    layers, shape = NETWORKS[network]()
    net = build(rules.Zero(), *layers)
    x, y = torch.randn(5, *shape).double(), torch.tensor([0, 2, 1, 1, 0])
    criterion, known = LOSSES[loss]

    out = plain(net, x)
    lost = criterion(out, y)
    (slope,) = torch.autograd.grad(lost, out, retain_graph=True)
    gradients = torch.autograd.grad(lost, list(net.parameters()))

    ours = net(x.unsqueeze(0))
    torch.testing.assert_close(ours[0], out, rtol=1e-12, atol=1e-12)
    reward = -out.detach() * slope
    if known is not None:
        torch.testing.assert_close(known(ours, y)[0], reward, rtol=1e-12, atol=1e-12)
    propagate(ours, reward.unsqueeze(0), eps=0.0)
    for (name, p), gradient in zip(net.named_parameters(), gradients, strict=True):
        assert gradient.any()
        torch.testing.assert_close(
            p.grad, p.detach().abs() * gradient, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_one_step_of_descent_is_the_papers_update():
    """``w_new = w − η |w| dL/dw``, by torch's own optimiser."""
    net = build(rules.Zero(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    x, y = torch.randn(5, 4).double(), torch.tensor([0, 2, 1, 1, 0])
    before = [p.detach().clone() for p in net.parameters()]
    gradients = torch.autograd.grad(F.cross_entropy(plain(net, x), y, reduction="sum"), list(net.parameters()))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    outputs = net(x.unsqueeze(0))
    propagate(outputs, rewards.Softmax()(outputs, y), eps=0.0)
    optimizer.step()
    for p, old, gradient in zip(net.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * old.abs() * gradient, rtol=1e-11, atol=1e-11)
