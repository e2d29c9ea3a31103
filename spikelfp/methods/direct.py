"""Gradients of a dense layer with an activation behind it, by two formulas instead of a backward pass.

Starting autograd's engine for each block costs more than the product of weights that a block is spared. For the most
common block of a static network, ``h = φ(x Wᵀ + b)``, the gradients of ``h`` give those of the weights at once::

    δz = δh ⊙ φ′(z),    δW = δzᵀ x,    δb = Σ δz

These are the very products that autograd makes, so the results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as torch_module

from spikelfp import nn
from spikelfp.kernels.events.linear import DenseLinear, dense_gradients

_SLOPES: dict[type[Module], Callable[[Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda to_h, h: torch.ops.aten.threshold_backward.default(to_h, h, 0),
    nn.Sigmoid: torch.ops.aten.sigmoid_backward.default,
    nn.Tanh: torch.ops.aten.tanh_backward.default,
}
"""Functions of ``δh`` and ``h = φ(z)`` that return ``δh ⊙ φ′(z)``, as autograd has them."""
_NODES = {"ReluBackward0", "SigmoidBackward0", "TanhBackward0"}


def learn_directly(layers: Sequence[Module], hidden: Tensor, gradient: Tensor) -> bool:
    """Add the gradients of a block to ``p.grad``, if it is one dense layer and one activation in plain use.

    Blocks of other layers, small products, events, sequences, quantised weights, and whatever somebody else watches by
    a hook are left to autograd.

    Args:
        layers: layers of the block.
        hidden: its output ``[1, B, n]``, with its graph.
        gradient: of the output.

    Returns:
        Whether it was done.
    """
    if len(layers) != 2 or type(layers[0]) is not nn.Linear or type(layers[1]) not in _SLOPES:
        return False
    node: Any = hidden.grad_fn
    if type(node).__name__ not in _NODES or _watched(layers[0], hidden):
        return False
    product, kind = node.next_functions[0][0], getattr(DenseLinear, "_backward_cls")  # noqa: B009  (of torch's making)
    if type(product) is not kind:
        return False
    before, *leaves = [following for following, _ in product.next_functions]  # of x, W, and b if there is one
    learning = [getattr(leaf, "variable", None) for leaf in leaves]
    if before is not None or any(p is None for p, leaf in zip(learning, leaves, strict=True) if leaf is not None):
        return False
    if any(p is not None and (p._backward_hooks or p._post_accumulate_grad_hooks) for p in learning):
        return False
    x, weight = product.saved_tensors
    with torch.no_grad():
        messages = _SLOPES[type(layers[1])](gradient, node._saved_result).reshape(-1, len(weight))
        needs = [False, *(p is not None for p in learning), False][:3]
        rows = x.reshape(-1, x.shape[-1])
        for p, own in zip(learning, dense_gradients(messages, rows, weight, needs)[1:], strict=False):
            if p is None:
                continue
            if p.grad is None:
                p.grad = own
            else:
                p.grad += own
    return True


def _watched(layer: Module, hidden: Tensor) -> bool:
    """Whether somebody may have put a hook on the output of the dense layer or of the block, or looks for NaN."""
    anyone = torch_module._global_forward_hooks or torch_module._global_backward_hooks
    return bool(layer._forward_hooks or anyone or hidden._backward_hooks or torch.is_anomaly_enabled())
