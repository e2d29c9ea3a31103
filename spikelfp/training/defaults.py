"""What a trainer chooses by the network, and the numbers it does not take."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.registry import unknown_name
from spikelfp.rewards import Reward, Softmax, SpikeSequence


def default_reward(net: torch.nn.Module) -> Reward:
    """``SpikeSequence`` for a network whose last layer spikes, ``Softmax`` otherwise."""
    return SpikeSequence() if isinstance(nn.leaves(net)[-1], (nn.Neurons, nn.Heaviside)) else Softmax()


def check_numbers(
    batch_size: int, accumulate: int, clip: float, clip_norm: float, max_weight: float | None = None, workers: int = 0
) -> None:
    """Raise :class:`~spikelfp.errors.UserError` for the first of these options of a trainer that is out of range."""
    for name, value in (("batch_size", batch_size), ("accumulate", accumulate), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value != int(value):
            raise UserError(f"{name} is a whole number, got {value!r}")
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, got {batch_size}")
    if accumulate < 1:
        raise UserError(f"a batch has at least one part, got accumulate={accumulate}")
    if workers < 0:
        raise UserError(f"workers must be 0 or more, got {workers}")
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
        meant = MEANT.get(name)
        if meant in valid:
            raise UserError(f"unknown option of {trainer.__name__} {name!r}: it is called {meant} here")
        raise unknown_name(f"option of {trainer.__name__}", name, valid)
