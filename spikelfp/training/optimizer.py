"""Optimisers by name; any other torch optimiser can be handed to a trainer as a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from spikelfp.errors import UserError
from spikelfp.registry import Registry

MakeOptimizer = Callable[[Iterable[Parameter], float], Optimizer]


class Momentum(torch.optim.SGD):
    """Momentum as in LFP v3, eq. 5 (v1, eq. 5), which averages the updates::

        d = α d_old + (1 − α) d_lfp        w ← w + η d        (d_old: the d of the step before, 0 at first)

    torch's SGD with ``momentum=α`` sums them, ``d = α d_old + d_lfp``: steps of 1 / (1 − α) times the size. With
    ``dampening=α`` it averages, except that it starts from ``d_lfp``; here its memory starts at zeros.

    lr: η. alpha: α in [0, 1). weight_decay: λ of ``d_lfp − λ w`` in place of ``d_lfp``.
    """

    def __init__(self, params: Iterable[Any], lr: float, alpha: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(
            params, lr=_positive(lr), momentum=_share(alpha), dampening=alpha, weight_decay=_decay(weight_decay)
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            self.state[p]["momentum_buffer"] = torch.zeros_like(p)


class NamedOptimizer(Protocol):
    """An optimiser of :data:`optimizers`: made as any other, with settings it may leave out of account."""

    def __call__(
        self, parameters: Iterable[Parameter], lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> Optimizer: ...


optimizers: Registry[NamedOptimizer] = Registry("optimizer")


@optimizers.register("adam")
def adam(parameters: Iterable[Parameter], lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Adam with β₂ = 0.99, fused; its β₁ is 0.9 whatever ``momentum`` is.

    Updates by reward come in bursts, as neurons fall silent or wake; a second moment that remembers 100 steps
    follows them better than one that remembers 1000 (docs/training.md has the comparison).
    """
    decay = _decay(weight_decay)
    return torch.optim.Adam(parameters, lr=_positive(lr), betas=(0.9, 0.99), weight_decay=decay, fused=True)


@optimizers.register("sgd")
def sgd(parameters: Iterable[Parameter], lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> Optimizer:
    """Stochastic gradient descent with momentum as torch has it: updates are summed, not averaged."""
    return torch.optim.SGD(parameters, lr=_positive(lr), momentum=_share(momentum), weight_decay=_decay(weight_decay))


@optimizers.register("momentum")
def momentum(
    parameters: Iterable[Parameter], lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0
) -> Optimizer:
    """:class:`Momentum`, eq. 5."""
    return Momentum(parameters, lr, momentum, weight_decay)


def options_of(optimizer: Optimizer) -> dict[str, Any]:
    """The numbers an optimiser was made with: learning rate, momenta, weight decay, …"""
    numbers = {name: value for name, value in optimizer.defaults.items() if isinstance(value, (int, float, tuple))}
    return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def _positive(lr: float) -> float:
    if not 0 < lr < float("inf"):
        raise UserError(f"the learning rate must be a finite number above 0, got {lr}")
    return lr


def _share(momentum: float) -> float:
    if not 0 <= momentum < 1:
        raise UserError(f"the momentum must be at least 0 and below 1 (at 1 no update arrives), got {momentum}")
    return momentum


def _decay(weight_decay: float) -> float:
    if not 0 <= weight_decay < float("inf"):
        raise UserError(f"the weight decay must be a finite number of 0 or more, got {weight_decay}")
    return weight_decay
