"""Stages of a network: layers that add up exactly, and the neurons after them.

A sum of terms ``w x`` is exact in float32, in any order and with or without fused multiply-add, if every partial sum is
a whole number below 2^24, which ``Σ |w| · peak`` bounds; the same holds for float64 below 2^53. Larger sums are int64.
Convolutions are products of windows with the weights: faster algorithms transform what they multiply, and round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_export.integer import numba_kernels
from hw_export.integer.arithmetic import Arithmetic, IntegerConstants
from hw_export.integer.network import (
    DELAYS,
    IntegerConv,
    IntegerDelay,
    IntegerDense,
    IntegerFlatten,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    IntegerTaps,
    Pair,
    aligned,
    output_shape,
)
from spikelfp.errors import UserError
from spikelfp.kernels.events import conv_kernels as event_convolution
from spikelfp.kernels.events.conv_kernels import MOST_KEYS, Steps, geometry, image_events

LIMIT = 2**62
"""Bound on all sums, so that int64 holds them and what is added to them."""


def dtype_for(bound: int, name: str) -> torch.dtype:
    """Choose the dtype in which sums of magnitude up to ``bound`` are exact.

    Raises:
        UserError: where int64 is too narrow, naming the layer.
    """
    if bound < 2**24:
        return torch.float32
    if bound < 2**53:
        return torch.float64
    if bound >= LIMIT:
        raise UserError(f"the sums of layer {name!r} could reach {bound:.3g}, beyond 64 bits: scale the inputs")
    return torch.int64


@contextmanager
def unrounded(device: torch.device) -> Iterator[None]:
    """Context in which products are made in the dtype they are asked for: no autocast, no TF32, no bfloat16."""
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False), torch.no_grad():
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply ``X Wᵀ`` of ``[R, K]`` and ``[N, K]``, of one dtype: float32, float64 or int64."""
    if x.dtype == torch.int64 and x.device.type != "cpu":  # no device has this product but the CPU
        return (x.cpu() @ weight.cpu().t()).to(x.device)
    return x @ weight.t()


def windows(x: Tensor, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Tensor:
    """View all windows of ``x [R, C, H, W]``, ``[R, C, rows, columns, *kernel]``, without a copy."""
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    ]  # fmt: skip
    n, c, down, across = x.stride()
    return x.as_strided(
        (*x.shape[:2], *sizes, *kernel),
        (n, c, down * stride[0], across * stride[1], down * dilation[0], across * dilation[1]),
        x.storage_offset(),
    )


def convolution(x: Tensor, weight: Tensor, layer: IntegerConv) -> Tensor:
    """Convolve ``x [R, C, H, W]`` with ``weight [O, C / groups, height, width]``: ``[R, O, rows, columns]``."""
    kernel = (weight.shape[2], weight.shape[3])
    down, across = layer.padding
    seen = windows(F.pad(x, (across, across, down, down)), kernel, layer.stride, layer.dilation)
    rows, columns = seen.shape[2:4]
    parts = []
    for own, filters in zip(seen.chunk(layer.groups, 1), weight.chunk(layer.groups, 0), strict=True):
        flat = own.permute(0, 2, 3, 1, 4, 5).reshape(len(x) * rows * columns, filters[0].numel())
        parts.append(product(flat, filters.flatten(1)).view(len(x), rows, columns, len(filters)))
    return torch.cat(parts, 3).permute(0, 3, 1, 2).contiguous()


def pooled(x: Tensor, layer: IntegerPool) -> Tensor:
    """Pool the windows of ``x [R, C, H, W]``, in its dtype: sums, or largest values."""
    (down, across), (height, width) = layer.stride, layer.kernel
    rows, columns = ((size - k) // s + 1 for size, k, s in zip(x.shape[2:], layer.kernel, layer.stride, strict=True))
    places = (
        x[:, :, top : top + (rows - 1) * down + 1 : down, left : left + (columns - 1) * across + 1 : across]
        for top in range(height)
        for left in range(width)
    )
    return reduce(torch.add if layer.kind == "sum" else torch.maximum, places)


def shifted(x: Tensor, delays: Tensor) -> Tensor:
    """Shift a sequence ``x [T, B, …]`` later by ``delays`` ``[]`` or ``[…]``, with zeros before it begins."""
    if not delays.dim():
        return torch.cat([x.new_zeros(min(int(delays), len(x)), *x.shape[1:]), x[: max(len(x) - int(delays), 0)]])
    first = torch.arange(len(x), device=x.device).view(-1, *[1] * (x.dim() - 1)) - delays.to(x.device)
    first = first.expand(x.shape)
    return x.gather(0, first.clamp(min=0)).masked_fill_(first < 0, 0)


DENSEST = 0.3
"""Largest fraction of inputs other than 0 for which sums are made event by event, on the CPU."""
_SAMPLE = 32  # rows that tell how dense the others are


class Product:
    """Weights of one layer that may be written in place: int32 ``weight`` and int64 ``bias``, copies of the network's.

    Weights may be written within their ``bits``, or as far as the largest of the network where it holds larger ones
    (with a power of two for each channel it may).

    Args:
        layer: gives name, sizes, stride and padding; its own weights are not used after the copy.
        in_shape: of the input for one sample at one step.
        shape: of the output.
        bits: of a weight.
        device: of the copies.
    """

    def __init__(
        self,
        layer: IntegerDense | IntegerConv,
        in_shape: tuple[int, ...],
        shape: tuple[int, ...],
        bits: int,
        device: torch.device,
    ) -> None:
        self.layer, self.name, self.in_shape = layer, layer.name, in_shape
        self.weight = layer.weight.to(device, torch.int32, copy=True).contiguous()
        self.bias = layer.bias.to(device, torch.int64, copy=True)
        self.multiplications = math.prod(shape) * self.weight[0].numel()
        most = int(self.weight.abs().max())
        self._range = (min(-(2 ** (bits - 1)), -most), max(2 ** (bits - 1) - 1, most))
        self._made: dict[Any, Any] = {}  # derived from the weights, until one is written

    def sums(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Sum the products of whole numbers ``x [R, …]`` of any dtype, without biases: ``[R, …]`` in ``dtype``."""
        if numba_kernels.compiled(x.device) and dtype == torch.float32:
            if isinstance(self.layer, IntegerConv):
                by_events = self._conv_events(x)
                if by_events is not None:
                    return by_events
            elif not x.is_floating_point() and _density(x) <= DENSEST:
                if "by input" not in self._made:
                    self._made["by input"] = numba_kernels.ByInput.of(self.weight)
                return numba_kernels.sums(x, self._made["by input"])
        if isinstance(self.layer, IntegerDense):
            return product(x.to(dtype), self._as(dtype))
        return convolution(x.to(dtype), self._as(dtype), self.layer)

    def gain(self) -> int:
        """Compute ``max Σ |w|`` over the outputs: how much larger than the inputs sums can be."""
        if "gain" not in self._made:
            self._made["gain"] = int(self.weight.flatten(1).abs().sum(1, dtype=torch.int64).max())
        return self._made["gain"]

    def reached(self) -> Tensor:
        """Count the weights other than 0 that an event at each input reaches, int64 of the shape of the input."""
        if "reached" not in self._made:
            there, layer = (self.weight != 0).to(torch.float64), self.layer
            reached = there.sum(0) if isinstance(layer, IntegerDense) else _spread(there, layer, self.in_shape)
            self._made["reached"] = reached.to(torch.int64)
        return self._made["reached"]

    def write(self, kind: str, indices: np.ndarray, values: np.ndarray) -> None:
        """Set ``weight`` or ``bias`` at flat indices; all are checked before the first is set.

        Args:
            kind: ``weight`` or ``bias``.
            indices: whole numbers ``[n]``.
            values: whole numbers ``[n]``.

        Raises:
            UserError: for indices that are out of range or given twice, and values out of range.
        """
        name = f"{self.name}.{kind}"
        target = self.weight if kind == "weight" else self.bias
        if indices.shape != values.shape or indices.ndim != 1:
            raise UserError(
                f"{name}: {indices.shape} indices for {values.shape} values; pass flat arrays of one length"
            )
        for what, array in (("indices", indices), ("values", values)):
            if not np.issubdtype(array.dtype, np.integer):
                raise UserError(f"{name}: the {what} must be whole numbers, got {array.dtype}")
        if not len(indices):
            return
        if indices.min() < 0 or indices.max() >= target.numel():
            worst = indices.min() if indices.min() < 0 else indices.max()
            raise UserError(f"{name} has the indices 0 to {target.numel() - 1}, there is no index {worst}")
        if len(np.unique(indices)) < len(indices):
            raise UserError(f"{name}: an index is given twice, with two values: give each index one time")
        low, high = self._range if kind == "weight" else (-(2**31), 2**31 - 1)
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

    def _conv_events(self, x: Tensor) -> Tensor | None:
        """Sum the products of a convolution event by event; ``None`` where that does not pay or is not implemented."""
        layer, weight = self.layer, self._as(torch.float32)
        assert isinstance(layer, IntegerConv)
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
    """Sum ``Σ |x|`` over the rows of whole numbers ``x [R, …]``, int64 ``[…]``."""
    if numba_kernels.compiled(x.device) and not x.is_floating_point():
        return numba_kernels.totals(x.flatten(1)).view(x.shape[1:])
    whole = x.abs() if x.is_floating_point() else x.to(torch.int64).abs()
    return whole.sum(0, dtype=torch.float64 if x.is_floating_point() else torch.int64).to(torch.int64)


def _density(x: Tensor) -> float:
    """Estimate the fraction of ``x`` that is not zero, from a sample of its rows."""
    sample = x[:: max(1, len(x) // _SAMPLE)]
    return int(torch.count_nonzero(sample)) / max(sample.numel(), 1)


def _spread(there: Tensor, layer: IntegerConv, shape: tuple[int, ...]) -> Tensor:
    """Count for each input how many of the weights ``there`` meet it from a place of the output."""
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
    # no window covers the inputs after the last one
    spread = F.conv_transpose2d(ones, there, None, layer.stride, layer.padding, 0, layer.groups, layer.dilation)
    rest = [size - own for size, own in zip(shape[1:], covered, strict=True)]
    return F.pad(spread[0], (0, rest[1], 0, rest[0])).round()


Totals = dict[str, Tensor]
"""Totals ``Σ |x|`` of each input of each layer of weights, int64, by name of the layer.

Event by event: the number of events from each input of each stage, by name of the stage.
"""
CURRENT = ".current"
"""Suffix of the name of the neurons, for the state that holds their currents."""
MOST_MATRIX = 2**27  # weights that a stage may have as one matrix


Passing = Product | IntegerPool | IntegerFlatten | IntegerDelay | IntegerTaps
"""Layers in front of neurons."""


def _check_delays(front: Sequence[Passing], arithmetic: Arithmetic) -> int:
    """Return the longest delay of the layers in front of weights; refuse those that a chip cannot hold."""
    longest = 0
    for layer in front:
        if isinstance(layer, (Product, IntegerPool)):
            raise UserError(
                f"layer {layer.name!r} stands in front of a delay, and chips delay the inputs of weights: put the "
                "delay before it"
            )
        longest += layer.longest if isinstance(layer, DELAYS) else 0
        if longest > arithmetic.delays:
            most = f"delays of up to {arithmetic.delays} steps" if arithmetic.delays else "no delays"
            raise UserError(f"layer {layer.name!r} delays its inputs by up to {longest} steps, this chip has {most}")
    return longest


class NeuronStage:
    """One layer of neurons, with all layers between it and the neurons before it.

    Attributes:
        name: of the neurons.
        shape: of their output for one sample at one step.
        given_shape: of the input.
        in_shape: of the input after its delays.
        bits: of a weight.
        registers: names of the states that each neuron keeps from step to step: its membrane and, with a synapse, its
            current.
        longest: steps of the input that are kept for delays.
    """

    def __init__(
        self,
        layers: tuple[Passing, ...],
        constants: IntegerConstants,
        name: str,
        in_shape: tuple[int, ...],
        shape: tuple[int, ...],
        bits: int,
    ) -> None:
        self.bits = bits
        front = max((place for place, layer in enumerate(layers, 1) if isinstance(layer, DELAYS)), default=0)
        self._front, self.layers = layers[:front], layers[front:]
        self.longest = _check_delays(self._front, constants.arithmetic)
        self.constants, self.name, self.given_shape = constants, name, in_shape
        for layer in self._front:
            assert not isinstance(layer, Product)
            in_shape = output_shape(layer, in_shape)
        self.in_shape, self.shape, self.size = in_shape, shape, math.prod(shape)
        self.registers = (name,) if constants.arithmetic.synapse is None else (name, name + CURRENT)
        self._offset: Tensor | None = None
        self._matrix: Tensor | None = None

    @property
    def delays(self) -> bool:
        """Whether the inputs are delayed."""
        return bool(self._front)

    @property
    def products(self) -> tuple[Product, ...]:
        """The layers of weights."""
        return tuple(layer for layer in self.layers if isinstance(layer, Product))

    def delayed(self, x: Tensor, steps: int, peak: int, line: Tensor) -> tuple[Tensor, int]:
        """Delay the inputs of the stage.

        Args:
            x: whole numbers ``[T, B, …]``, or of one step, which is then the same at each of the ``steps``.
            steps: number of steps.
            peak: bound on ``|x|``.
            line: the last inputs before, int64 ``[B, longest, …]``; those to go on from are written into it.

        Returns:
            Inputs of the layers after the delays, ``[T, B, …]``, and a bound on them.
        """
        kind = x.dtype
        if line.numel():
            most = int(line.abs().max())
            kind, peak = (kind if most <= torch.iinfo(kind).max else torch.int64), max(peak, most)
        x = torch.cat([line.transpose(0, 1).to(kind), x.to(kind).expand(steps, *x.shape[1:])])
        line.copy_(x[len(x) - self.longest :].transpose(0, 1))
        for layer in self._front:
            if isinstance(layer, IntegerDelay):
                x = shifted(x, aligned(layer.delays, tuple(x.shape[2:])))
            elif isinstance(layer, IntegerTaps):
                x = torch.cat([shifted(x, torch.tensor(each)) for each in layer.delays], -1)
            else:
                x = x.flatten(2)
        return x[self.longest :].contiguous(), peak

    def sums(self, x: Tensor, peak: int, seen: Totals | None = None, times: int = 1) -> Tensor:
        """Compute the sums that whole numbers ``x`` make at the neurons, without biases.

        Args:
            x: inputs ``[R, *in_shape]``.
            peak: bound on ``|x|``.
            seen: where given, ``times`` the totals of the inputs of each layer of weights are added to it.
            times: number of steps that ``x`` stands for.

        Returns:
            ``[R, N]`` in float32, float64 or int64, whichever holds all sums exactly.
        """
        for layer in self.layers:
            if isinstance(layer, Product):
                if seen is not None:
                    seen[layer.name] = seen.get(layer.name, 0) + times * totals(x)
                peak *= layer.gain()
                x = layer.sums(x, dtype_for(peak, layer.name))
            elif isinstance(layer, IntegerPool):
                peak *= math.prod(layer.kernel) if layer.kind == "sum" else 1
                x = pooled(x.to(dtype_for(peak, layer.name)), layer)
            else:
                x = x.flatten(1)
        if peak << self.constants.arithmetic.shift >= LIMIT:
            dtype_for(peak << self.constants.arithmetic.shift, self.name)
        return x.flatten(1).contiguous()

    def offset(self) -> Tensor:
        """Compute the sums that the biases make at the neurons at every step, int64 ``[N]``."""
        if self._offset is None:
            x = torch.zeros(1, *self.in_shape, dtype=torch.int64, device=self.constants.threshold.device)
            for layer in self.layers:
                if isinstance(layer, Product):
                    x = layer.sums(x, torch.int64)
                    x = x + layer.bias.view(-1, *[1] * (x.dim() - 2))
                else:
                    x = pooled(x, layer) if isinstance(layer, IntegerPool) else x.flatten(1)
            self._offset = x.flatten()
        return self._offset

    def matrix(self) -> Tensor:
        """Write all layers as one matrix: the sum that an event of each input adds to each neuron, int64 ``[K, N]``.

        Raises:
            UserError: where that is no sum (pooling by the largest value), or too large.
        """
        if self._matrix is None:
            inputs = math.prod(self.in_shape)
            for layer in self.layers:
                if isinstance(layer, IntegerPool) and layer.kind != "sum":
                    raise UserError(f"layer {layer.name!r} takes the largest of its inputs, but events are added")
            if inputs * self.size > MOST_MATRIX:
                raise UserError(
                    f"the {inputs} inputs of the neurons {self.name!r} reach {self.size} of them: event by event at "
                    f"most {MOST_MATRIX} weights are simulated"
                )
            each = torch.eye(inputs, dtype=torch.int8, device=self.constants.threshold.device)
            self._matrix = self.sums(each.view(inputs, *self.in_shape), 1).to(torch.int64)
        return self._matrix

    def operations(self, seen: Totals) -> int:
        """Count the weights that are not zero and that the events of ``seen`` reach."""
        if self.constants.arithmetic.by_event:
            return int((seen[self.name] * (self.matrix() != 0).sum(1)).sum())
        return sum(int((seen[product.name] * product.reached()).sum()) for product in self.products)

    def written(self) -> None:
        """Discard what was computed from weights and biases, after these have changed."""
        self._offset = self._matrix = None


def stages(network: IntegerNetwork, arithmetic: Arithmetic, device: torch.device) -> Iterator[NeuronStage]:
    """Yield the stages of ``network`` in the order they run, with copies of its weights on ``device``.

    Raises:
        UserError: for neurons that the ``arithmetic`` cannot compute.
    """
    before: list[Passing] = []
    came = in_shape = network.input_shape
    last = network.neurons[-1]
    for layer, shape in zip(network.layers, network.shapes, strict=True):
        if isinstance(layer, IntegerLIF):
            constants = IntegerConstants.of(layer, arithmetic, shape, layer is last).to(device)
            yield NeuronStage(tuple(before), constants, layer.name, in_shape, shape, network.bits)
            before, in_shape = [], shape
        elif isinstance(layer, (IntegerPool, IntegerFlatten, *DELAYS)):
            before.append(layer)
        else:
            before.append(Product(layer, came, shape, network.bits, device))
        came = shape
