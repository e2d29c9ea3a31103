"""A network run as it is, to compare with."""

import torch

from spikelfp import propagate


def updates(net):
    found = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    return found


def assert_same(found, expected, tolerance=1e-10):
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, float(b.detach().abs().max()))
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * scale)


def plain(net, x):
    """Output, a reward, and the updates of a plain run."""
    out = net(x)
    reward = torch.randn_like(out)
    propagate(out, reward)
    assert out.any()
    return out.detach(), reward, updates(net)
