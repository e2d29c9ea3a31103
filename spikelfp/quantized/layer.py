"""Layers that may compute with the integers of a grid in place of their weights, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.split import LinearMap
from spikelfp.nn.layer import Layer
from spikelfp.quantized.grid import Grid, Represented, Rounded, check_bits
from spikelfp.quantized.scale import CLIPS
from spikelfp.registry import check_name

WIDE = 2**24 - 1
"""Largest integer of a bias: it is added to sums, which are wider than a weight, and float32 is exact up to here."""


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


class Quantizable(Layer):
    """A layer with ``weight`` and ``bias`` that :class:`~spikelfp.quantized.WeightGrids` may put on a grid.

    Attributes:
        quantization: ``None`` for a layer that computes in floats.
        weight_scale: real value of one step of a weight, a scalar buffer, there with ``quantization`` and kept in
            checkpoints.
        bias_on_grid: whether the bias is an integer too.
        bias_steps: its steps are so many times finer than those of the weights.
    """

    quantization: Quantization | None = None
    bias_on_grid: bool = False
    bias_steps: int = 1
    weight_scale: Tensor
    weight: Tensor
    bias: Any  # Tensor | None, which torch's layers declare in several ways

    @property
    def grid(self) -> Grid | None:
        """Of the weights: ``grid.to_integers(weight)`` are those of the forward pass; ``None`` for floats."""
        if self.quantization is None:
            return None
        return Grid.symmetric(self.weight_scale.item(), self.quantization.bits)

    @property
    def bias_grid(self) -> Grid | None:
        """Of the bias, whose step is ``grid.scale / bias_steps``; ``None`` for a float."""
        if self.quantization is None or not self.bias_on_grid:
            return None
        return Grid((self.weight_scale / self.bias_steps).item(), -WIDE, WIDE)

    def live_grids(self) -> tuple[Grid, Grid | None]:
        """:attr:`grid` and :attr:`bias_grid` with tensors for scales, so that a GPU is not waited for."""
        assert self.quantization is not None
        wide = Grid(self.weight_scale / self.bias_steps, -WIDE, WIDE) if self.bias_on_grid else None
        return Grid.symmetric(self.weight_scale, self.quantization.bits), wide

    def put_on_grid(self, options: Quantization, bias_steps: int | None) -> None:
        """Make it compute as ``options`` say, its bias a float for ``None``; the scale, 1, is for the caller to set."""
        self.quantization, self.bias_on_grid, self.bias_steps = options, bias_steps is not None, bias_steps or 1
        self.register_buffer("weight_scale", self.weight.new_ones(()))

    def product(self, op: LinearMap, x: Tensor) -> Tensor:
        """``op(x, weight, bias)`` under the layer's rule, with weights on their grid if there is one.

        The rule is given the parameters, so that its steps are ``|w|`` times a sum for what ``w`` stands for, and
        ``op`` rounds them: contributions and messages are those of the quantised network.
        """
        weight, bias, options = self.weight, self.bias, self.quantization
        if options is None:
            return self.rule.linear(op, x, weight, bias)
        grid, wide = self.live_grids()
        if options.update == "stochastic":
            weight = Represented.apply(weight, grid)
            bias = bias if bias is None or wide is None else Represented.apply(bias, wide)

        def on_grid(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            rounded = bias if bias is None or wide is None else Rounded.apply(bias, wide)
            return op(x, Rounded.apply(weight, grid), rounded)

        return self.rule.linear(on_grid, x, weight, bias)
