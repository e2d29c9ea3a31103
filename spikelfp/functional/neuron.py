"""Credit through one step of a neuron: the autograd functions that LFP rules put into its step.

A neuron with memory is a function ``(I[t], state) → (S[t], state)``. When a step is written with the functions below,
autograd's pass back through the steps *is* LFP (v3, A.2-A.3; the equations of :mod:`spikelfp.functional.lif`)::

    U[t] = Σ_k z_k        Inflow    turns the reward R of U into the message n = R / D to each z_k,
                                    D = max(Σ_k |z_k| + ε, floor · θ)
    z_0  = β V[t]                   autograd's own: the message to V is β n
    V[t] = U[t−1], reset  Survive   passes the message as if there were no reset, which earns no credit and blocks none
           U[t−1]         Carry     turns the message m to U into the reward U m, which adds to the other rewards of U
           start          Enter     passes the message m to U; the run before turns it into a reward
    S[t] = U[t] > θ       Fire      turns the message m to S into the reward S m of U; passes the reward of an output;
                                    θ gets nothing; with a margin μ the reward is m wherever U[t] > μ θ

With ``credit="step"`` no message passes from a step to the one before: its states are cut from the graph.

Everything else that a step does to its values (a synapse, a filter, a sum) is a linear map, whose messages are those of
autograd. Under rules of gradients the operations are plain ones and have their derivatives, the reset detached.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.functional.credit import (
    NeuronNode,
    check_pass,
    hand_to_steps,
    keep_node,
    leave_normalising,
    stacked_heard,
)
from spikelfp.functional.lif import PAPER_MARGIN, Constant
from spikelfp.functional.once import no_second_derivative
from spikelfp.kernels import scan_for


class Inflow(Function):
    """Sum of ``parts``, which flow into a membrane; the message to each part is the reward over ``total``."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, *parts: Tensor) -> Tensor:
        membrane = parts[0]
        for part in parts[1:]:
            membrane = membrane + part
        ctx.save_for_backward(total)
        ctx.shapes = [part.shape for part in parts]
        return membrane.clone() if len(parts) == 1 else membrane

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, reward: Tensor) -> tuple[Tensor | None, ...]:
        check_pass()
        (total,) = ctx.saved_tensors
        message = torch.where(total > 0, reward / total, 0)  # D = 0: nothing flowed in (ε = 0 only)
        return None, *(message.sum_to_size(shape) for shape in ctx.shapes)


class Carry(Function):
    """Identity of a membrane that the next step reads; its reward is the message times the membrane."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> Tensor:
        ctx.save_for_backward(membrane)
        return membrane.view_as(membrane)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> Tensor:
        check_pass()
        (membrane,) = ctx.saved_tensors
        return membrane * message


class Enter(Function):
    """Identity of the membrane that a run starts from; it gets the message of the first step, as in fused runs."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor) -> Tensor:
        keep_node()
        return membrane.view_as(membrane)

    @staticmethod
    def backward(ctx: Any, message: Tensor) -> Tensor:
        return message


class Survive(Function):
    """Membrane ``after`` a reset of ``before``; the message passes as if there were no reset."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, after: Tensor) -> Tensor:
        return after.view_as(after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, None]:
        check_pass()
        return message, None


class Fire(Function, NeuronNode):
    """``S = 1`` where the membrane is above its threshold, else 0; its backward pass gives the membrane's reward.

    The message is earned where a neuron fires, or its membrane is above ``margin`` times the threshold.
    """

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, threshold: float | Tensor, margin: float = PAPER_MARGIN) -> Tensor:
        keep_node()
        fires = membrane > threshold
        spikes = fires.to(membrane.dtype)
        ctx.margin = margin != PAPER_MARGIN
        # A threshold of a user's own below 0 times the margin is a higher one.
        ctx.save_for_backward(fires | (membrane > margin * threshold) if ctx.margin else spikes)
        ctx.set_materialize_grads(False)
        return spikes

    @staticmethod
    def heard(ctx: Any) -> Tensor:
        (heard,) = ctx.saved_tensors
        return heard if ctx.margin else heard > 0

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arrived: Tensor | None) -> tuple[Tensor | None, None, None]:
        message, reward = NeuronNode.received(ctx, arrived)
        if message is not None:
            (heard,) = ctx.saved_tensors
            earned = heard * message
            reward = earned if reward is None else reward + earned
        return reward, None, None


class StackedSteps(Function, NeuronNode):
    """Spikes ``[B, …]`` of consecutive steps as one sequence ``[T, B, …]``; hands an output reward to each step.

    Args:
        nodes: the autograd nodes of the neurons at each step, which run after this one; ``None`` where there is
            nothing to learn.
        *spikes: spikes of each step.
    """

    @staticmethod
    def forward(ctx: Any, nodes: list[Any], *spikes: Tensor) -> Tensor:
        keep_node()
        ctx.nodes, ctx.step = nodes, spikes[0].shape
        ctx.margin = any(getattr(node, "margin", False) for node in nodes)
        leave_normalising(nodes)
        return torch.stack(spikes)

    @staticmethod
    def heard(ctx: Any) -> Tensor | None:
        found = stacked_heard(ctx.nodes, ctx.step)
        return None if found is None else torch.stack(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, arrived: Tensor) -> tuple[Tensor | None, ...]:
        return None, *hand_to_steps(ctx, arrived)


class LeakyIntegration(Function):
    """Leaky integration: ``(I [T, …], U before the first step […], β, local) → U [T, …]``.

    Where credit is ``local``, the message to ``U[t]`` goes to ``I[t]`` alone, and none to the step before.
    """

    @staticmethod
    def forward(ctx: Any, current: Tensor, start: Tensor, beta: Constant, local: bool) -> Tensor:
        ctx.beta, ctx.local = beta, local
        return scan_for(current).integrate(current, start, beta, False)

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        if ctx.local:
            return message, None, None, None
        messages = scan_for(message).integrate(message, message.new_zeros(message.shape[1:]), ctx.beta, True)
        return messages, ctx.beta * messages[0], None, None


def leaky_integration(current: Tensor, start: Tensor, beta: Constant, local: bool = False) -> Tensor:
    """Integrate with a leak, ``U[t] = β U[t−1] + I[t]``.

    Args:
        current: ``I``, ``[T, …]``.
        start: ``U`` before the first step, ``[…]``.
        beta: decay per step.
        local: whether the credit of a step stays in it (:attr:`spikelfp.rules.Rule.forward_in_time`).

    Returns:
        ``U``, ``[T, …]``.
    """
    membranes: Tensor = LeakyIntegration.apply(current, start.detach() if local else start, beta, local)
    return membranes
