"""Learning rate over a run."""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from spikelfp.registry import Registry

MakeSchedule = Callable[[Optimizer, int], LRScheduler]

schedules: Registry[MakeSchedule] = Registry("schedule")


@schedules.register("one-cycle")
def one_cycle(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """Up to the learning rate in the first 30 % of the steps, then down to near 0 (Smith & Topin 2019; A.6.4)."""
    largest = [group["lr"] for group in optimizer.param_groups]
    momentum = "momentum" in optimizer.defaults or "betas" in optimizer.defaults
    return OneCycleLR(optimizer, max_lr=largest, total_steps=max(total_steps, 1), cycle_momentum=momentum)


@schedules.register("constant")
def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The same learning rate throughout."""
    return ConstantLR(optimizer, factor=1.0, total_iters=0)
