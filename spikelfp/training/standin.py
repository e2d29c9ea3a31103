"""State that an optimiser and a schedule keep, found by making them once more over parameters of zeros."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from spikelfp.training.optim import Schedule

HOW = ("fused", "foreach", "capturable", "differentiable")
"""Options of torch's optimisers that say how they compute, not what comes out."""


_SIZES = (2, 3, 5, 7, 11, 13, 17, 19)
"""Sizes of the axes of small parameters, told apart from each other."""


def states_of(optimizer: Optimizer) -> list[dict[str, Any] | None]:
    """Find what ``optimizer`` keeps for each of its parameters once it has stepped, in the order of its state.

    Returns:
        State by name: tensors without memory, and other values as they are after a step by zeros; ``None`` where that
        cannot be found out.
    """
    found: list[dict[str, Any] | None] = []
    known: dict[Any, dict[str, Any] | None] = {}
    for number, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            kind = (number, tuple(p.shape), p.dtype)
            if kind not in known:
                known[kind] = _state_of(optimizer, group, p)
            found.append(known[kind])
    return found


def schedule_of(
    optimizer: Optimizer, groups: list[dict[str, Any]], schedule: Schedule, steps: int
) -> tuple[LRScheduler, list[dict[str, Any]]] | None:
    """Make a schedule over ``steps`` steps once more, for the state that it has at its start.

    Args:
        optimizer: that it is for, which is left as it is.
        groups: options of its parameter groups before any schedule.
        schedule: how it is made.
        steps: that it is made for.

    Returns:
        The schedule and the options of the groups under it; ``None`` where it cannot be made for another optimiser.
    """
    if schedule.made:
        made = schedule.make(optimizer, steps)
        return made, [_options(group) for group in optimizer.param_groups]
    try:
        with _quietly():
            other = _stand_in(optimizer, [{**_options(group), "params": [torch.zeros(1)]} for group in groups])
            return schedule.make(other, steps), [_options(group) for group in other.param_groups]
    except Exception:  # a function of the user, which may take this optimiser alone
        return None


def _state_of(optimizer: Optimizer, group: dict[str, Any], parameter: Tensor) -> dict[str, Any] | None:
    """Step once over a small parameter with as many axes, and see what is kept; over one as large where it must be."""
    small = [size if size < 2 else prime for size, prime in zip(parameter.shape, _SIZES, strict=False)]
    if len(small) == parameter.dim():
        kept = _kept(optimizer, group, torch.zeros(small, dtype=parameter.dtype))
        large = dict(zip(small, parameter.shape, strict=True)) | {1: 1}
        if kept is None or all(size in large for each in kept.values() for size in _shape(each)):
            return kept and {name: _like(each, [large[size] for size in _shape(each)]) for name, each in kept.items()}
    kept = _kept(optimizer, group, torch.zeros(parameter.shape, dtype=parameter.dtype))
    return kept and {name: _like(each, _shape(each)) for name, each in kept.items()}


def _kept(optimizer: Optimizer, group: dict[str, Any], own: Tensor) -> dict[str, Any] | None:
    try:
        with _quietly():
            own.requires_grad_(True).grad = torch.zeros_like(own)
            options = {name: None if name in HOW[:2] else False if name in HOW else value
                       for name, value in _options(group).items()}  # fmt: skip
            made = _stand_in(optimizer, [{**options, "params": [own]}])
            type(made).step(made)
            return dict(made.state[own])
    except Exception:  # an optimiser of the user, which may want anything
        return None


def _shape(value: Any) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []


def _like(value: Any, shape: list[int]) -> Any:
    """Make a tensor without memory of this shape and the type of ``value``; anything else stays."""
    return torch.empty(shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _stand_in(optimizer: Optimizer, groups: list[dict[str, Any]]) -> Optimizer:
    """Make an optimiser of the same class and settings over other parameters, without its hooks."""
    left = ("state", "param_groups", "step")
    own = {name: value for name, value in vars(optimizer).items() if name not in left and "hooks" not in name}
    made: Optimizer = object.__new__(type(optimizer))
    made.__setstate__({**copy.deepcopy(own), "state": defaultdict(dict), "param_groups": groups})
    return made


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave random states as they are, and say nothing."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
