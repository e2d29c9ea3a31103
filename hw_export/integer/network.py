"""Chains of layers in whole numbers, the form in which every chip is given a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from hw_export.layers import leaves, window
from hw_export.neurons import export_of
from hw_export.quantize import QuantizedNetwork
from hw_export.quantize.report import check_thresholds
from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.lif import Reset
from spikelfp.terminal import brief

Pair = tuple[int, int]

_OFF = 1e-3
"""Largest distance of a bias that float32 rounded from a whole number."""


@dataclass(frozen=True, eq=False)
class IntegerDense:
    """Dense layer, ``a = W s + b``.

    Attributes:
        name: of the layer.
        weight: int32 ``[out, in]``.
        bias: int64 ``[out]``.
    """

    name: str
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, eq=False)
class IntegerConv:
    """Convolution that pads with zeros.

    Attributes:
        name: of the layer.
        weight: int32 ``[out, in / groups, height, width]``.
        bias: int64 ``[out]``.
        stride: rows and columns.
        padding: rows and columns.
        dilation: rows and columns.
        groups: number of groups of channels.
    """

    name: str
    weight: Tensor
    bias: Tensor
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


@dataclass(frozen=True)
class IntegerPool:
    """Pooling over windows that do not reach over the border.

    Attributes:
        name: of the layer.
        kind: ``sum``, or ``max`` for the largest value.
        kernel: rows and columns of a window.
        stride: rows and columns.
    """

    name: str
    kind: str
    kernel: Pair
    stride: Pair


@dataclass(frozen=True)
class IntegerFlatten:
    """Layer that turns ``[channels, height, width]`` into one row."""

    name: str


@dataclass(frozen=True, eq=False)
class IntegerDelay:
    """Delay of each input by a whole number of steps, with zeros before the sequence begins.

    Attributes:
        name: of the layer.
        delays: steps, int64 ``[]``, or one for each channel or each input, as the constants of :class:`IntegerLIF`.
    """

    name: str
    delays: Tensor

    @property
    def longest(self) -> int:
        """Longest delay in steps."""
        return int(self.delays.max())


@dataclass(frozen=True)
class IntegerTaps:
    """Copies of a row of inputs side by side, each later by a delay of its own; the dense layer after it has a weight
    for each of them.

    Attributes:
        name: of the layer.
        delays: steps, each once.
    """

    name: str
    delays: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Longest delay in steps."""
        return max(self.delays)


@dataclass(frozen=True, eq=False)
class IntegerLIF:
    """LIF neurons with whole thresholds, in the unit of the sums they get.

    Attributes:
        name: of the layer.
        beta: decay per step: one number, or float64 with one for each channel or neuron of a dense layer,
            ``[channels]``, or for each neuron, ``[channels, height, width]``.
        threshold: int64 ``[]``, or one for each as in ``beta``.
        reset: effect of a spike on the membrane.
    """

    name: str
    beta: float | Tensor
    threshold: Tensor
    reset: Reset

    @property
    def betas(self) -> Tensor:
        """The decays as a tensor, float64, ``[]`` where they are one number."""
        return torch.as_tensor(self.beta, dtype=torch.float64)

    @property
    def leaks(self) -> bool:
        """Whether any of the neurons leaks."""
        return bool((self.betas != 1.0).any())


def spread(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Spread constants of neurons over all of them, in the order of memory.

    Args:
        values: ``[]``, one for each channel, ``[shape[0]]``, or one for each neuron, of ``shape``.
        shape: of the layer.

    Returns:
        ``[N]``, one for each neuron.
    """
    return aligned(values, shape).expand(shape).reshape(-1)


def aligned(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """View constants of neurons so that they broadcast against ``shape``."""
    return values.reshape(-1, *[1] * (len(shape) - 1)) if values.dim() == 1 else values


IntegerLayer = IntegerDense | IntegerConv | IntegerPool | IntegerFlatten | IntegerDelay | IntegerTaps | IntegerLIF
DELAYS = (IntegerDelay, IntegerTaps)


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers of whole numbers in the order they run, for inputs of whole numbers.

    Attributes:
        layers: of weights, pooling, flattening, delays and neurons.
        bits: of a weight.
        input_scale: ``σ``; an input ``x`` of the trained network is the whole number ``x · σ`` here.
        input_shape: of one sample at one step.
        shapes: of the output of each of ``layers``.
    """

    layers: tuple[IntegerLayer, ...]
    bits: int
    input_scale: int
    input_shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(net: QuantizedNetwork, input_shape: Sequence[int] | None = None) -> IntegerNetwork:
        """Read the whole numbers of a quantised network.

        Average pooling becomes a sum: the biases and thresholds after it grow by the area of the pool. Pooling that
        sums already (``divisor_override=1``) stays as it is.

        Args:
            net: of :func:`~hw_export.quantize.quantize`.
            input_shape: of one sample, needed where the first layer does not tell it.

        Raises:
            UserError: for a network left in floats, thresholds that were changed since, weights without neurons after
                them, or layers that have no form in whole numbers, by name.
            ShapeError: where layers and ``input_shape`` do not fit.
        """
        if not isinstance(net, QuantizedNetwork):
            raise UserError(f"a network of integers is made of one of hw_export.quantize, got {type(net).__name__}")
        if net.bits is None:
            raise UserError("the network has float weights: quantise it first, with 2 to 16 bits")
        check_thresholds(net)
        layers = tuple(_integers(net))
        if not any(isinstance(layer, IntegerLIF) for layer in layers):
            raise UserError("the network has no LIF neurons: chips of spiking neurons cannot hold it")
        if not isinstance(layers[-1], IntegerLIF):
            raise UserError(f"the network ends with {layers[-1].name!r} and no neurons after it")
        shape = _input_shape(layers, None if input_shape is None else checks.sizes("input_shape", input_shape))
        shapes = tuple(accumulate(layers, lambda before, layer: output_shape(layer, before), initial=shape))[1:]
        layers = tuple(_compact(layer, own) for layer, own in zip(layers, shapes, strict=True))
        return IntegerNetwork(layers, net.bits, net.input_scale or 1, shape, shapes)

    @property
    def products(self) -> tuple[IntegerDense | IntegerConv, ...]:
        """The layers of weights."""
        return tuple(layer for layer in self.layers if isinstance(layer, (IntegerDense, IntegerConv)))

    @property
    def neurons(self) -> tuple[IntegerLIF, ...]:
        """The layers of neurons."""
        return tuple(layer for layer in self.layers if isinstance(layer, IntegerLIF))

    def shape_of(self, layer: IntegerLayer) -> tuple[int, ...]:
        """Find the shape of the output of ``layer`` for one sample at one step."""
        return self.shapes[next(index for index, own in enumerate(self.layers) if own is layer)]

    def delays_of(self, layer: IntegerLayer) -> tuple[int, ...]:
        """Find the delays of the copies of its inputs that a dense layer takes; ``(0,)`` where there are none."""
        place = next(index for index, own in enumerate(self.layers) if own is layer)
        before = self.layers[place - 1] if place else None
        return before.delays if isinstance(before, IntegerTaps) else (0,)

    def parameters(self) -> dict[str, Tensor]:
        """Lists weights and biases by name, ``<layer>.weight`` and ``<layer>.bias``."""
        return {f"{layer.name}.{kind}": getattr(layer, kind) for layer in self.products for kind in ("weight", "bias")}

    def with_parameters(self, parameters: dict[str, Tensor]) -> IntegerNetwork:
        """Return this network with some weights and biases replaced, by the names of :meth:`parameters`.

        Raises:
            UserError: for a parameter that the network does not have, and one that holds no whole numbers of 32 bits.
            ShapeError: for one of another shape.
        """
        own = self.parameters()
        if not isinstance(parameters, Mapping):
            raise UserError(f"parameters are tensors by name, in a dictionary, got {brief(parameters)}")
        for name, tensor in parameters.items():
            if name not in own:
                raise UserError(f"the network has no parameter {name!r}: it has {', '.join(own)}")
            _check_whole(name, tensor)
            if tensor.shape != own[name].shape:
                raise ShapeError(f"{name} has shape {tuple(own[name].shape)}, got {tuple(tensor.shape)}")
        made = own | parameters
        return replace(
            self,
            layers=tuple(
                replace(
                    layer,
                    weight=made[f"{layer.name}.weight"].to(torch.int32),
                    bias=made[f"{layer.name}.bias"].to(torch.int64),
                )
                if isinstance(layer, (IntegerDense, IntegerConv))
                else layer
                for layer in self.layers
            ),
        )


def _check_whole(name: str, values: Any) -> None:
    """Refuse what is no tensor of whole numbers of 32 bits."""
    found = checks.tensor(name, values)
    if found.is_floating_point() and not torch.equal(found, found.trunc()):
        raise UserError(f"{name} holds numbers that are not whole: quantise them first")
    if found.numel() and max(-int(found.min()) - 1, int(found.max())) >= 2**31:
        raise UserError(f"{name} goes from {int(found.min())} to {int(found.max())}, beyond whole numbers of 32 bits")


def _integers(net: QuantizedNetwork) -> Iterator[IntegerLayer]:
    """Convert the layers of ``net``; ``gain`` is the factor by which pooling that sums makes sums too large."""
    thresholds = {layer.neurons: layer for layer in net.report if layer.neurons is not None}
    gain = 1
    for name, layer in leaves(net):
        if isinstance(layer, nn.Linear):  # also a TapLinear, which comes after its Taps
            yield IntegerDense(name, _whole(layer.weight, name).to(torch.int32), _bias(layer, name, gain))
        elif isinstance(layer, nn.Conv2d):
            if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
                raise UserError(f"layer {name!r} must pad with numbers of zeros, got padding={layer.padding!r}")
            yield IntegerConv(
                name, _whole(layer.weight, name).to(torch.int32), _bias(layer, name, gain),
                _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation), layer.groups,
            )  # fmt: skip
        elif isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d)):
            yield _pool(name, layer)
            if isinstance(layer, nn.AvgPool2d) and layer.divisor_override is None:
                gain *= window(layer)
        elif isinstance(layer, nn.Flatten):
            yield IntegerFlatten(name)
        elif (export := export_of(layer)) is not None:
            constants = export.integer(name, layer)
            if name not in thresholds or thresholds[name].threshold is None:
                raise UserError(f"the neurons {name!r} have no weights before them")
            whole = torch.as_tensor(thresholds[name].threshold, dtype=torch.int64) * gain
            beta = constants.beta
            beta = beta.detach().to("cpu", torch.float64) if isinstance(beta, Tensor) else beta
            yield IntegerLIF(name, beta, whole, constants.reset)
            gain = 1
        elif isinstance(layer, nn.Delay):
            yield IntegerDelay(name, layer.delays.detach().cpu())
        elif isinstance(layer, nn.Taps):
            yield IntegerTaps(name, layer.delays)
        elif not isinstance(layer, nn.Dropout):
            raise UserError(f"layer {name!r} is a {type(layer).__name__}, which no chip of spiking neurons holds")


def _compact(layer: IntegerLayer, shape: tuple[int, ...]) -> IntegerLayer:
    """Write constants of neurons, and delays, as one number, or one for each channel, where they are no more."""
    if isinstance(layer, IntegerDelay):
        return replace(layer, delays=_fewest(layer.delays, shape))
    if not isinstance(layer, IntegerLIF):
        return layer
    beta = _fewest(layer.betas, shape)
    return replace(layer, beta=beta if beta.dim() else beta.item(), threshold=_fewest(layer.threshold, shape))


def _fewest(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    each = spread(values, shape).reshape(shape[0], -1)
    if bool((each == each[0, 0]).all()):
        return each[0, 0].clone()
    same = bool((each == each[:, :1]).all())
    return each[:, 0].clone() if same else each.reshape(shape).clone()


def _bias(layer: nn.Linear | nn.Conv2d, name: str, gain: int) -> Tensor:
    """Scale the bias to sums that are ``gain`` times too large; in their unit it may be finer than a weight."""
    if layer.bias is None:
        return torch.zeros(layer.weight.shape[0], dtype=torch.int64)
    return _whole(layer.bias, name, gain)


def _whole(values: Tensor, name: str, gain: int = 1) -> Tensor:
    scaled = values.detach().to("cpu", torch.float64) * gain
    whole = scaled.round()
    if (scaled - whole).abs().max() > (_OFF if gain > 1 else 0):
        raise UserError(f"layer {name!r} has parameters that are no whole numbers")
    return whole.to(torch.int64)


def _pool(name: str, layer: nn.AvgPool2d | nn.MaxPool2d) -> IntegerPool:
    if any(_pair(layer.padding)) or layer.ceil_mode or getattr(layer, "divisor_override", None) not in (None, 1):
        raise UserError(f"layer {name!r} pools over the border or with another divisor, which no chip does")
    kind = "sum" if isinstance(layer, nn.AvgPool2d) else "max"
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return IntegerPool(name, kind, _pair(layer.kernel_size), _pair(stride))


def _input_shape(layers: Sequence[IntegerLayer], given: Sequence[int] | None) -> tuple[int, ...]:
    first = next(layer for layer in layers if not isinstance(layer, (IntegerFlatten, *DELAYS)))
    flattens = isinstance(next(layer for layer in layers if not isinstance(layer, DELAYS)), IntegerFlatten)
    if isinstance(first, IntegerDense) and (given is None or not flattens):
        features = first.weight.shape[1]
        for layer in layers[: layers.index(first)]:
            features //= len(layer.delays) if isinstance(layer, IntegerTaps) else 1
        if given is not None and math.prod(given) != features:
            raise ShapeError(f"the network takes {features} inputs, input_shape {tuple(given)} has {math.prod(given)}")
        return (features,)
    if given is None:
        raise UserError(f"the network starts with {first.name!r}: pass input_shape=(channels, height, width)")
    return tuple(given)


def output_shape(layer: IntegerLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what a layer hands on for an input of this shape, without steps and batch."""
    if isinstance(layer, IntegerLIF):
        return shape
    if isinstance(layer, IntegerDelay):
        try:
            spread(layer.delays, shape)
        except RuntimeError:
            raise ShapeError(f"the delays of layer {layer.name!r} do not fit its inputs of shape {shape}") from None
        return shape
    if isinstance(layer, IntegerTaps):
        if len(shape) != 1:
            raise ShapeError(
                f"layer {layer.name!r} takes a row of inputs, it would get {shape}: put nn.Flatten in front"
            )
        return (len(layer.delays) * shape[0],)
    if isinstance(layer, IntegerFlatten):
        return (math.prod(shape),)
    if isinstance(layer, IntegerDense):
        if shape != (layer.weight.shape[1],):
            raise ShapeError(f"layer {layer.name!r} takes {layer.weight.shape[1]} inputs, it would get {shape}")
        return (layer.weight.shape[0],)
    if len(shape) != 3:
        raise ShapeError(f"layer {layer.name!r} takes [channels, height, width], it would get {shape}")
    channels, *sides = shape
    if isinstance(layer, IntegerPool):
        spans, padding = layer.kernel, (0, 0)
    else:
        if channels != layer.weight.shape[1] * layer.groups:
            raise ShapeError(
                f"layer {layer.name!r} takes {layer.weight.shape[1] * layer.groups} channels, got {channels}"
            )
        channels, padding = layer.weight.shape[0], layer.padding
        spans = _pair([d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.weight.shape[2:], strict=True)])
    sizes = [
        (size + 2 * border - span) // stride + 1
        for size, border, span, stride in zip(sides, padding, spans, layer.stride, strict=True)
    ]
    if min(sizes) < 1:
        raise ShapeError(f"layer {layer.name!r} has a window larger than its input {shape}")
    return (channels, *sizes)


def _pair(size: int | Sequence[int]) -> Pair:
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)
