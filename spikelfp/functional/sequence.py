"""Sequences ``[T, B, …]``, time first, and maps that treat every step alike.

A static image shown ``T`` times is an *expanded* tensor: stride 0 in time, no copy. Layers keep it so, and a
map of a constant sequence is computed once, not ``T`` times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.errors import UserError
from spikelfp.functional.sparse import is_sparse


def constant(images: Tensor, steps: int) -> Tensor:
    """Static input ``[B, …]`` as a sequence of ``steps`` equal steps, ``[T, B, …]`` (A.6.4, constant encoding)."""
    if not isinstance(images, Tensor):
        raise UserError(
            f"constant takes a tensor [B, …] and steps, got {type(images).__name__}: torch.as_tensor(images)"
        )
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise UserError(f"steps is a whole number, got {steps!r}")
    if steps < 1:
        raise UserError(f"a sequence needs at least one step, got steps={steps}")
    return repeat(images, steps)


def repeat(step: Tensor, steps: int) -> Tensor:
    """``step`` at each of ``steps`` steps, as one expanded tensor."""
    return _Repeat.apply(step, steps)


def is_constant(sequence: Tensor) -> bool:
    """Whether all steps of ``[T, …]`` are the same memory; those of a sparse sequence are not."""
    return not is_sparse(sequence) and len(sequence) > 1 and sequence.stride(0) == 0


def over_time(fn: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
    """Apply ``fn``, a map of a batch ``[N, …]``, to every step of ``[T, B, …]``: folded into the batch, or once."""
    if is_constant(sequence):
        return repeat(fn(sequence[0]), len(sequence))
    return fn(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


class _Repeat(Function):
    """``expand`` over a new first axis; its backward pass does not read a constant gradient ``T`` times."""

    spreads_over_time = True

    @staticmethod
    def forward(ctx: Any, step: Tensor, steps: int) -> Tensor:
        return step.unsqueeze(0).expand(steps, *step.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad[0] * len(grad) if is_constant(grad) else grad.sum(0)), None
