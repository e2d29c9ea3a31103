r"""Products of spikes and float32 weights on matrix units that multiply bfloat16: exact products, float32 sums.

A float32 number has 24 significant bits, a bfloat16 number 8 and the same exponents, so a weight is the sum of three::

    w = w_1 + w_2 + w_3          w_1: the first 8 bits of w, w_2: the next 8, w_3: the last 8

A spike is 0 or 1, so each product ``s · w_k`` is exact, and ``s @ w = s @ w_1 + s @ w_2 + s @ w_3`` differs from the
float32 product only in the rounding of its sums. (A matrix unit rounds its own way: it may cut where float32 rounds.)
The same holds for any inputs that are bfloat16 numbers themselves, such as small counts of spikes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError

_UPPER = -65536  # 0xFFFF0000: sign, exponent and the first bits of a float32, which are a bfloat16


class BFloat16Parts(NamedTuple):
    """Three bfloat16 tensors of one shape, from the largest to the smallest, whose sum is a float32 tensor."""

    high: Tensor
    middle: Tensor
    low: Tensor


def split(weight: Tensor) -> BFloat16Parts:
    """Split a float32 tensor into three bfloat16 tensors, whose float32 sum, smallest first, is the tensor again.

    The split is exact for 0 and for every finite number of magnitude ``2⁻¹¹⁰`` (8e-34) or more. Smaller numbers lose
    less than ``2⁻¹³³``, the smallest bfloat16 number. Infinity and NaN give NaN.

    Args:
        weight: float32, any shape.

    Raises:
        UserError: for another dtype.
    """
    if weight.dtype != torch.float32:
        raise UserError(f"three bfloat16 parts make up float32 weights, got {weight.dtype}; convert them with .float()")
    high = _first_bits(weight)
    rest = weight - high
    middle = _first_bits(rest)
    return BFloat16Parts(*(part.to(torch.bfloat16) for part in (high, middle, _first_bits(rest - middle))))


def _first_bits(x: Tensor) -> Tensor:
    """Cut ``x`` to 8 significant bits. Rounding instead could overflow, and leave more than 16 bits."""
    return (x.contiguous().view(torch.int32) & _UPPER).view(torch.float32)


def matmul(spikes: Tensor, weight: Tensor | BFloat16Parts) -> Tensor:
    """Multiply ``spikes @ weight``, ``[M, K] @ [K, N]``, as three bfloat16 products with float32 sums.

    On CUDA it needs torch 2.8, whose ``torch.mm`` takes ``out_dtype``; on the CPU the three products are made in
    float32.

    Args:
        spikes: 0 or 1 (or other bfloat16 numbers) in any floating dtype; other numbers are rounded to bfloat16.
        weight: float32, or the result of :func:`split` where it is used more than once.

    Returns:
        The product, float32, without a graph.

    Raises:
        UserError: for an older torch.
        ShapeError: for shapes that do not fit.
    """
    parts = weight if isinstance(weight, BFloat16Parts) else split(weight.detach())
    if spikes.dim() != 2 or parts.high.dim() != 2 or spikes.shape[1] != len(parts.high):
        raise ShapeError(f"spikes [M, K] and weights [K, N], got {tuple(spikes.shape)} and {tuple(parts.high.shape)}")
    ones = spikes.detach().to(torch.bfloat16)
    high, middle, low = (_product(ones, part) for part in parts)
    return low.add_(middle).add_(high)


def _product(spikes: Tensor, part: Tensor) -> Tensor:
    """Multiply bfloat16 matrices with float32 sums."""
    if not spikes.is_cuda:
        return spikes.float() @ part.float()
    if not hasattr(torch.ops.aten.mm, "dtype"):
        raise UserError(
            f"bfloat16 products with float32 sums need torch 2.8 or newer on CUDA, this is {torch.__version__}"
        )
    return torch.mm(spikes, part, out_dtype=torch.float32)
