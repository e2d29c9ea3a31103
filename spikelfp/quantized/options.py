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
    every: steps of training between two choices of the scales of ``masters``, at least 1. input_levels: inputs of the
    network are multiples of one over it, 255 for 8-bit pixels in [0, 1], 1 for spikes: the steps of a bias behind them
    divide those of the sums.

    Raises :class:`~spikelfp.errors.UserError` for ``bits`` outside of 2 to 16, unknown names, and ``every`` or
    ``input_levels`` below 1.
    """

    bits: int
    update: str = "masters"
    clip: str = "mse"
    every: int = 20
    input_levels: int = 255

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", check_bits(self.bits))
        check_name("update", self.update, UPDATES)
        check_name("clip", self.clip, CLIPS)
        if self.every < 1:
            raise UserError(f"scales are chosen every so many steps, at least 1, got every={self.every}")
        if self.input_levels < 1:
            raise UserError(f"inputs have a whole number of levels, at least 1, got input_levels={self.input_levels}")
