"""A dense convolution and the max-pooling behind it, a few images at a time: no unpooled output of all is ever there.

Blocks are convolved channels last, which torch is fastest at, pooled while they are in the cache, and made again from
the pooled messages on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.kernels.events.conv_pool import pool, unpool
from spikelfp.kernels.events.conv_shape import Geometry, Steps
from spikelfp.machine import empty

_BLOCK = 2**21  # bytes of output made at once


def _blocks(count: int, g: Geometry, like: Tensor) -> Iterator[slice]:
    size = max(1, _BLOCK // (g.padded * g.out_height * g.out_width * like.element_size()))
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def _filled(values: Tensor, g: Geometry) -> Tensor:
    """Weights or biases, the outputs filled up with zeros to whole vectors."""
    if g.padded == g.outputs:
        return values.detach()
    return torch.cat([values.detach(), values.new_zeros(g.padded - g.outputs, *values.shape[1:])])


def can_block(weight: Tensor, g: Geometry, steps: Steps) -> bool:
    """Whether outputs can be filled up to whole vectors: not where groups share them."""
    return steps.groups == 1 or g.padded == g.outputs


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, steps: Steps, g: Geometry, out: Tensor, winners: Tensor
) -> None:
    """As :func:`spikelfp.kernels.events.conv.forward`, of images ``x [N, C, H, W]``."""
    kernel = _filled(weight, g).contiguous(memory_format=torch.channels_last)
    offsets = None if bias is None else _filled(bias, g)
    for block in _blocks(len(x), g, x):
        images = x.detach()[block].contiguous(memory_format=torch.channels_last)
        unpooled = F.conv2d(images, kernel, offsets, *steps).permute(0, 2, 3, 1).contiguous()
        pool(unpooled, g, out[block], winners[block])


def backward(
    x: Tensor, weight: Tensor, steps: Steps, g: Geometry, message: Tensor, winners: Tensor, to_x: bool, to_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Message to ``x`` and weight update, each if wanted, from the ``message`` to the pooled output.

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
