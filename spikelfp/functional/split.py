r"""Linear maps whose rule treats positive and negative contributions apart.

Into neuron ``j`` flow the contributions ``z_ij = w_ij a_i`` (the bias is one with ``a = 1``); their sums are::

    z_j⁺ = Σ_i max(z_ij, 0)        z_j⁻ = Σ_i min(z_ij, 0)        z_j = z_j⁺ + z_j⁻

A rule answers with two messages per neuron, ``p_j`` for positive contributions and ``q_j`` for negative ones::

    r_ij = z_ij c_ij        d_w_ij = |w_ij| a_i c_ij        c_ij = p_j if z_ij ≥ 0 else q_j

so that the backward pass is that of the two linear maps ``z⁺`` and ``z⁻``: no contribution is ever written out.
It runs in the dtype of the weights, whatever a forward pass under autocast was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LinearMap = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""A map ``(input, weight, bias) → output`` that is linear in the input and affine in the parameters."""

Shares = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(n, z, z⁺, z⁻) → (p, q)``, all of the shape of the output; ``n`` is the message to ``z`` (reward ``r = z n``)."""


def signed_sums(op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """``z⁺`` and ``z⁻`` of ``op(x, weight, bias)``: two products for an input without negatives, else four."""
    rising, falling = weight.clamp(min=0), weight - weight.clamp(min=0)
    up = None if bias is None else bias.clamp(min=0)
    down = None if bias is None or up is None else bias - up
    if not (x < 0).any():
        return op(x, rising, up), op(x, falling, down)
    above = x.clamp(min=0)
    below = x - above
    return op(above, rising, up) + op(below, falling, None), op(above, falling, down) + op(below, rising, None)


class SplitLinear(Function):
    """``op(x, weight, bias)`` with the backward pass above; parameters receive ``−d_w``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, op: LinearMap, shares: Shares) -> Tensor:
        z = op(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        ctx.op, ctx.shares = op, shares
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        wanted = [i for i in range(3) if ctx.needs_input_grad[i]]
        leaves = [None if t is None else t.detach() for t in (x.to(weight.dtype), weight, bias)]
        sources = [leaf.requires_grad_() for i in wanted if (leaf := leaves[i]) is not None]
        with torch.enable_grad():
            plus, minus = signed_sums(ctx.op, *leaves)  # type: ignore[arg-type]
        shares = ctx.shares(message, z, plus.detach(), minus.detach())
        grads = torch.autograd.grad((plus, minus), sources, shares)
        out: list[Tensor | None] = [None] * 5
        for i, source, grad in zip(wanted, sources, grads, strict=True):
            out[i] = grad if i == 0 else source.detach().abs().mul_(grad).neg_()
        return tuple(out)


class MagnitudeShare(Function):
    """Identity on ``z = op(x, weight, bias)`` that replaces the message ``n`` to ``z`` by::

    |z| n / (z⁺ + |z⁻| + ε)        z⁺ + |z⁻| = Σ_i |z_ij|
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, op: LinearMap, eps: float
    ) -> Tensor:
        ctx.save_for_backward(z, x, weight, bias)
        ctx.op, ctx.eps = op, eps
        return z.view_as(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        z, x, weight, bias = ctx.saved_tensors
        total = ctx.op(x.to(weight.dtype).abs(), weight.abs(), None if bias is None else bias.abs())
        return (z.abs() * message).div_(total.add_(ctx.eps)), None, None, None, None, None
