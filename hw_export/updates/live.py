"""Which integers a step of training changed."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_export.updates.content import Change
from hw_export.updates.image import Parameter
from spikelfp.errors import NonFiniteError, ShapeError

_WORD = 8
"""Bytes of an int64."""


class LiveParameter:
    """One parameter in training, and the integers that were recorded of it.

    Buffers are made once: on a small network, making them takes longer than filling them.
    """

    def __init__(self, parameter: Parameter, integers: NDArray[np.generic], device: torch.device) -> None:
        self.parameter = parameter
        self.integers = torch.from_numpy(np.array(integers)).to(device)
        self.rounded = torch.empty_like(self.integers)
        self.differs = torch.zeros(-(-parameter.size // _WORD) * _WORD, dtype=torch.bool, device=device)
        self.scaled = torch.empty(0)

    @torch.no_grad()
    def change(self, live: Tensor, step: int) -> Change | None:
        """What differs from :attr:`integers`; ``None`` where nothing does. :meth:`keep` makes it their new state.

        The integers are ``grid.to_integers(live)``, the same operations into buffers of their own. Raises
        :class:`~spikelfp.errors.NonFiniteError` for NaN or infinity.
        """
        p = self.parameter
        if tuple(live.shape) != p.shape:
            raise ShapeError(f"{p.name} has shape {tuple(live.shape)}, the recording began with {p.shape}")
        if not math.isfinite(live.sum(dtype=None if live.dtype == torch.float64 else torch.float32).item()):
            raise NonFiniteError(f"{p.name} holds NaN or infinity after step {step}: this step is not recorded")
        self._move(live)
        scale = p.grid.scale.to(live) if isinstance(p.grid.scale, Tensor) else p.grid.scale
        torch.div(live, scale, out=self.scaled).round_().clamp_(p.grid.low, p.grid.high)
        self.rounded.copy_(self.scaled)
        torch.ne(self.rounded.view(-1), self.integers.view(-1), out=self.differs[: p.size])
        indices = _places(self.differs)
        if not len(indices):
            return None
        values = self.rounded.view(-1)[indices]
        return Change(p.name, indices.cpu().numpy(), values.to("cpu", torch.int32).numpy())

    def keep(self) -> None:
        """The last :meth:`change` is recorded: what comes next is compared with it."""
        self.integers, self.rounded = self.rounded, self.integers

    def image(self) -> NDArray[np.generic]:
        """The integers as recorded."""
        return self.integers.cpu().numpy()

    def _move(self, live: Tensor) -> None:
        """Buffers for a parameter on this device and of this type."""
        if self.integers.device != live.device:
            self.integers, self.rounded = self.integers.to(live.device), self.rounded.to(live.device)
            self.differs = self.differs.to(live.device)
        if self.scaled.shape != live.shape or self.scaled.dtype != live.dtype or self.scaled.device != live.device:
            self.scaled = torch.empty_like(live, memory_format=torch.contiguous_format)


def _places(differs: Tensor) -> Tensor:
    """Where the bytes ``differs`` are true, rising, int64; eight are looked at in one go, as most are false."""
    words = differs.view(torch.int64).nonzero()
    candidates = (words * _WORD + torch.arange(_WORD, device=differs.device)).flatten()
    return candidates[differs[candidates]]
