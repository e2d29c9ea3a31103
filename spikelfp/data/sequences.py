"""A batch of sequences of unequal lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikelfp.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences ``[T, B, …]``, time first, padded with zeros behind their ends to the longest of them.

    Attributes:
        values: float32 ``[T, B, …]``, dense or as a coalesced sparse COO tensor.
        lengths: int64 ``[B]``, the steps of each, 1 to ``T``; ``None``: all have ``T``.

    Raises:
        ShapeError: for lengths that do not fit the values.
    """

    values: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.dim() < 2:
            raise ShapeError(f"sequences are [T, B, …], got shape {tuple(self.values.shape)}")
        if self.lengths is None:
            return
        steps, samples = self.values.shape[:2]
        if self.lengths.shape != (samples,):
            raise ShapeError(f"{samples} sequences need as many lengths, got shape {tuple(self.lengths.shape)}")
        if samples and not 1 <= int(self.lengths.min()) <= int(self.lengths.max()) <= steps:
            raise ShapeError(
                f"lengths must be 1 to {steps}, got {int(self.lengths.min())} to {int(self.lengths.max())}"
            )

    def __repr__(self) -> str:
        steps, samples, *shape = self.values.shape
        kind = str(self.values.dtype).removeprefix("torch.") + (", sparse" if self.values.is_sparse else "")
        lengths = ""
        if self.lengths is not None and samples:
            lengths = f", lengths {int(self.lengths.min())} to {int(self.lengths.max())}"
        return f"Sequences({steps} steps of {samples} samples of {tuple(shape)}{lengths}, {kind}, {self.values.device})"

    def __len__(self) -> int:
        """Samples of the batch."""
        return self.values.shape[1]

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        return Sequences(self.values.to(device), None if self.lengths is None else self.lengths.to(device))

    def pin_memory(self) -> Sequences:
        """The same in pinned memory; asked for by torch's ``DataLoader``."""
        return Sequences(self.values.pin_memory(), None if self.lengths is None else self.lengths.pin_memory())

    @property
    def mask(self) -> Tensor | None:
        """Boolean ``[T, B]``, true for the steps of a sequence and false for its padding; ``None`` without padding."""
        if self.lengths is None:
            return None
        return torch.arange(len(self.values), device=self.lengths.device).unsqueeze(1) < self.lengths


def mask_of(x: Tensor | Sequences) -> Tensor | None:
    """Boolean ``[T, B]``, false for padding; ``None`` without any."""
    return x.mask if isinstance(x, Sequences) else None
