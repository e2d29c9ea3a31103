"""Training on sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.data import encodings
from spikelfp.errors import UserError
from spikelfp.rules import using
from spikelfp.training.trainer import Trainer


class TemporalTrainer(Trainer):
    """Trains a spiking network on sequences of ``steps`` steps.

    encoding: how a static batch becomes a sequence: ``constant`` (A.6.4), ``rate``, ``latency`` or ``delta``.
    recompute: train in parts of that many steps, whose graphs are made again in the backward pass
    (:func:`spikelfp.nn.recomputed`), 0 for the whole sequence at once. Parts of about √T steps need the least memory.
    The other arguments are those of :class:`~spikelfp.training.Trainer`.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        steps: int = 25,
        encoding: str = "constant",
        recompute: int | None = 0,
        **options: Any,
    ) -> None:
        if steps < 1:
            raise UserError(f"a sequence needs at least one step, got steps={steps}")
        self.steps, self.encode, self.recompute = steps, encodings[encoding], recompute or 0
        if self.recompute < 0:
            raise UserError(f"recompute must be 0 (off) or more, got {self.recompute}")
        if self.recompute >= steps:
            raise UserError(
                f"recompute={self.recompute} leaves a sequence of {steps} steps in one part, so that nothing is "
                "recomputed: choose fewer steps than those of a sequence, or 0"
            )
        super().__init__(net, **options)
        if self.recompute:
            with using(net, self.method.rule):
                nn.check_recomputable(net, training=True)

    def present(self, x: Tensor) -> Tensor:
        """A batch ``[B, …]`` as a sequence ``[T, B, …]``."""
        return self.encode(x, self.steps)

    def runs(self) -> torch.nn.Module:
        """The network, in parts that are recomputed if that is chosen."""
        return nn.Recomputed(self.net, self.recompute) if self.recompute else self.net  # type: ignore[arg-type]
