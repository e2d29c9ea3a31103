"""What a trainer chooses by the network, and the numbers it does not take."""

from __future__ import annotations

import inspect
import math
import numbers
from typing import Any

import torch

from spikelfp.data.loader import check_workers
from spikelfp.errors import UserError
from spikelfp.nn import graph
from spikelfp.registry import unknown_name
from spikelfp.suggest import nearest


def ends_in_spikes(net: torch.nn.Module) -> bool:
    """Whether the last layer of a network spikes."""
    last = graph.last_layer(net) or list(graph.leaves(net).values())[-1]
    return graph.has_trait(last, "fires")


def check_whole(name: str, value: Any) -> None:
    """Raise :class:`~spikelfp.errors.UserError` unless ``value`` is a whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{name} is a whole number, got {value!r}")


def check_choices(**given: Any) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first option of a trainer that is neither true nor false."""
    for name, value in given.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} is True or False, got {value!r}")


def check_numbers(
    batch_size: int,
    accumulate: int,
    clip: float,
    clip_norm: float,
    max_weight: float | None = None,
    workers: int = 0,
    seed: int = 0,
) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first of these options of a trainer that is out of range."""
    for name, value in (("batch_size", batch_size), ("accumulate", accumulate), ("workers", workers), ("seed", seed)):
        check_whole(name, value)
    for name, number in (("clip", clip), ("clip_norm", clip_norm), ("max_weight", max_weight)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, numbers.Real)):
            raise UserError(f"{name} is a number, got {number!r}")
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, got {batch_size}")
    if accumulate < 1:
        raise UserError(f"a batch has at least one part, got accumulate={accumulate}")
    check_workers(workers)
    if not clip >= 0:
        raise UserError(f"the clipping factor must be 0 (none) or more, got {clip}")
    if not clip_norm >= 0:
        raise UserError(f"the norm to clip to must be 0 (no clipping) or more, got {clip_norm}")
    if max_weight is not None and not 0 < max_weight < math.inf:
        raise UserError(f"max_weight must be a finite number above 0 (or None for no limit), got {max_weight}")


MEANT = {
    "learning_rate": "lr", "eta": "lr", "scheduler": "schedule", "lr_scheduler": "schedule", "optim": "optimizer",
    "optimiser": "optimizer", "criterion": "loss", "loss_fn": "loss", "loss_function": "loss", "bs": "batch_size",
    "num_workers": "workers", "num_steps": "steps", "timesteps": "steps", "time_steps": "steps", "T": "steps",
    "model": "net", "network": "net",
}  # fmt: skip
"""Options of other packages, and those that mean the same here."""

WEIGHTS = ("class_weight", "class_weights", "weight", "weights", "pos_weight", "sample_weight", "sample_weights")
"""Options of other packages that weigh classes or samples."""


def check_options(trainer: type, unknown: dict[str, Any]) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first option that a class of trainers does not have."""
    for name in unknown:
        valid = [
            own for kind in trainer.__mro__[:-1] for own, p in inspect.signature(kind.__init__).parameters.items()  # type: ignore[misc]
            if p.kind is p.KEYWORD_ONLY
        ]  # fmt: skip
        if name in ("steps", "encoding", "recompute", "chunk", "readout_steps"):
            raise UserError(
                f"{name} is an option of TemporalTrainer, which trains on sequences; {trainer.__name__} is not"
            )
        if name in ("epochs", "validation", "patience"):
            raise UserError(
                f"{name} is an argument of fit: trainer.fit(train, epochs=…, {name}=…)".replace(
                    "epochs=…, epochs=…", "epochs=…"
                )
            )
        if name in WEIGHTS:
            raise UserError(
                f"{trainer.__name__} has no {name}: weigh classes or samples in a loss of your own, such as "
                'loss=lambda o, y: cross_entropy(o.sum(0), y, weight=w), with method="surrogate" or "gradient"'
            )
        meant = MEANT.get(name)
        if meant in valid:
            raise UserError(f"unknown option of {trainer.__name__} {name!r}: it is called {meant} here")
        raise unknown_name(f"option of {trainer.__name__}", name, valid)


def check_setting(trainer: Any, name: str) -> None:
    """Refuse to change what a trainer reads only where it is made, and attributes that it never reads.

    Raises:
        UserError: naming the option.
    """
    kind = type(trainer)
    if name[:1] == "_":
        return
    options = [own for each in kind.__mro__[:-1] for own in inspect.signature(each.__init__).parameters]  # type: ignore[misc]
    if name == "lr":
        raise UserError(
            'the learning rate is that of the optimizer, for group in trainer.optimizer.param_groups: group["lr"] = …, '
            "with schedule=None; or make a new trainer"
        )
    if name in _MADE_WITH or (name in options and name not in trainer.__dict__):
        raise UserError(f"{name} is chosen where a trainer is made: make a new {kind.__name__}(net, {name}=…)")
    if name in trainer.__dict__ or hasattr(kind, name):
        return
    meant = MEANT.get(name) or nearest(name, [*options, *trainer.__dict__], cutoff=0.75)
    if meant is not None:
        raise UserError(f"{kind.__name__} has no attribute {name!r}, and would not look at it: did you mean {meant!r}?")


_MADE_WITH = frozenset(("net", "optimizer", "schedule", "device", "encoding", "world", "grids", "max_weight"))
"""Attributes from which a trainer has made others."""
