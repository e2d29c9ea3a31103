"""Adaptive gradient clipping (Brock et al. 2021, arXiv:2102.06171, eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter


def unit_norm(x: Tensor) -> Tensor:
    """Norm of each output unit's weights, ``[out, 1, …]``; of the whole tensor for vectors (biases)."""
    if x.dim() <= 1:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True)


@torch.no_grad()
def clip_adaptive_(parameters: Iterable[Parameter], factor: float, eps: float = 1e-3) -> None:
    """Scale down, in place, the gradient of every unit whose norm exceeds ``factor · max(‖W_i‖, eps)``::

    G_i ← λ ‖W_i‖* / ‖G_i‖ · G_i     if ‖G_i‖ / ‖W_i‖* > λ,   ‖W_i‖* = max(‖W_i‖, eps)
    """
    for p in parameters:
        if p.grad is None:
            continue
        largest = unit_norm(p).clamp_min(eps).mul_(factor)
        norm = unit_norm(p.grad)
        p.grad.mul_(torch.where(norm > largest, largest / norm.clamp_min(1e-12), torch.ones_like(norm)))
