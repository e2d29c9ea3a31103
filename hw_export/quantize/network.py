"""A network with integer weights, biases and thresholds, of the same architecture."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_export.chain import leaves
from hw_export.quantize.report import LayerReport
from hw_export.quantize.scale import CLIPS, free_scale, squared_error, threshold_steps, to_integers
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.registry import check_name

TIE_MARGIN = 49 / 128
"""How far a threshold lies above its integer, so that no sum of integers ever equals it
(:func:`quantize`)."""

EXACT = 2**24
"""float32 holds every integer below this."""


class QuantizedNetwork(nn.Sequential):
    """What :func:`quantize` returns: a network that runs and exports as any other (for inference: no
    gradients).

    Attributes:
        bits: of a weight, ``None`` for a network left in floats.
        clip: how the scales were chosen.
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


def quantize(
    net: torch.nn.Module,
    bits: int | None = 8,
    *,
    clip: str = "mse",
    input_scale: int | None = None,
    tie_margin: float = TIE_MARGIN,
) -> QuantizedNetwork:
    """A copy of ``net``, a chain of :mod:`spikelfp.nn` layers, that computes in integers.

    Each layer of weights has one scale ``s``; its weights become ``round(w / s)``, at most ``2^(bits−1) − 1``
    in magnitude, its bias an integer in the unit of its sums, and the neurons behind it get the integer
    threshold ``n = θ / s``: ``s`` is moved a little from its best value so that the threshold is hit and
    stays θ in real terms. Spikes, decay and reset are untouched, so the copy is an ordinary network of
    float32 tensors.

    The copy compares with ``n + tie_margin``. For a sum of integers that is the same as ``> n``. But with the
    bare integer (``tie_margin=0``) a decayed membrane often *equals* the threshold, or creeps up to it, and then
    the last bit of ``βU`` decides, which differs between simulators; ``n + 49/128`` it does not meet.

    bits: 2 to 16, or ``None`` or 32 for an unchanged copy. clip: ``mse``, the scale of least squared error,
    or ``max``, the finest that clips no weight. input_scale: ``σ`` such that ``x · σ`` are integers for all
    inputs (255 for 8-bit pixels in [0, 1], 1 for spikes); the copy then takes the integers ``x · σ``, its
    first threshold and bias are multiplied by ``σ``, and every sum is exact in float32, whatever its order.
    Where sums could reach 2^24 that cannot be promised: the copy takes ``x`` instead and says so in its
    ``notes``.

    Raises :class:`~spikelfp.errors.UserError` naming the layer whose weights are all zero or not finite, or
    whose threshold would round to 0, and for ``bits``, ``clip`` or ``input_scale`` out of range.
    """
    made = _copy(net)
    if bits is None or bits == 32:
        return made
    if bits != int(bits) or not 2 <= bits <= 16:
        raise UserError(f"bits must be a whole number from 2 to 16, or 32 for floats, got {bits}")
    check_name("clip", clip, CLIPS)
    if input_scale is not None and (input_scale != int(input_scale) or input_scale < 1):
        raise UserError(f"input_scale must be a whole number of at least 1, got {input_scale}")
    if not 0 <= tie_margin < 1:
        raise UserError(f"tie_margin must lie in [0, 1), got {tie_margin}")
    made.bits, made.clip = int(bits), clip
    made.input_scale = None if input_scale is None else int(input_scale)
    walk = _Walk(made, tie_margin)
    if input_scale is not None and walk.input_sum >= EXACT:
        without = quantize(net, bits, clip=clip, tie_margin=tie_margin)
        without.notes += (
            f"inputs are not scaled to integers: the sums of the first layer could reach {walk.input_sum:.0f}, "
            f"and float32 is exact below 2^24 = {EXACT} only",
        )
        return without
    made.report, made.notes = tuple(walk.report), tuple(walk.notes)
    return made


def _copy(net: torch.nn.Module) -> QuantizedNetwork:
    leaves(net)
    twin = copy.deepcopy(net).to("cpu", torch.float32).eval().requires_grad_(False)
    return QuantizedNetwork(OrderedDict(twin.named_children())).eval()


@dataclass
class _Flow:
    """What runs between two layers: values ``unit · integer / parts``.

    factor: what the next integer threshold is multiplied by, the input scale up to the first neurons.
    peak: the values are at most so many units; ``None`` where they are no integers. signed: or as far below 0.
    """

    unit: float
    factor: int
    peak: float | None
    signed: bool = False
    parts: int = 1


class _Walk:
    """Goes through the layers once and replaces their weights and thresholds."""

    def __init__(self, net: QuantizedNetwork, tie_margin: float) -> None:
        self.net, self.tie_margin = net, tie_margin
        self.report: list[LayerReport] = []
        self.notes: list[str] = []
        self.input_sum = 0.0
        self.layers = leaves(net)
        sigma = net.input_scale
        flow = _Flow(1.0, 1, None) if sigma is None else _Flow(1 / sigma, sigma, float(sigma))
        for index, (name, layer) in enumerate(self.layers):
            flow = self._step(index, name, layer, flow)

    def _step(self, index: int, name: str, layer: torch.nn.Module, flow: _Flow) -> _Flow:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            return self._weights(index, name, layer, flow)
        if isinstance(layer, nn.LIF):
            if not self._driven(index):
                layer.constants = replace(layer.constants, threshold=layer.threshold / flow.unit)
            return _Flow(1.0, 1, 1.0)
        if isinstance(layer, nn.Heaviside):
            return _Flow(1.0, 1, 1.0)
        if isinstance(layer, nn.AvgPool2d):
            return replace(flow, parts=flow.parts * _area(layer))
        if isinstance(layer, nn.ReLU):
            return replace(flow, signed=False)
        if isinstance(layer, (nn.Flatten, nn.Dropout, nn.MaxPool2d)):
            return flow
        raise UserError(f"layer {name!r} is a {type(layer).__name__}, which cannot be quantised")

    def _weights(self, index: int, name: str, layer: nn.Linear | nn.Conv2d, flow: _Flow) -> _Flow:
        bits, clip = self.net.bits, self.net.clip
        assert bits is not None
        assert clip is not None
        weight, bias = layer.weight, layer.bias
        for what, tensor in (("weights", weight), ("bias", bias)):
            if tensor is not None and not torch.isfinite(tensor).all():
                raise UserError(f"the {what} of layer {name!r} are not finite")
        if not weight.any():
            raise UserError(f"the weights of layer {name!r} are all zero: there is nothing to quantise")
        scale = free_scale(weight, bits, clip)
        neurons = self._neurons_behind(index)
        threshold = None
        if neurons is not None:
            lif = neurons[1]
            real = lif.threshold / (flow.unit * flow.factor)  # θ in the unit in which a weight is real
            steps = threshold_steps(weight, scale, real, bits, clip)
            if steps == 0:
                raise UserError(
                    f"the threshold {lif.threshold:g} behind layer {name!r} would round to 0 in steps of "
                    f"{scale:.3g}, {bits} bits for weights up to {weight.abs().max().item():.3g}: use more bits"
                )
            threshold = steps * flow.factor
            compared = float(np.float32(threshold + self.tie_margin))
            scale = real * flow.factor / compared
            lif.constants = replace(lif.constants, threshold=compared)
        error = squared_error(weight, scale, bits)
        energy = weight.square().sum(dtype=torch.float64).item()
        weight.copy_(to_integers(weight, scale, bits))
        unit = flow.unit * scale
        if bias is not None:
            bias.copy_((bias / unit).round())
        largest_sum = None if flow.peak is None else _largest_sum(weight, bias, flow.peak, flow.signed)
        if not self.report:
            self.input_sum = largest_sum or 0.0
        exact = largest_sum is not None and _is_power_of_two(flow.parts) and largest_sum * flow.parts < EXACT
        if largest_sum is not None and not exact:
            self.notes.append(f"float32 may round the sums of layer {name!r}: they are not all integers below 2^24")
        self.report.append(
            LayerReport(
                layer=name,
                kind=type(layer).__name__,
                neurons=None if neurons is None else neurons[0],
                weights=weight.numel(),
                scale=scale,
                threshold=threshold,
                max_weight=int(weight.abs().max()),
                max_bias=0 if bias is None else int(bias.abs().max()),
                squared_error=error,
                relative_error=error / energy,
                zero_fraction=(weight == 0).float().mean().item(),
                largest_sum=largest_sum,
                exact=exact,
            )
        )
        return replace(flow, unit=unit, peak=largest_sum, signed=True)

    def _neurons_behind(self, index: int) -> tuple[str, nn.LIF] | None:
        """The LIF layer that the weights at ``index`` are the last to drive."""
        for name, layer in self.layers[index + 1 :]:
            if isinstance(layer, nn.LIF):
                return name, layer
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Heaviside)):
                return None
        return None

    def _driven(self, index: int) -> bool:
        """Whether weights lie between the LIF layer at ``index`` and the spikes before it."""
        for _, layer in reversed(self.layers[:index]):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                return True
            if isinstance(layer, (nn.LIF, nn.Heaviside)):
                return False
        return False


def _largest_sum(weight: Tensor, bias: Tensor | None, peak: float, signed: bool) -> float:
    """Bound on every partial sum, in any order, of weights times inputs in [0, peak], or [−peak, peak]."""
    terms = weight.flatten(1).double() * peak
    if signed:
        terms = terms.abs()
    if bias is not None:
        terms = torch.cat([terms, bias.double().unsqueeze(1)], 1)
    return max(terms.clamp(min=0).sum(1).max().item(), (-terms).clamp(min=0).sum(1).max().item())


def _area(pool: nn.AvgPool2d) -> int:
    kernel = pool.kernel_size
    return int(kernel) ** 2 if isinstance(kernel, int) else math.prod(kernel)


def _is_power_of_two(value: int) -> bool:
    return value & (value - 1) == 0
