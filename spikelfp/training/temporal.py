"""Training on sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.data import encodings
from spikelfp.data.sequences import Sequences
from spikelfp.errors import UserError
from spikelfp.rules import lending
from spikelfp.training.chunks import Carried, check_carries
from spikelfp.training.defaults import check_whole
from spikelfp.training.trainer import Trainer


class TemporalTrainer(Trainer):
    """Trains a spiking network on sequences.

    Args:
        steps: of a sequence that is made of a static sample; :class:`~spikelfp.data.Sequences` have their own.
            ``None`` where all data are sequences: static samples are then refused.
        encoding: how a static batch becomes a sequence: ``constant`` (A.6.4), ``rate``, ``latency`` or ``delta``.
        recompute: train in parts of that many steps, whose graphs are made again in the backward pass
            (:func:`spikelfp.nn.recomputed`), 0 for the whole sequence at once. Parts of about √T steps need the least
            memory.
        chunk: train and evaluate so many steps at a time, each chunk from the state that the one before left, in memory
            of one chunk (:mod:`spikelfp.training.chunks`); ``None`` for whole sequences. Credit stays within a chunk,
            and dropout and batch statistics are those of a chunk. Evaluation is that of whole sequences.
        readout_steps: reward and read out only so many steps at the end of each sequence; ``None`` for all.
        options: those of :class:`~spikelfp.training.Trainer`.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        steps: int | None = 25,
        encoding: str = "constant",
        recompute: int | None = 0,
        chunk: int | None = None,
        readout_steps: int | None = None,
        **options: Any,
    ) -> None:
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int)):
            raise UserError(f"steps is a whole number, got {steps!r}")
        if steps is not None and steps < 1:
            raise UserError(f"a sequence needs at least one step, got steps={steps}")
        for name, value in (("chunk", chunk), ("readout_steps", readout_steps), ("recompute", recompute)):
            if value is not None:
                check_whole(name, value)
        self.steps, self.encoding, self.recompute = steps, encoding, recompute or 0
        self.encode = encodings[encoding]
        if readout_steps is not None and steps is not None and readout_steps > steps:
            raise UserError(f"readout_steps={readout_steps} are more than the {steps} steps of a sequence")
        if self.recompute < 0:
            raise UserError(f"recompute must be 0 (off) or more, got {self.recompute}")
        if steps is not None and self.recompute >= steps:
            raise UserError(
                f"recompute={self.recompute} leaves a sequence of {steps} steps in one part, so that nothing is "
                "recomputed: choose fewer steps than those of a sequence, or 0"
            )
        for name, value in (("chunk", chunk), ("readout_steps", readout_steps)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1 (or left out), got {value}")
        if chunk is not None and self.recompute:
            raise UserError(
                f"chunk={chunk} and recompute={self.recompute} exclude each other: credit ends at a chunk's border, "
                "while recomputation takes it through the whole sequence; choose one of them"
            )
        if chunk is not None:
            check_carries(net)
        self.chunk, self.readout_steps = chunk, readout_steps
        super().__init__(net, **options)
        if self.recompute:
            with lending(net, self.method.rule):
                nn.check_recomputable(net, training=True)

    def present(self, x: Tensor | Sequences) -> Tensor:
        """A batch ``[B, …]`` as a sequence ``[T, B, …]``; sequences as they are."""
        if isinstance(x, Sequences):
            return x.values
        if self.steps is None:
            raise UserError("steps=None is for data of sequences, and these are static samples: say how many steps")
        return self.encode(x, self.steps)

    def runs(self) -> torch.nn.Module:
        """The network, in parts that are recomputed or in chunks if that is chosen."""
        if self.chunk is not None:
            return Carried(self.net)
        return nn.Recomputed(self.net, self.recompute) if self.recompute else self.net  # type: ignore[arg-type]

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "steps": self.steps,
            "encoding": self.encoding,
            "chunk": self.chunk,
            "readout_steps": self.readout_steps,
        }

    def _shown(self) -> dict[str, str]:
        rows = {"steps": f"{self.steps}, encoding {self.encoding}"}
        parts = {"recompute": self.recompute, "chunk": self.chunk, "readout_steps": self.readout_steps}
        return rows | {name: str(value) for name, value in parts.items() if value}
