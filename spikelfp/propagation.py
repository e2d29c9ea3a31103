"""Start a reward at the output of a network and run it back to every parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spikelfp.errors import NonFiniteError, ShapeError, UserError
from spikelfp.functional.credit import hand_over, to_message

_NOT_FINITE = "the reward holds NaN or infinity"


def propagate(
    outputs: Tensor | Sequence[Tensor],
    reward: Tensor | Sequence[Tensor],
    *,
    eps: float = 1e-6,
    retain_graph: bool = False,
) -> None:
    """Add ``−d_w`` (v3, eq. 7) to ``p.grad`` of every parameter behind ``outputs``; summed over batch and time.

    outputs: what the network returned, ``[T, B, C]`` or any shape; reward: ``r_c`` for each of its elements.
    Several outputs (the chunks of a long sequence, the heads of a network) take as many rewards, in one pass.
    eps: the ε of the first division, ``m_c = r_c / (o_c + sign(o_c) ε)``, for linear outputs. The outputs of
    neurons (LIF, Heaviside, ReLU) take the reward as it is, spike or no spike.

    A torch optimiser's step, which descends ``p.grad``, then ascends the reward. Calls accumulate, as
    ``backward`` does. Raises :class:`~spikelfp.errors.UserError` for outputs without a graph,
    :class:`~spikelfp.errors.ShapeError` for a reward of another shape, and
    :class:`~spikelfp.errors.NonFiniteError` for a reward that holds NaN or infinity. On CUDA nothing waits for the
    reward to be computed: there NaN or infinity fails an assertion on the device, which torch reports later.
    """
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    rewards = [reward] if isinstance(reward, Tensor) else list(reward)
    if len(roots) != len(rewards):
        raise ShapeError(f"{len(roots)} outputs need as many rewards, got {len(rewards)}")
    for root, own in zip(roots, rewards, strict=True):
        _check(root, own)
    messages = [_start(root, own.detach().to(root.dtype), eps) for root, own in zip(roots, rewards, strict=True)]
    torch.autograd.backward(roots, messages, retain_graph=retain_graph)


def _check(outputs: Tensor, reward: Tensor) -> None:
    if outputs.grad_fn is None:
        raise UserError(
            "the outputs carry no graph to propagate through: run the network outside torch.no_grad() "
            "and with parameters that require grad"
        )
    if reward.shape != outputs.shape:
        raise ShapeError(f"reward has shape {tuple(reward.shape)}, the outputs {tuple(outputs.shape)}")
    finite = torch.isfinite(reward).all()
    if finite.is_cuda:
        torch._assert_async(finite, _NOT_FINITE)
    elif not finite:
        raise NonFiniteError(_NOT_FINITE)


def _start(outputs: Tensor, reward: Tensor, eps: float) -> Tensor:
    """The message to begin with; to neurons the reward is handed directly, and the message is zero."""
    if hand_over(outputs, reward):
        return torch.zeros_like(outputs)
    return to_message(reward, outputs.detach(), eps)
