"""Learning rate over a run, by name; each is a function of the optimiser and the number of steps (updates) in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, StepLR

from spikelfp.errors import UserError
from spikelfp.registry import Registry

MakeSchedule = Callable[[Optimizer, int], LRScheduler]

schedules: Registry[Callable[..., LRScheduler]] = Registry("schedule")
"""Functions ``(optimizer, total_steps) → LRScheduler``, some with further keyword settings."""


@schedules.register("one-cycle")
def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Up to the learning rate in the first 30 % of the steps, then down to near 0 (Smith & Topin 2019; A.6.4).

    Adam's β₁ and the momentum of SGD run the other way, from 0.95 down to 0.85 and up again. A momentum that averages
    (dampening, as in eq. 5) keeps its α, and an optimiser without momentum gets none.
    """
    largest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=largest, total_steps=max(total_steps, 1), cycle_momentum=_sums(optimizer))


@schedules.register("constant")
def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The same learning rate throughout."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)


@schedules.register("step")
def step(optimizer: Optimizer, total_steps: int, *, step_size: int = 40, gamma: float = 0.1) -> LRScheduler:
    """``η γ^⌊k / step_size⌋`` at step k: times 0.1 every 40 steps in v1, A.1."""
    if step_size < 1 or not 0 < gamma <= 1:
        raise UserError(f"a step decay needs step_size of 1 or more and gamma in (0, 1], got {step_size} and {gamma}")
    return StepLR(optimizer, step_size, gamma)


@schedules.register("cosine")
def cosine(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """``η (1 + cos(π k / total_steps)) / 2`` at step k (Loshchilov & Hutter 2017, arXiv:1608.03983)."""
    return CosineAnnealingLR(optimizer, total_steps)


@schedules.register("linear")
def linear(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """``η (1 − k / total_steps)`` at step k."""
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total_steps)


def _sums(optimizer: Optimizer) -> bool:
    """Whether the optimiser has a momentum that sums updates, which a schedule may move."""
    options: dict[str, Any] = optimizer.defaults
    return "betas" in options or bool(options.get("momentum") and not options.get("dampening"))
