"""``F.linear`` for inputs that are mostly zero: one differentiable operation, made event by event where that pays."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.kernels.choice import Choice, can_run
from spikelfp.kernels.events import linear as kernels
from spikelfp.kernels.events.linear import Events, events_of, remembered
from spikelfp.kernels.events.sparse_index import sparse_rows
from spikelfp.machine import empty

ENTER, LEAVE = 0.22, 0.26
"""Densities below which a wide layer takes to events, and above which it goes back: measured, docs/performance.md."""
_HANDLING = 20  # outputs whose products cost as much as finding, keeping and sorting an event
_TRANSPOSITION = 10  # rows whose dense products cost as much as the transposed copy of the weights
_SMALLEST = 1_000_000  # multiplications of a dense product below which it is as good as free


def linear_choice() -> Choice:
    """The choice of a dense layer that has not seen an input yet."""
    return Choice(ENTER, LEAVE)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, choice: Choice, active_only: bool = False) -> Tensor:
    """``x Wᵀ + b``, ``[…, K]`` with ``W [N, K]`` to ``[…, N]``, and its backward pass; as torch's ``F.linear``.

    choice: of this layer; it is told what was done. active_only: the message to an input of 0 is 0 instead of
    ``Wᵀ m``; allowed where the input is the output of neurons under an LFP rule, which take no message when silent.

    A sparse ``x`` (COO, coalesced, without a graph) holds its events already: they are taken as they are, whatever
    their density. Where the kernels do not run (:func:`~spikelfp.kernels.choice.can_run`, or
    ``SPIKELFP_EVENTS=never``) there is no event-driven product, and it is made dense.
    """
    limit = choice.limit()
    fits = can_run(x, weight) and (x.is_sparse or limit >= 1 or x.numel() * len(weight) >= _SMALLEST)
    events = _events(x, len(weight), limit) if fits else None
    choice.events = events is not None
    if events is not None:
        return EventLinear.apply(x, weight, bias, events, active_only)
    if x.is_sparse:
        x = x.to_dense()
    return DenseLinear.apply(x, weight, bias) if fits else F.linear(x, weight, bias)


def _events(x: Tensor, outputs: int, limit: float) -> Events | None:
    if x.is_sparse:
        return None if limit < 0 else sparse_rows(x)
    if limit < 1:
        limit = limit * outputs / (outputs + _HANDLING) - _TRANSPOSITION * x.shape[-1] / x.numel()
    return remembered(x, limit) or events_of(x.reshape(-1, x.shape[-1]), limit)


class DenseLinear(Function):
    """``F.linear`` of a large input on the CPU, in memory that is used again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight)
        ctx.shape = x.shape
        out = empty((len(rows), len(weight)), x)
        if bias is None:
            torch.mm(rows, weight.t(), out=out)
        else:
            torch.addmm(bias, rows, weight.t(), out=out)
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        messages = message.reshape(-1, len(weight))
        if ctx.needs_input_grad[0]:
            to_x = torch.mm(messages, weight, out=empty(rows.shape, messages)).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            to_weight = torch.mm(messages.t(), rows, out=empty(weight.shape, messages))
        if ctx.needs_input_grad[2]:
            to_bias = messages.sum(0)
        return to_x, to_weight, to_bias


class EventLinear(Function):
    """:func:`linear` of an input whose events are known. Keeps the events and the weights, not the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, events: Events, active_only: bool) -> Tensor:
        by_input = empty(weight.shape[::-1], weight)
        kernels.transposed(weight.detach().contiguous().numpy(), by_input.numpy())
        out = empty((len(events.begin), len(weight)), weight)
        offsets = weight.new_zeros(len(weight)) if bias is None else bias.detach().contiguous()
        kernels.forward(events.numpy(), by_input.numpy(), offsets.numpy(), out.numpy())
        sparse = active_only and ctx.needs_input_grad[0]
        ctx.save_for_backward(by_input if sparse else None, weight, *events)
        ctx.shape = x.shape
        return out.unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        by_input, weight, *parts = ctx.saved_tensors
        events = Events(*parts).numpy()
        to_x = to_weight = to_bias = None
        messages = message.reshape(-1, len(weight)).contiguous()
        if by_input is not None:
            to_x = empty((len(messages), len(by_input)), messages)
            kernels.message(events, by_input.numpy(), messages.numpy(), to_x.numpy())
            to_x = to_x.view(ctx.shape)
        elif ctx.needs_input_grad[0]:
            to_x = torch.mm(messages, weight, out=empty((len(messages), weight.shape[1]), messages)).view(ctx.shape)
        if ctx.needs_input_grad[1]:
            to_weight = empty(weight.shape, messages)
            kernels.update(events, messages.numpy(), to_weight.numpy())
        if ctx.needs_input_grad[2]:
            to_bias = messages.sum(0)
        return to_x, to_weight, to_bias, None, None
