"""Training on sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp.data import encodings
from spikelfp.errors import UserError
from spikelfp.training.trainer import Trainer


class TemporalTrainer(Trainer):
    """Trains a spiking network on sequences of ``steps`` steps.

    encoding: how a static batch becomes a sequence: ``constant`` (A.6.4), ``rate``, ``latency`` or ``delta``.
    The other arguments are those of :class:`~spikelfp.training.Trainer`.
    """

    def __init__(self, net: torch.nn.Module, *, steps: int = 25, encoding: str = "constant", **options: Any) -> None:
        if steps < 1:
            raise UserError(f"a sequence needs at least one step, got steps={steps}")
        self.steps, self.encode = steps, encodings[encoding]
        super().__init__(net, **options)

    def present(self, x: Tensor) -> Tensor:
        """A batch ``[B, …]`` as a sequence ``[T, B, …]``."""
        return self.encode(x, self.steps)
