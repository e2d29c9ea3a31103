"""How large sums of integers can become: float32 holds every integer below 2^24."""

from __future__ import annotations

import torch
from torch import Tensor

EXACT = 2**24
"""float32 holds every integer below this."""


def largest_sum(weight: Tensor, bias: Tensor | None, peak: float, signed: bool) -> float:
    """Bound on every partial sum, in any order, of weights times inputs in [0, peak], or [−peak, peak]."""
    terms = weight.flatten(1).double() * peak
    if signed:
        terms = terms.abs()
    if bias is not None:
        terms = torch.cat([terms, bias.double().unsqueeze(1)], 1)
    return max(terms.clamp(min=0).sum(1).max().item(), (-terms).clamp(min=0).sum(1).max().item())


def adds_exactly(largest: float | None, parts: int) -> bool:
    """Whether float32 adds sums of integers up to ``largest``, divided by ``parts``, without rounding."""
    return largest is not None and parts & (parts - 1) == 0 and largest * parts < EXACT
