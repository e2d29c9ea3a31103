"""Once through the layers of a network: integer weights, biases and thresholds in place of real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hw_export.chain import leaves, window
from hw_export.quantize.bounds import adds_exactly, largest_sum
from hw_export.quantize.channels import shifts_of
from hw_export.quantize.error import Error, second_moment
from hw_export.quantize.report import LayerReport
from hw_export.quantize.scale import free_scales
from hw_export.quantize.threshold import Real, Step, exact_step, kept_step, nearest_step, one_if_uniform
from hw_export.quantize.trained import bias_shift, bits_of, take_off_grid, trained_grid
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.grid import Grid
from spikelfp.quantized import check_weights


@dataclass(frozen=True)
class Scheme:
    """How scales are chosen; see :func:`~hw_export.quantize.quantize`. bits: ``None`` for those trained with."""

    bits: int | None
    clip: str
    per_channel: bool
    power_of_two: bool
    tie_margin: float
    fine_biases: bool = True


@dataclass(frozen=True)
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


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A layer's integers, in steps of ``step.scale``; the largest of their shifts."""

    integers: Tensor
    step: Step
    bits: int
    max_shift: int = 0


class Walk:
    """Goes through the layers of ``net`` once and replaces their weights and thresholds.

    calibration: inputs of the network ``[T, B, …]`` as it will take them; each layer's scale then knows what reaches
    it through the layers in front, which are quantised already.
    """

    def __init__(
        self, net: nn.Sequential, scheme: Scheme, input_scale: int | None, calibration: Tensor | None = None
    ) -> None:
        self.scheme, self.inputs = scheme, calibration
        self.report: list[LayerReport] = []
        self.notes: list[str] = []
        self.input_sum = 0.0
        self.layers = leaves(net)
        flow = _Flow(1.0, 1, None) if input_scale is None else _Flow(1 / input_scale, input_scale, float(input_scale))
        for index, (name, layer) in enumerate(self.layers):
            flow = self._step(index, name, layer, flow)
            if self.inputs is not None:
                self.inputs = layer(self.inputs)

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
            return self._pool(name, layer, flow)
        if isinstance(layer, nn.ReLU):
            return replace(flow, signed=False)
        if isinstance(layer, (nn.Flatten, nn.Dropout, nn.MaxPool2d)):
            return flow
        recurrent = isinstance(layer, (nn.RecurrentLIF, nn.RecurrentSynaptic))
        floats = "write floats by hw_export.to_nir" if recurrent else "export floats (bits=32)"
        raise UserError(
            f"layer {name!r} is a {type(layer).__name__}, which cannot be quantised: leave it out or replace it, or "
            f"{floats}"
        )

    def _pool(self, name: str, layer: nn.AvgPool2d, flow: _Flow) -> _Flow:
        """Sums of a window, divided by one number, or at the border by how many values lie in the window there."""
        size, divisor = window(layer), layer.divisor_override
        peak = None if flow.peak is None else flow.peak * size / (divisor or size)
        clipped = layer.ceil_mode or (layer.padding not in (0, (0, 0)) and not layer.count_include_pad)
        parts = flow.parts * (divisor or (_common(layer) if clipped else size))
        if peak is not None and not adds_exactly(peak, parts):
            self.notes.append(f"float32 may round what the pooling {name!r} gives: it divides by {parts // flow.parts}")
        return replace(flow, peak=peak, parts=parts)

    def _weights(self, index: int, name: str, layer: nn.Linear | nn.Conv2d, flow: _Flow) -> _Flow:
        weight, bias = layer.weight, layer.bias
        check_weights(weight, f"weights of layer {name!r}")
        if bias is not None and not torch.isfinite(bias).all():
            raise UserError(f"the biases of layer {name!r} are not finite")
        behind = self._neurons_behind(index)
        # θ in the unit in which a weight is real
        real = None if behind is None else one_if_uniform(behind[1].threshold) / (flow.unit * flow.factor)
        grid = trained_grid(name, layer, self.scheme.bits)
        before = weight.clone()
        if grid is None:
            chosen = self._choose(name, layer, real, flow.factor)
        else:
            chosen = self._keep(name, layer, grid, real, flow.factor)
        if behind is not None:
            self._compare_with(name, layer, behind[1], chosen)
        weight.copy_(chosen.integers)
        unit = flow.unit * chosen.step.scale
        if bias is not None:
            bias.copy_((bias / unit).round())
        most = None if flow.peak is None else largest_sum(weight, bias, flow.peak, flow.signed)
        if not self.report:
            self.input_sum = most or 0.0
        exact = adds_exactly(most, flow.parts)
        if most is not None and not exact and adds_exactly(flow.peak, flow.parts):
            self.notes.append(f"float32 may round the sums of layer {name!r}: they are not all integers below 2^24")
        neurons = None if behind is None else behind[0]
        self.report.append(_described(name, layer, neurons, before, chosen, most, exact))
        return replace(flow, unit=unit, peak=most, signed=True)

    def _compare_with(self, name: str, layer: nn.Linear | nn.Conv2d, neurons: nn.LIF, chosen: _Chosen) -> None:
        """Give the ``neurons`` behind ``layer`` their threshold in steps of its sums."""
        if chosen.step.vanishes:
            lowest = torch.as_tensor(neurons.threshold).min()
            raise UserError(
                f"the threshold {lowest:g} behind layer {name!r} would round to 0 in steps of "
                f"{chosen.step.scale:.3g}, {chosen.bits} bits for weights up to {layer.weight.abs().max().item():.3g}: "
                "use more bits"
            )
        neurons.constants = replace(neurons.constants, threshold=chosen.step.compared)

    def _choose(self, name: str, layer: nn.Linear | nn.Conv2d, real: Real | None, factor: int) -> _Chosen:
        """A scale by the scheme, moved to meet the threshold."""
        scheme = self.scheme
        assert scheme.bits is not None
        moment = second_moment(layer, self.inputs) if scheme.clip == "output" and self.inputs is not None else None
        error = Error(layer.weight, scheme.bits, moment)
        scales = free_scales(
            layer.weight,
            error,
            scheme.clip,
            per_channel=scheme.per_channel,
            power_of_two=scheme.power_of_two,
            what=f"weights of layer {name!r}",
        )
        if scheme.per_channel:
            scale, shifts = shifts_of(scales, error, scheme.clip, power_of_two=scheme.power_of_two)
        else:
            scale, shifts = scales.item(), torch.zeros(1, dtype=torch.int64)
        times = (2**shifts).double()

        def total(scale: float) -> float:
            return error(scale * times).sum().item()

        if real is None:
            step = Step(scale, 0, 0.0)
        elif scheme.power_of_two or isinstance(real, Tensor):
            step = nearest_step(scale, real, factor, scheme.tie_margin)
        else:
            step = exact_step(scale, real, factor, scheme.tie_margin, None if scheme.clip == "max" else total)
        mantissas = error.integers(step.scale * times)
        wide = mantissas * (2**shifts).to(mantissas).reshape(-1, *[1] * (mantissas.dim() - 1))
        return _Chosen(wide, step, scheme.bits, int(shifts.max()))

    def _keep(self, name: str, layer: nn.Linear | nn.Conv2d, grid: Grid, real: Real | None, factor: int) -> _Chosen:
        """The integers the layer was trained with, shifted where its biases were trained in finer steps than sums of
        them have."""
        assert not isinstance(grid.scale, Tensor)
        shift, exact = bias_shift(layer, factor)
        if not self.scheme.fine_biases:
            shift, exact = 0, exact and shift == 0
        if not exact:
            self.notes.append(
                f"the biases of layer {name!r} were trained in steps of 1/{layer.bias_steps} of those of its weights, "
                f"and are rounded to 1/{factor * 2**shift}"
            )
        integers, scale = grid.to_integers(layer.weight) * 2**shift, grid.scale / 2**shift
        take_off_grid(layer)
        step = Step(scale, 0, 0.0) if real is None else kept_step(scale, real, factor, self.scheme.tie_margin)
        return _Chosen(integers, step, bits_of(grid), shift)

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


def _common(pool: nn.AvgPool2d) -> int:
    """A multiple of every number of values that a window cut off by the border can hold."""
    kernel = pool.kernel_size
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return math.prod(math.lcm(*range(1, side + 1)) for side in sides)


def _described(
    name: str,
    layer: nn.Linear | nn.Conv2d,
    neurons: str | None,
    before: Tensor,
    chosen: _Chosen,
    most: float | None,
    exact: bool,
) -> LayerReport:
    """The report on ``layer``, which holds its integers by now; ``before``: its real weights."""
    weight, bias, step = layer.weight, layer.bias, chosen.step
    error = (before - step.scale * weight).square().sum(dtype=torch.float64).item()
    return LayerReport(
        layer=name,
        kind=type(layer).__name__,
        neurons=neurons,
        weights=weight.numel(),
        bits=chosen.bits,
        scale=step.scale,
        max_shift=chosen.max_shift,
        threshold=None if neurons is None else torch.as_tensor(step.whole).tolist(),
        threshold_error=step.error,
        max_weight=int(weight.abs().max()),
        max_bias=0 if bias is None else int(bias.abs().max()),
        squared_error=error,
        relative_error=error / before.square().sum(dtype=torch.float64).item(),
        zero_fraction=(weight == 0).float().mean().item(),
        largest_sum=most,
        exact=exact,
    )
