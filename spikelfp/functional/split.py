r"""Linear maps under a rule that treats positive and negative contributions separately.

Into neuron ``j`` flow the contributions ``z_ij = w_ij a_i`` (the bias is one with ``a = 1``); their sums are::

    z_j⁺ = Σ_i max(z_ij, 0)        z_j⁻ = Σ_i min(z_ij, 0)        z_j = z_j⁺ + z_j⁻

A rule answers with two messages per neuron, ``p_j`` for positive contributions and ``q_j`` for negative ones::

    r_ij = z_ij c_ij        d_w_ij = |w_ij| a_i c_ij        c_ij = p_j if z_ij ≥ 0 else q_j

so that the backward pass is that of the two linear maps ``z⁺`` and ``z⁻``: no contribution is ever stored.
It runs in the dtype of the weights, also after a forward pass under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node

from spikelfp.functional.credit import LayerOutput, below_moves, check_pass, forward_class, keep_node, stabilise
from spikelfp.functional.sequence import chosen

LinearMap = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""A map ``(input, weight, bias) → output`` that is linear in the input and affine in the parameters."""

Shares = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(r, z, z⁺, z⁻) → (p, q)``, all of the shape of the output; ``r`` is the reward of ``z``."""


def divided_by(z: Tensor, eps: float) -> None:
    """Note in the graph that the messages to ``z`` were divided by ``z + sign(z) ε``, since neurons follow.

    The maps here compute the reward of ``z`` from the message ``n`` to it. Before neurons the reward is
    ``(z + sign(z) ε) n``, also at ``z = 0``; before another linear map it is ``z n``. So ε enters once for each neuron.
    """
    divide(z.grad_fn, eps)


divided_by._torchdynamo_disable = True  # type: ignore[attr-defined]


def divide(node: Node | None, eps: float) -> None:
    """Do as :func:`divided_by` for the node of ``z``; nodes of other maps stay as they are."""
    node = below_moves(node)
    # After a max-pooling only the winner reaches the neuron; the others get no message.
    while node is not None and (forward_class(node) is LayerOutput or node.name().startswith("MaxPool")):
        node = below_moves(node.next_functions[0][0])
    if node is not None and issubclass(forward_class(node), (SplitLinear, MagnitudeShare)):
        node.divided_by = eps  # type: ignore[attr-defined]


def _reward(ctx: Any, z: Tensor, message: Tensor) -> Tensor:
    """Compute the reward of ``z`` from the message to it."""
    check_pass()
    eps = getattr(ctx, "divided_by", 0.0)
    return (stabilise(z, eps) if eps else z) * message


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``max(v, 0)`` and ``min(v, 0)``; for a sparse ``v`` its positive and its negative entries."""
    if values.is_sparse:
        return chosen(values, values.values() > 0), chosen(values, values.values() < 0)
    return values.clamp(min=0), values.clamp(max=0)


def input_halves(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split an input into its positive and negative half; ``(x, None)`` where nothing is negative."""
    return halves(x) if ((x.values() if x.is_sparse else x) < 0).any() else (x, None)


def signed_sums(
    op: LinearMap,
    x: tuple[Tensor, Tensor | None],
    weight: tuple[Tensor, Tensor],
    bias: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Compute ``z⁺`` and ``z⁻`` from the positive and negative halves of input, weight and bias.

    That takes two products for an input without negative values, else four.
    """
    plus, minus = op(x[0], weight[0], bias[0]), op(x[0], weight[1], bias[1])
    if x[1] is None:
        return plus, minus
    return plus + op(x[1], weight[1], None), minus + op(x[1], weight[0], None)


class SplitLinear(Function):
    """``op(x, weight, bias)`` with the backward pass above; parameters receive ``−d_w``."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        op: LinearMap,
        shares: Shares,
        eps: float | None = None,
    ) -> Tensor:
        keep_node()
        z = op(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, z)
        ctx.op, ctx.shares, ctx.output_eps = op, shares, eps
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        parts: list[tuple[Any, Any]] = [input_halves(x.detach().to(weight.dtype)), halves(weight.detach())]
        parts.append((None, None) if bias is None else halves(bias.detach()))
        for wanted, pair in zip(ctx.needs_input_grad, parts, strict=False):
            for half in pair if wanted else ():
                if half is not None:
                    half.requires_grad_()
        with torch.enable_grad():
            plus, minus = signed_sums(ctx.op, *parts)
        shares = ctx.shares(_reward(ctx, z, message), z, plus.detach(), minus.detach())
        leaves = [half for pair in parts for half in pair if half is not None and half.requires_grad]
        grads = dict(zip(map(id, leaves), torch.autograd.grad((plus, minus), leaves, shares), strict=True))
        to_x, to_weight, to_bias = (tuple(grads.get(id(half)) for half in pair) for pair in parts)
        if to_x[0] is not None and to_x[1] is not None:
            to_x = (torch.where(x >= 0, to_x[0], to_x[1]), None)
        return to_x[0], _step(parts[1], to_weight), _step(parts[2], to_bias), None, None, None


def _step(pair: tuple[Tensor, Tensor], grads: tuple[Tensor | None, ...]) -> Tensor | None:
    """Compute ``−d_w = −|w| Σ a c`` from the halves of the weights, one of which is 0 for each weight."""
    if grads[0] is None or grads[1] is None:
        return None
    return (pair[1].detach() * grads[1]).sub_(grads[0].mul_(pair[0].detach()))


class MagnitudeShare(Function):
    """Identity on ``z = op(x, weight, bias)`` that replaces the message to ``z``, whose reward is ``r``, by::

    sign(z) r / (z⁺ + |z⁻| + ε)        z⁺ + |z⁻| = Σ_i |z_ij|,  sign(0) = 1
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, op: LinearMap, eps: float
    ) -> Tensor:
        keep_node()
        ctx.save_for_backward(z, x, weight, bias)
        ctx.op, ctx.eps, ctx.output_eps = op, eps, eps
        return z.view_as(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        z, x, weight, bias = ctx.saved_tensors
        total = ctx.op(x.to(weight.dtype).abs(), weight.abs(), None if bias is None else bias.abs())
        reward = _reward(ctx, z, message)
        return torch.where(z >= 0, reward, -reward).div_(total.add_(ctx.eps)), None, None, None, None, None
