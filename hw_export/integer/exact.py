r"""Sums of products of whole numbers without any rounding, in the cheapest numbers that allow it.

A sum of terms ``w x`` is exact in float32, in any order and with or without fused multiply-add, if every partial sum is
a whole number below 2^24, which ``Σ |w| · peak`` bounds; the same in float64 below 2^53. Beyond that int64 it is.
Convolutions are products of windows with the weights: faster algorithms transform what they multiply, and round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from hw_export.integer.network import Conv, Pair, Pool
from spikelfp.errors import UserError

LIMIT = 2**62
"""Bound on all sums: int64 holds them, and what is added to them."""


def dtype_for(bound: int, name: str) -> torch.dtype:
    """In which sums of magnitude up to ``bound`` are exact.

    Raises :class:`~spikelfp.errors.UserError` where int64 is too narrow, naming the layer.
    """
    if bound < 2**24:
        return torch.float32
    if bound < 2**53:
        return torch.float64
    if bound >= LIMIT:
        raise UserError(f"the sums of layer {name!r} could reach {bound:.3g}, beyond 64 bits: scale the inputs")
    return torch.int64


@contextmanager
def unrounded(device: torch.device) -> Iterator[None]:
    """Within the block products are made in the dtype they are asked for: no autocast, no TF32, no bfloat16."""
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False), torch.no_grad():
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """``X Wᵀ`` of ``[R, K]`` and ``[N, K]``, of one dtype: float32, float64 or int64."""
    if x.dtype == torch.int64 and x.device.type != "cpu":  # no device has this product but the CPU
        return (x.cpu() @ weight.cpu().t()).to(x.device)
    return x @ weight.t()


def windows(x: Tensor, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Tensor:
    """All windows of ``x [R, C, H, W]``, ``[R, C, rows, columns, *kernel]``, without a copy."""
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]  # fmt: skip
    n, c, down, across = x.stride()
    return x.as_strided(
        (*x.shape[:2], *sizes, *kernel),
        (n, c, down * stride[0], across * stride[1], down * dilation[0], across * dilation[1]),
        x.storage_offset(),
    )


def convolution(x: Tensor, weight: Tensor, layer: Conv) -> Tensor:
    """``x [R, C, H, W]`` with ``weight [O, C / groups, height, width]`` of one dtype: ``[R, O, rows, columns]``."""
    kernel = (weight.shape[2], weight.shape[3])
    down, across = layer.padding
    seen = windows(F.pad(x, (across, across, down, down)), kernel, layer.stride, layer.dilation)
    rows, columns = seen.shape[2:4]
    parts = []
    for own, filters in zip(seen.chunk(layer.groups, 1), weight.chunk(layer.groups, 0), strict=True):
        flat = own.permute(0, 2, 3, 1, 4, 5).reshape(len(x) * rows * columns, filters[0].numel())
        parts.append(product(flat, filters.flatten(1)).view(len(x), rows, columns, len(filters)))
    return torch.cat(parts, 3).permute(0, 3, 1, 2).contiguous()


def pooled(x: Tensor, layer: Pool) -> Tensor:
    """Sums, or the largest values, of the windows of ``x [R, C, H, W]``, in its dtype."""
    (down, across), (height, width) = layer.stride, layer.kernel
    rows, columns = ((size - k) // s + 1 for size, k, s in zip(x.shape[2:], layer.kernel, layer.stride, strict=True))
    places = (
        x[:, :, top : top + (rows - 1) * down + 1 : down, left : left + (columns - 1) * across + 1 : across]
        for top in range(height)
        for left in range(width)
    )
    return reduce(torch.add if layer.kind == "sum" else torch.maximum, places)
