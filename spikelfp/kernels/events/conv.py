"""``F.conv2d`` and the max-pooling after it as one differentiable operation, event by event where that is faster.

The output before the pooling is not kept, only the winner of every pooled value, in one byte. Event by event, the input
is not kept either. Dense convolutions run on blocks of a few images, channels last, for which torch is fastest. Each
block is pooled while it is in the cache; the backward pass computes it again from the pooled messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.grad import conv2d_input

from spikelfp.functional.once import no_second_derivative
from spikelfp.kernels.choice import EventChoice, can_run, chosen_events
from spikelfp.kernels.events import conv_kernels
from spikelfp.kernels.events.conv_kernels import (
    LARGEST,
    MOST_KEYS,
    Geometry,
    ImageEvents,
    Steps,
    geometry,
    image_events,
    pool,
    unpool,
)
from spikelfp.kernels.events.linear import Heard
from spikelfp.kernels.events.sparse import sparse_images
from spikelfp.machine import empty

_BLOCK = 2**21  # bytes of output made at once


def _blocks(count: int, g: Geometry, like: Tensor) -> Iterator[slice]:
    size = max(1, _BLOCK // (g.padded * g.out_height * g.out_width * like.element_size()))
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _filled(values: Tensor, g: Geometry) -> Tensor:
    """Pad the outputs of weights or biases with zeros to whole vectors."""
    if g.padded == g.outputs:
        return values.detach()
    return torch.cat([values.detach(), values.new_zeros(g.padded - g.outputs, *values.shape[1:])])


def blocked_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, steps: Steps, g: Geometry, out: Tensor, winners: Tensor
) -> None:
    """Do as :func:`spikelfp.kernels.events.conv_kernels.forward`, for dense images ``x [N, C, H, W]``."""
    kernel = _filled(weight, g).contiguous(memory_format=torch.channels_last)
    offsets = None if bias is None else _filled(bias, g)
    for block in _blocks(len(x), g, x):
        images = x.detach()[block].contiguous(memory_format=torch.channels_last)
        unpooled = F.conv2d(images, kernel, offsets, *steps).permute(0, 2, 3, 1).contiguous()
        pool(unpooled, g, out[block], winners[block])


def blocked_backward(
    x: Tensor, weight: Tensor, steps: Steps, g: Geometry, message: Tensor, winners: Tensor, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Compute the message to ``x`` and the weight update, each if wanted, from the ``message`` to the pooled output.

    For the message alone, ``x`` may be any tensor of its shape.
    """
    kernel = _filled(weight, g).contiguous(memory_format=torch.channels_last)
    out = empty(x.shape, message) if to_x else None
    update = torch.zeros_like(kernel) if to_weight else None
    target = message.new_empty(0)
    for block in _blocks(len(x), g, x):
        images = x.detach()[block]
        if to_weight:
            images = images.contiguous(memory_format=torch.channels_last)
        if len(target) != len(images):
            target = message.new_empty(len(images), g.out_height, g.out_width, g.padded)
        unpool(message[block], winners[block], g, target)
        to_images, to_kernel, _ = torch.ops.aten.convolution_backward(
            target.permute(0, 3, 1, 2), images, kernel, None, *steps[:3], False, (0, 0), steps.groups,
            (to_x, to_weight, False),
        )  # fmt: skip
        if out is not None:
            out[block] = to_images
        if update is not None:
            update += to_kernel
    return out, None if update is None else update[: g.outputs].contiguous()


ENTER, LEAVE = 0.3, 0.35
"""Densities below which a convolution changes to events, and above which it changes back (docs/performance.md)."""
_SMALLEST = 1_000_000  # multiplications of a dense convolution below which its time does not matter


def conv_choice() -> EventChoice:
    """Make the choice of a convolution without inputs so far."""
    return EventChoice(ENTER, LEAVE)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    choice: EventChoice,
    steps: Steps = Steps(),  # noqa: B008  (a tuple)
    pool: int = 1,
    active_only: bool = False,
    heard: Heard | None = None,
) -> Tensor:
    """Convolve images and max-pool the result.

    Forward and backward agree with ``torch.nn.functional.conv2d`` and then ``max_pool2d``, up to the order of
    summation. Events and blocks are used for float32 and float64 on the CPU; torch does small ones and all others.

    A sparse ``x`` (COO, coalesced, without a graph) is used event by event at any density. It is made dense where that
    is impossible: on other devices and dtypes, under autocast, for dilated or grouped kernels, and with
    ``SPIKELFP_EVENTS=never``.

    Args:
        x: images ``[N, C, H, W]``.
        weight: kernels ``[O, C / groups, kernel height, kernel width]``.
        bias: ``[O]`` or ``None``.
        choice: choice of this layer, which records whether events were used.
        steps: strides, padding, dilation and groups.
        pool: side of the squares of the max-pooling, 1 for none.
        active_only: leave out messages to inputs of 0, which are then 0. Allowed where the input is the output of
            neurons under an LFP rule, which take no message when silent.
        heard: which inputs take a message, as of :func:`spikelfp.kernels.events.linear.linear`.

    Returns:
        ``[N, O, height, width]``.
    """
    if can_run(x, weight) and pool <= LARGEST:
        g = geometry(x, weight, steps, pool)
        work = len(x) * g.out_height * g.out_width * weight.numel()
        if min(g.used_height, g.used_width, len(x)) > 0:
            limit = choice.limit()
            events = _events(x, steps, limit) if x.is_sparse or work >= _SMALLEST or limit >= 1 else None
            choice.events = events is not None
            if events is not None:
                return EventConvolution.apply(x, weight, bias, events, g, steps, active_only, heard)
            x = x.to_dense() if x.is_sparse else x
            if pool > 1 and work >= _SMALLEST and (steps.groups == 1 or g.padded == g.outputs):
                return BlockedConvolution.apply(x, weight, bias, g, steps)
    out = F.conv2d(x.to_dense() if x.is_sparse else x, weight, bias, *steps)
    return F.max_pool2d(out, pool) if pool > 1 else out


def _events(x: Tensor, steps: Steps, limit: float) -> ImageEvents | None:
    if limit < 0 or steps.dilation != (1, 1) or steps.groups != 1 or x.shape[1] * x.shape[3] > MOST_KEYS:
        return None
    return sparse_images(x) if x.is_sparse else image_events(x, limit)


def _outputs(count: int, weight: Tensor, g: Geometry) -> tuple[Tensor, Tensor]:
    """Allocate the pooled output of ``count`` images and, with pooling, its winners."""
    height, width = g.pooled
    byte = torch.empty(0, dtype=torch.uint8)
    winners = empty((count, height * width, g.padded), byte) if g.pool > 1 else byte
    return empty((count, g.outputs, height, width), weight), winners


def _bias(ctx: Any, message: Tensor) -> Tensor | None:
    """Sum the messages for the bias: each reaches one winner, so the sums before and after pooling are equal."""
    if not ctx.needs_input_grad[2]:
        return None
    return message.flatten(1).sum(0).view(message.shape[1], -1).sum(1)  # in two steps: fast along memory


class EventConvolution(Function):
    """:func:`convolve` of an input with known events. It keeps the events and the weights, not the input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        events: ImageEvents,
        g: Geometry,
        steps: Steps,
        active_only: bool,
        heard: Heard | None,
    ) -> Tensor:
        out, winners = _outputs(len(x), weight, g)
        conv_kernels.forward(events, weight, bias, g, out, winners)
        ctx.save_for_backward(weight, winners, *events)
        ctx.geometry, ctx.steps, ctx.active_only, ctx.heard, ctx.shape = g, steps, active_only, heard, x.shape
        return out

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        weight, winners, *events = ctx.saved_tensors
        g, message = ctx.geometry, message.contiguous()
        wanted, to_weight = ctx.needs_input_grad[:2]
        at_events = wanted and ctx.active_only and ctx.heard is None
        to_x, update = conv_kernels.backward(ImageEvents(*events), weight, g, message, winners, at_events, to_weight)
        receivers = _receivers(ctx.heard, ctx.shape, weight) if wanted and ctx.active_only and not at_events else None
        if receivers is not None:
            to_x, _ = conv_kernels.backward(receivers, weight, g, message, winners, True, False)
        elif wanted and not at_events and g.pool == 1:
            to_x = conv2d_input(ctx.shape, weight.detach(), message, *ctx.steps)
        elif wanted and not at_events:
            x = message.new_empty(1).expand(ctx.shape)
            to_x, _ = blocked_backward(x, weight, ctx.steps, g, message, winners, True, False)
        return to_x, update, _bias(ctx, message), None, None, None, None, None


def _receivers(heard: Heard, shape: torch.Size, weight: Tensor) -> ImageEvents | None:
    """List the entries of images that are heard; ``None`` where they are so many, or not known, that all get theirs."""
    mask = heard()
    if mask is None:
        return None
    limit = 1.0 if chosen_events() == "always" else ENTER
    return image_events(mask.reshape(shape).to(weight.dtype), limit)


class BlockedConvolution(Function):
    """:func:`convolve` of a dense input, with pooling, one block of images after the other."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, steps: Steps) -> Tensor:
        out, winners = _outputs(len(x), weight, g)
        blocked_forward(x, weight, bias, steps, g, out, winners)
        ctx.save_for_backward(x, weight, winners)
        ctx.geometry, ctx.steps = g, steps
        return out

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, message: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, winners = ctx.saved_tensors
        message = message.contiguous()
        to_x, update = blocked_backward(x, weight, ctx.steps, ctx.geometry, message, winners, *ctx.needs_input_grad[:2])
        return to_x, update, _bias(ctx, message), None, None
