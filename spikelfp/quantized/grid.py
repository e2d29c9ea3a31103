"""Integers that stand for real numbers: ``w ≈ s · q``, ``q`` a whole number of a few bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spikelfp.errors import UserError


def largest(bits: int) -> int:
    """Largest integer of ``bits`` signed bits in the symmetric range ``-largest … largest``; 2 bits are ternary."""
    return 2 ** (bits - 1) - 1


def check_bits(bits: int) -> int:
    """``bits`` as an int, or :class:`~spikelfp.errors.UserError` outside of 2 to 16."""
    if not 2 <= bits <= 16 or bits != int(bits):
        raise UserError(f"bits must be a whole number from 2 to 16, got {bits}")
    return int(bits)


@dataclass(frozen=True, eq=False)
class Grid:
    """The whole numbers ``low … high``, each standing for ``scale · q``.

    scale: one number, or a tensor ``[C, 1, …]`` with one for each output channel (the first axis of a weight).
    """

    scale: float | Tensor
    low: int
    high: int

    @staticmethod
    def symmetric(scale: float | Tensor, bits: int) -> Grid:
        """The range of ``bits`` signed bits without its lowest number, so that ``−w`` is there with ``w``."""
        return Grid(scale, -largest(bits), largest(bits))

    def to_integers(self, values: Tensor) -> Tensor:
        """``round(values / scale)``, halves to even, limited to ``low … high``; whole numbers in the dtype of
        ``values``, or float32 for one of 16 bits, which could not hold them."""
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        return (values / self._like(values)).round_().clamp_(self.low, self.high)

    def to_real(self, integers: Tensor) -> Tensor:
        """``scale · q``."""
        return integers * self._like(integers)

    def _like(self, values: Tensor) -> float | Tensor:
        return self.scale.to(values) if isinstance(self.scale, Tensor) else self.scale
