r"""Reward and message, and the few autograd functions that turn backpropagation into LFP-ε.

Write the reward of a neuron as ``r = a · m``: activation times *message* (reward per unit of activation).
The ε-rule of LFP (v3, eq. 6-7) then becomes backpropagation with two changes::

    activation      m_z = m_a · φ(z) / (z + sign(z) ε)       a secant slope for the derivative   (eq. 6)
    parameter       d_w = |w| · Σ m_z a                      autograd's weight gradient times |w| (eq. 7)

while every linear map sends its message back as autograd does, ``m_in = Wᵀ m_z``. Throughout ``sign(0) = 1``
(v3, section 3.1.2). What reaches ``.grad`` of a parameter is ``−d_w``, so that any torch optimiser *ascends*
the reward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import GradientEdge, Node

from spikelfp.memory import empty


def stabilise(z: Tensor, eps: float) -> Tensor:
    """``z + sign(z) ε`` with ``sign(0) = 1`` (v3, section 3.1.2)."""
    return z + torch.copysign(torch.full((), eps, dtype=z.dtype, device=z.device), z + 0.0)


def to_message(reward: Tensor, activation: Tensor, eps: float) -> Tensor:
    """``m = r / (a + sign(a) ε)``: reward per unit of activation; for ε = 0 (LFP-0) nothing where ``a = 0``."""
    if eps == 0:
        silent = activation == 0
        return (reward / torch.where(silent, 1, activation)).masked_fill_(silent, 0)
    return reward / stabilise(activation, eps)


class NeuronNode:
    """Mixin of the autograd nodes of neurons: they can be handed a reward as it is.

    A hidden neuron's reward arrives as a message and is multiplied by its activation, so a silent neuron gets
    nothing. The *initial* reward belongs to the output neuron itself, spike or no spike (A.4 rewards silence
    too); :func:`spikelfp.propagate` leaves it here before it starts the backward pass.
    """

    output_reward: Tensor | None = None

    @staticmethod
    def take_reward(ctx: Any) -> Tensor | None:
        """The reward left on this node, which is then gone: it belongs to one backward pass."""
        reward, ctx.output_reward = getattr(ctx, "output_reward", None), None
        return reward


def keep_node() -> None:
    """Called in ``forward`` of every :class:`NeuronNode`: torch's compiler then leaves that function to autograd.

    Traced into a graph the node would be gone, and with it the place where an output reward is handed over.
    """


keep_node._torchdynamo_disable = True  # type: ignore[attr-defined]


# Nodes that only move or cast values: a neuron's output stays a neuron's output behind them.
_TRANSPARENT = {
    f"{name}Backward0"
    for name in (
        "View", "UnsafeView", "ReshapeAlias", "Alias", "ToCopy", "Clone", "Squeeze", "Unsqueeze", "Permute",
        "Transpose", "T",
    )
}  # fmt: skip


def neurons_behind(node: Node | None) -> Node | None:
    """The neurons whose outputs these are, looking through nodes that only move values; else ``None``."""
    while node is not None:
        if issubclass(getattr(node, "_forward_cls", object), NeuronNode):
            return node
        if node.name() not in _TRANSPARENT:
            return None
        node = node.next_functions[0][0]
    return None


def hand_over(outputs: Tensor, reward: Tensor) -> bool:
    """Leave ``reward`` at the neurons whose outputs these are; ``False`` where they are not those of neurons."""
    neurons = neurons_behind(outputs.grad_fn)
    if neurons is None:
        return False
    if neurons is not outputs.grad_fn:
        (reward,) = torch.autograd.grad(outputs, GradientEdge(neurons, 0), reward, retain_graph=True)
    neurons.output_reward = reward  # type: ignore[attr-defined]
    return True


class StackedSpikes(Function, NeuronNode):
    """Spikes of consecutive steps, each ``[1, …]``, as one sequence ``[T, …]``; hands an output reward to each step.

    nodes: the autograd nodes of the neurons at every step, which are run after this one.
    """

    @staticmethod
    def forward(ctx: Any, nodes: list[Any], *spikes: Tensor) -> Tensor:
        keep_node()
        ctx.nodes = nodes
        return torch.cat(spikes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        given = NeuronNode.take_reward(ctx)
        if given is not None:
            for node, reward in zip(ctx.nodes, given.split(1), strict=True):
                node.output_reward = reward
        return None, *message.split(1)


class MagnitudeStep(Function):
    """Identity whose backward pass gives ``−|w|`` times the gradient: eq. 7, for an optimiser that descends."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        if not weight.is_contiguous():
            return torch.copysign(weight, -1.0).mul_(grad)
        return torch.copysign(weight, -1.0, out=empty(weight.shape, weight)).mul_(grad)  # −|w| in one pass


class SecantActivation(Function, NeuronNode):
    """``φ(z)`` whose backward pass is ``m_z = r / (z + sign(z) ε)`` with ``r = φ(z) · m_a`` (eq. 6).

    opposite_sign: where ``z`` and ``φ(z)`` differ in sign, take ``−r`` for ``r`` (v3, footnote 12).
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, phi: Callable[[Tensor], Tensor], eps: float, opposite_sign: bool) -> Tensor:
        keep_node()
        activation = phi(z)
        ctx.save_for_backward(z, activation)
        ctx.eps, ctx.opposite_sign = eps, opposite_sign
        return activation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, None, None, None]:
        z, activation = ctx.saved_tensors
        reward = activation * message
        given = NeuronNode.take_reward(ctx)
        if given is not None:
            reward = reward + given
        if ctx.opposite_sign:
            reward = torch.where((z < 0) & (activation > 0) | (z > 0) & (activation < 0), -reward, reward)
        return to_message(reward, z, ctx.eps), None, None, None


class SecantReLU(Function, NeuronNode):
    """:class:`SecantActivation` of ``max(z, 0)``, which needs its output alone: ``z = a`` wherever ``a > 0``.

    A reward handed to a silent output neuron, ``z ≤ 0``, still needs ``z``; it is kept for that.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, eps: float) -> Tensor:
        keep_node()
        activation = torch.relu(z)
        ctx.save_for_backward(z, activation)
        ctx.eps = eps
        return activation

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, None]:
        z, activation = ctx.saved_tensors
        given = NeuronNode.take_reward(ctx)
        if given is not None:
            return to_message(activation * message + given, z, ctx.eps), None
        if ctx.eps == 0:
            return message * (activation > 0), None
        return (activation * message).div_(activation + ctx.eps), None


class HalfCredit(Function):
    """Identity whose backward pass halves the message: a factor's share of a product of two (AttnLRP).

    Both factors of ``a · b`` are needed for all of it; uniformly, each is credited one half (Achtibat et al. 2024).
    """

    @staticmethod
    def forward(ctx: Any, factor: Tensor) -> Tensor:
        return factor.view_as(factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> Tensor:
        return message / 2


class NormalisedReward(Function):
    """Identity whose backward pass divides the reward of a layer by its largest magnitude, ``max |a · m|`` (A.6.4).

    The largest of the whole batch, which several processes may share.
    """

    @staticmethod
    def forward(ctx: Any, activation: Tensor) -> Tensor:
        ctx.save_for_backward(activation)
        return activation.view_as(activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> Tensor:
        (activation,) = ctx.saved_tensors
        largest = (activation * message).abs().max() if message.numel() else message.new_zeros(())
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return message / torch.where(largest > 0, largest, torch.ones_like(largest))
