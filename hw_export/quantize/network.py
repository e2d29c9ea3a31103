"""A network with integer weights, biases and thresholds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hw_export.quantize.report import LayerReport
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.sequence import is_constant, repeat


class QuantizedNetwork(nn.Sequential):
    """What :func:`quantize` returns: a network that runs and exports as any other (for inference: no
    gradients).

    Attributes:
        bits: of a weight, ``None`` for a network left in floats.
        clip: how the scales were chosen; ``trained`` where all were taken over from training.
        input_scale: inputs are the integers ``x · input_scale``; ``None``: the inputs ``x`` themselves.
        report: a :class:`~hw_export.quantize.LayerReport` for each layer of weights.
        notes: what the user should know.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.bits: int | None = None
        self.clip: str | None = None
        self.input_scale: int | None = None
        self.report: tuple[LayerReport, ...] = ()
        self.notes: tuple[str, ...] = ()

    def scaled(self, inputs: Tensor) -> Tensor:
        """The inputs of this network that the inputs ``x`` of the original stand for: the integers ``x · input_scale``
        in float32, or ``x``.

        Raises :class:`~spikelfp.errors.UserError` where ``x · input_scale`` are no integers from 0 to ``input_scale``.
        """
        inputs = inputs.detach().to("cpu", torch.float32)
        if self.input_scale is None:
            return inputs
        if is_constant(inputs):
            return repeat(self._integers(inputs[0]), len(inputs))
        return self._integers(inputs)

    def _integers(self, inputs: Tensor) -> Tensor:
        assert self.input_scale is not None
        scaled = inputs * self.input_scale
        whole = scaled.round()
        if not (scaled - whole).abs().max() <= 1e-6 * self.input_scale or whole.min() < 0:
            raise UserError(
                f"the inputs are no whole numbers over {self.input_scale}, from 0: leave input_scale out, and the "
                "network takes them as they are"
            )
        if whole.max() > self.input_scale:
            raise UserError(
                f"the inputs go up to {inputs.max().item():.3g}, and the sums of the network are bounded for inputs up "
                "to 1: scale them to [0, 1], or leave input_scale out"
            )
        return whole
