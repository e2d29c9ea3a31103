"""Layers of weights as the simulator holds them: their sums, what events reach, and single weights written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_export.integer import exact
from hw_export.integer.kernels import compiled, numba_rows
from hw_export.integer.network import Conv, Dense
from spikelfp.errors import UserError
from spikelfp.kernels.events import conv as event_convolution
from spikelfp.kernels.events.conv_events import MOST_KEYS, image_events
from spikelfp.kernels.events.conv_shape import Steps, geometry

DENSEST = 0.3
"""Share of inputs that are not zero up to which sums are made event by event, on the CPU."""
_SAMPLE = 32  # rows that tell how dense the others are


class Product:
    """The weights of one layer, in place: int32 ``weight`` and int64 ``bias``, copies of the network's.

    layer: sizes, stride, padding and name; its own weights are not looked at any more. Weights may be written within
    their ``bits``, or as far as the largest of the network where it holds larger ones (with a power of two for each
    channel it may). in_shape, shape: of what goes in and comes out for one sample at one step.
    """

    def __init__(
        self, layer: Dense | Conv, in_shape: tuple[int, ...], shape: tuple[int, ...], bits: int, device: torch.device
    ) -> None:
        self.layer, self.name, self.in_shape = layer, layer.name, in_shape
        self.weight = layer.weight.to(device, torch.int32, copy=True).contiguous()
        self.bias = layer.bias.to(device, torch.int64, copy=True)
        self.multiplications = math.prod(shape) * self.weight[0].numel()
        most = int(self.weight.abs().max())
        self._range = (min(-(2 ** (bits - 1)), -most), max(2 ** (bits - 1) - 1, most))
        self._made: dict[Any, Any] = {}  # what is made from the weights once, until one is written

    def sums(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Sums without biases of whole numbers ``x [R, …]`` of any dtype: ``[R, …]`` in ``dtype``, which holds them."""
        if compiled(x.device) and dtype == torch.float32:
            by_events = self._dense_events(x) if isinstance(self.layer, Dense) else self._conv_events(x)
            if by_events is not None:
                return by_events
        if isinstance(self.layer, Dense):
            return exact.product(x.to(dtype), self._as(dtype))
        return exact.convolution(x.to(dtype), self._as(dtype), self.layer)

    def gain(self) -> int:
        """``max Σ |w|`` over the outputs: how much larger than the inputs sums can be."""
        if "gain" not in self._made:
            self._made["gain"] = int(self.weight.flatten(1).abs().sum(1, dtype=torch.int64).max())
        return self._made["gain"]

    def reached(self) -> Tensor:
        """How many weights that are not zero an event at each input reaches, int64 of the shape of the input."""
        if "reached" not in self._made:
            there = (self.weight != 0).to(torch.float64)
            reached = there.sum(0) if isinstance(self.layer, Dense) else _spread(there, self.layer, self.in_shape)
            self._made["reached"] = reached.to(torch.int64)
        return self._made["reached"]

    def range_of(self, kind: str) -> tuple[int, int]:
        """Lowest and highest number that may be written to ``weight`` or ``bias``."""
        return self._range if kind == "weight" else (-(2**31), 2**31 - 1)

    def write(self, kind: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Set ``weight`` or ``bias``, ``kind``, at flat ``indices``; all are checked before the first is set."""
        name = f"{self.name}.{kind}"
        target = self.weight if kind == "weight" else self.bias
        if indices.shape != values.shape or indices.ndim != 1:
            raise UserError(f"{name}: {indices.shape} indices for {values.shape} values; pass one of each, in a row")
        for what, array in (("indices", indices), ("values", values)):
            if not np.issubdtype(array.dtype, np.integer):
                raise UserError(f"{name}: the {what} must be whole numbers, got {array.dtype}")
        if not len(indices):
            return
        if indices.min() < 0 or indices.max() >= target.numel():
            worst = indices.min() if indices.min() < 0 else indices.max()
            raise UserError(f"{name} has the indices 0 to {target.numel() - 1}, there is no index {worst}")
        if len(np.unique(indices)) < len(indices):
            raise UserError(f"{name}: an index stands there twice, which leaves open which of its values is meant")
        low, high = self.range_of(kind)
        if values.min() < low or values.max() > high:
            raise UserError(
                f"{name} holds whole numbers from {low} to {high}, got {values.min()} to {values.max()}: "
                "is the update made for another network?"
            )
        places = torch.from_numpy(indices.astype(np.int64)).to(target.device)
        target.view(-1)[places] = torch.from_numpy(values.astype(np.int64)).to(target.device, target.dtype)
        self._made.clear()

    def _as(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._made:
            self._made[dtype] = self.weight.to(dtype)
        return self._made[dtype]

    def _dense_events(self, x: Tensor) -> Tensor | None:
        """The sums of a dense layer event by event; ``None`` where ``x`` is too dense, or made of floats."""
        if x.is_floating_point() or _density(x) > DENSEST:
            return None
        if "by input" not in self._made:
            self._made["by input"] = numba_rows.ByInput.of(self.weight)
        return numba_rows.sums(x, self._made["by input"])

    def _conv_events(self, x: Tensor) -> Tensor | None:
        layer, weight = self.layer, self._as(torch.float32)
        assert isinstance(layer, Conv)
        steps = Steps(layer.stride, layer.padding, layer.dilation, layer.groups)
        if steps.dilation != (1, 1) or steps.groups != 1 or x.shape[1] * x.shape[3] > MOST_KEYS:
            return None
        if _density(x) > DENSEST:
            return None
        images = x.to(torch.float32)
        events = image_events(images, 1.0)
        if events is None:
            return None
        g = geometry(images, weight, steps, 1)
        out = torch.empty(len(x), g.outputs, g.out_height, g.out_width)
        event_convolution.forward(events, weight, None, g, out, torch.empty(0, dtype=torch.uint8))
        return out


def totals(x: Tensor) -> Tensor:
    """``Σ |x|`` over the rows of whole numbers ``x [R, …]``, int64 ``[…]``."""
    if compiled(x.device) and not x.is_floating_point():
        return numba_rows.totals(x.flatten(1)).view(x.shape[1:])
    whole = x.abs() if x.is_floating_point() else x.to(torch.int64).abs()
    return whole.sum(0, dtype=torch.float64 if x.is_floating_point() else torch.int64).to(torch.int64)


def _density(x: Tensor) -> float:
    """Share of a sample of ``x`` that is not zero."""
    sample = x[:: max(1, len(x) // _SAMPLE)]
    return int(torch.count_nonzero(sample)) / max(sample.numel(), 1)


def _spread(there: Tensor, layer: Conv, shape: tuple[int, ...]) -> Tensor:
    """For each input how many of the weights ``there`` look at it from a place of the output."""
    kernel = there.shape[2:]
    sizes = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(shape[1:], layer.padding, layer.dilation, kernel, layer.stride, strict=True)
    ]
    ones = there.new_ones(1, there.shape[0], *sizes)
    covered = [
        (size - 1) * s - 2 * p + d * (k - 1) + 1
        for size, p, d, k, s in zip(sizes, layer.padding, layer.dilation, kernel, layer.stride, strict=True)
    ]
    # inputs behind the last window are looked at by nothing
    spread = F.conv_transpose2d(ones, there, None, layer.stride, layer.padding, 0, layer.groups, layer.dilation)
    rest = [size - own for size, own in zip(shape[1:], covered, strict=True)]
    return F.pad(spread[0], (0, rest[1], 0, rest[0])).round()
