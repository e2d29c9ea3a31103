"""Optimisers by name; any other torch optimiser can be handed to a trainer as a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from spikelfp.errors import UserError
from spikelfp.registry import Registry

MakeOptimizer = Callable[[Iterable[Parameter], float], Optimizer]

optimizers: Registry[MakeOptimizer] = Registry("optimizer")


@optimizers.register("adam")
def adam(parameters: Iterable[Parameter], lr: float) -> Optimizer:
    """Adam with β₂ = 0.99, fused.

    Updates by reward come in bursts, as neurons fall silent or wake; a second moment that remembers 100 steps
    follows them better than one that remembers 1000 (docs/training.md has the comparison).
    """
    return torch.optim.Adam(parameters, lr=_positive(lr), betas=(0.9, 0.99), fused=True)


@optimizers.register("sgd")
def sgd(parameters: Iterable[Parameter], lr: float) -> Optimizer:
    """Stochastic gradient descent with momentum 0.9."""
    return torch.optim.SGD(parameters, lr=_positive(lr), momentum=0.9)


def _positive(lr: float) -> float:
    if not 0 < lr < float("inf"):
        raise UserError(f"the learning rate must be a finite number above 0, got {lr}")
    return lr
