"""Holding a network's output, messages and updates against the slow ones."""

from __future__ import annotations

import numpy as np
import torch
from references import network

from spikelfp import propagate


def assert_equals_slow(
    net: torch.nn.Module,
    x: torch.Tensor,
    *,
    linear: bool,
    eps: float = 1e-6,
    tolerance: float = 1e-10,
    reward: torch.Tensor | None = None,
) -> torch.Tensor:
    """``propagate`` leaves what the slow version computes, for a random reward; returns the output.

    linear: whether the network ends in linear outputs, whose ε is ``eps``. tolerance: relative to each number and
    to the largest of its tensor, since small ones are differences of large ones.
    """
    x = x.clone().requires_grad_()
    net.zero_grad()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    out = net(x)
    reward = torch.randn_like(out) if reward is None else reward
    propagate(out, reward, eps=eps)
    for name, buffer in net.named_buffers():
        buffer.copy_(before[name])
    slow, of_input, found = network.updates(net, x, reward, eps if linear else None)
    close(out, slow, tolerance, "output")
    close(x * x.grad, of_input, tolerance, "reward of the input")
    names = {parameter: name for name, parameter in net.named_parameters()}
    assert set(found) == set(names), "the slow version met other parameters"
    for parameter, amount in found.items():
        close(-parameter.grad, amount, tolerance, names[parameter])
    return out.detach()


def close(fast: torch.Tensor, slow: np.ndarray, tolerance: float, what: str) -> None:
    """Equal to ``tolerance``, of each number and of the largest."""
    scale = max(1.0, float(np.abs(slow).max(initial=0.0)))
    torch.testing.assert_close(
        fast.detach(), torch.as_tensor(slow), rtol=tolerance, atol=tolerance * scale, msg=lambda m: f"{what}: {m}"
    )
