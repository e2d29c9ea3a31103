"""How the weights of a network are quantised while it trains."""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.errors import UserError
from spikelfp.quantized.grid import check_bits
from spikelfp.quantized.scale import CLIPS
from spikelfp.registry import check_name

UPDATES = ("masters", "stochastic")
"""Where updates go: to float copies of the weights, or by stochastic rounding onto the grid itself."""


@dataclass(frozen=True)
class Quantization:
    """Weights of ``bits`` bits in every forward pass.

    update: one of :data:`UPDATES`. clip: how scales are chosen, one of :data:`~spikelfp.quantized.CLIPS`.
    every: steps of training between two choices of the scales of ``masters``, at least 1.

    Raises :class:`~spikelfp.errors.UserError` for ``bits`` outside of 2 to 16, unknown names and ``every`` below 1.
    """

    bits: int
    update: str = "masters"
    clip: str = "mse"
    every: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", check_bits(self.bits))
        check_name("update", self.update, UPDATES)
        check_name("clip", self.clip, CLIPS)
        if self.every < 1:
            raise UserError(f"scales are chosen every so many steps, at least 1, got every={self.every}")
