"""Quantisation of a network in one pass through its layers."""

from __future__ import annotations

import copy
import math
import numbers
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hw_export.layers import leaves, window
from hw_export.neurons import lowered
from hw_export.quantize.prepare import (
    as_floats,
    bias_shift,
    bits_of,
    fold_scales,
    has_grids,
    is_trained,
    snap,
    take_off_grid,
    trained_grid,
)
from hw_export.quantize.report import LayerReport, QuantizedNetwork, compare, rate_notes, refuse_silenced
from hw_export.quantize.scales import (
    CLIPS,
    EXACT,
    QuantizationError,
    Real,
    ThresholdStep,
    adds_exactly,
    exact_step,
    free_scales,
    kept_step,
    largest_sum,
    nearest_step,
    one_if_uniform,
    second_moment,
    shifts_of,
)
from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.fold import fold_batchnorm
from spikelfp.functional.grid import Grid, check_bits
from spikelfp.nn.graph import has_trait
from spikelfp.options import one_of, other_than, setting
from spikelfp.quantized import TIE_MARGIN, check_weights
from spikelfp.registry import check_name, checked_keywords


@dataclass(frozen=True)
class Scheme:
    """Options of the scales; :func:`~hw_export.quantize.quantize` explains them.

    Attributes:
        bits: of a weight; ``None`` for those of training.
        clip: one of :data:`~hw_export.quantize.scales.CLIPS`.
        per_channel: whether each output channel has a scale.
        power_of_two: whether scales are powers of two.
        tie_margin: fraction of a step added to integer thresholds.
        fine_biases: whether biases trained in steps finer than those of weights stay exact.
    """

    bits: int | None
    clip: str
    per_channel: bool
    power_of_two: bool
    tie_margin: float
    fine_biases: bool = True


@dataclass(frozen=True)
class _Flow:
    """Values between two layers, ``unit · integer / divisor``.

    Attributes:
        unit: real value of one integer step.
        factor: number that the next integer threshold is multiplied by: the input scale, up to the first neurons.
        peak: largest magnitude in units; ``None`` where the values are no integers.
        signed: whether values may be negative.
        divisor: left by average pooling.
    """

    unit: float
    factor: int
    peak: float | None
    signed: bool = False
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Integers of a layer, in steps of ``step.scale``, and the largest shift of its channels."""

    integers: Tensor
    step: ThresholdStep
    bits: int
    max_shift: int = 0


class Walk:
    """Passes through the layers of a network once and replaces their weights and thresholds, in place.

    Args:
        net: a chain of layers.
        scheme: options of the scales.
        input_scale: ``σ`` where inputs are the integers ``x · σ``.
        calibration: inputs of the network ``[T, B, …]`` as it will take them. The scale of each layer is then chosen
            for the inputs that reach it through the layers in front, which are quantised already.

    Attributes:
        report: a :class:`~hw_export.quantize.LayerReport` for each layer of weights.
        notes: warnings, a line each.
        input_sum: bound on the sums of the first layer of weights.
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
            if not self._has_weights_before(index):
                layer.constants = replace(layer.constants, threshold=layer.threshold / flow.unit)
            return _Flow(1.0, 1, 1.0)
        if isinstance(layer, nn.Heaviside):
            return _Flow(1.0, 1, 1.0)
        if isinstance(layer, nn.AvgPool2d):
            return self._pool(name, layer, flow)
        if isinstance(layer, nn.ReLU):
            return replace(flow, signed=False)
        if isinstance(layer, (nn.Flatten, nn.Dropout, nn.MaxPool2d, nn.Delay, nn.Taps)):
            return flow
        recurrent = isinstance(layer, (nn.RecurrentLIF, nn.RecurrentSynaptic))
        floats = "write floats by hw_export.to_nir" if recurrent else "export floats (bits=32)"
        if isinstance(layer, nn.ALIF | nn.RecurrentALIF):  # which nothing holds, in floats neither
            floats = "train with nn.LIF (without --adapt): no target has thresholds that move"
        raise UserError(
            f"layer {name!r} is a {type(layer).__name__}, which cannot be quantised: leave it out or replace it, or "
            f"{floats}"
        )

    def _pool(self, name: str, layer: nn.AvgPool2d, flow: _Flow) -> _Flow:
        """Averages are sums of a window over one divisor; windows cut off by the border have divisors of their own."""
        size, override = window(layer), layer.divisor_override
        peak = None if flow.peak is None else flow.peak * size / (override or size)
        clipped = layer.ceil_mode or (layer.padding not in (0, (0, 0)) and not layer.count_include_pad)
        divisor = flow.divisor * (override or (_common(layer) if clipped else size))
        if peak is not None and not adds_exactly(peak, divisor):
            self.notes.append(
                f"float32 may round what the pooling {name!r} gives: it divides by {divisor // flow.divisor}"
            )
        return replace(flow, peak=peak, divisor=divisor)

    def _weights(self, index: int, name: str, layer: nn.Linear | nn.Conv2d, flow: _Flow) -> _Flow:
        weight, bias = layer.weight, layer.bias
        check_weights(weight, f"weights of layer {name!r}")
        if bias is not None and not torch.isfinite(bias).all():
            raise UserError(f"the biases of layer {name!r} are not finite")
        driven = self._driven_neurons(index)
        # θ in the unit in which a weight is real
        real = None if driven is None else one_if_uniform(driven[1].threshold) / (flow.unit * flow.factor)
        grid = trained_grid(name, layer, self.scheme.bits)
        before = weight.clone()
        if grid is None:
            chosen = self._choose(name, layer, real, flow.factor)
        else:
            chosen = self._keep(name, layer, grid, real, flow.factor)
        if driven is not None:
            self._compare_with(name, layer, driven[1], chosen)
        weight.copy_(chosen.integers)
        unit = flow.unit * chosen.step.scale
        if bias is not None:
            bias.copy_((bias / unit).round())
        most = None if flow.peak is None else largest_sum(weight, bias, flow.peak, flow.signed)
        if not self.report:
            self.input_sum = most or 0.0
        exact = adds_exactly(most, flow.divisor)
        if most is not None and not exact and adds_exactly(flow.peak, flow.divisor):
            self.notes.append(f"float32 may round the sums of layer {name!r}: they are not all integers below 2^24")
        neurons = None if driven is None else driven[0]
        self.report.append(_described(name, layer, neurons, before, chosen, most, exact))
        return replace(flow, unit=unit, peak=most, signed=True)

    def _compare_with(self, name: str, layer: nn.Linear | nn.Conv2d, neurons: nn.LIF, chosen: _Chosen) -> None:
        """Give the ``neurons`` after ``layer`` their threshold in steps of its sums."""
        if chosen.step.vanishes:
            lowest = torch.as_tensor(neurons.threshold).min()
            raise UserError(
                f"the threshold {lowest:g} after layer {name!r} would round to 0 in steps of "
                f"{chosen.step.scale:.3g}, {chosen.bits} bits for weights up to {layer.weight.abs().max().item():.3g}: "
                "use more bits"
            )
        neurons.constants = replace(neurons.constants, threshold=chosen.step.compared)

    def _choose(self, name: str, layer: nn.Linear | nn.Conv2d, real: Real | None, factor: int) -> _Chosen:
        """Choose a scale by the scheme and move it to meet the threshold."""
        scheme = self.scheme
        assert scheme.bits is not None
        moment = second_moment(layer, self.inputs) if scheme.clip == "output" and self.inputs is not None else None
        error = QuantizationError(layer.weight, scheme.bits, moment)
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
            step = ThresholdStep(scale, 0, 0.0)
        elif scheme.power_of_two or isinstance(real, Tensor):
            step = nearest_step(scale, real, factor, scheme.tie_margin)
        else:
            step = exact_step(scale, real, factor, scheme.tie_margin, None if scheme.clip == "max" else total)
        mantissas = error.integers(step.scale * times)
        wide = mantissas * (2**shifts).to(mantissas).reshape(-1, *[1] * (mantissas.dim() - 1))
        return _Chosen(wide, step, scheme.bits, int(shifts.max()))

    def _keep(self, name: str, layer: nn.Linear | nn.Conv2d, grid: Grid, real: Real | None, factor: int) -> _Chosen:
        """Keep the integers of training, shifted where its biases have finer steps than sums of them."""
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
        step = ThresholdStep(scale, 0, 0.0) if real is None else kept_step(scale, real, factor, self.scheme.tie_margin)
        return _Chosen(integers, step, bits_of(grid), shift)

    def _driven_neurons(self, index: int) -> tuple[str, nn.LIF] | None:
        """Find the LIF layer that the weights at ``index`` are the last to drive."""
        for name, layer in self.layers[index + 1 :]:
            if isinstance(layer, nn.LIF):
                return name, layer
            if has_trait(layer, "has_weights") or has_trait(layer, "fires"):
                return None
        return None

    def _has_weights_before(self, index: int) -> bool:
        """Whether weights lie between the LIF layer at ``index`` and the spikes before it."""
        for _, layer in reversed(self.layers[:index]):
            if has_trait(layer, "has_weights"):
                return True
            if has_trait(layer, "fires"):
                return False
        return False


def _common(pool: nn.AvgPool2d) -> int:
    """Compute a multiple of every number of values that a window cut off by the border can hold."""
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
    """Describe ``layer``, which holds its integers by now; ``before`` are its real weights."""
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


FLOAT = 32
"""Bits of a weight that stays a float."""
CHOSEN = other_than("bits", FLOAT, f"weights of fewer --bits than {FLOAT}")


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of :func:`quantize` for a trained run, and how many samples it is shown."""

    bits: int | None = setting(
        None, f"bits of a weight, or {FLOAT} for floats", automatic="as trained, else the target's", within="[1, ∞)"
    )
    clip: str = setting("mse", "how scales are chosen", names=CLIPS, owner=CHOSEN)
    per_channel: bool = setting(False, "a scale for each output channel", owner=CHOSEN)
    power_of_two: bool = setting(False, "scales that are powers of two", owner=CHOSEN)
    calibration: int = setting(
        512, "samples of the training set by whose sums scales are chosen", within="[1, ∞)",
        owner=one_of("clip", ("output",)),
    )  # fmt: skip


@checked_keywords()
@torch.no_grad()
def quantize(
    net: torch.nn.Module,
    bits: int | None = 8,
    *,
    clip: str = "mse",
    per_channel: bool = False,
    power_of_two: bool = False,
    calibration: Tensor | None = None,
    input_scale: int | None = None,
    tie_margin: float = TIE_MARGIN,
    fine_biases: bool = True,
) -> QuantizedNetwork:
    """Make a copy of a network that computes in integers.

    Each layer of weights has one scale ``s``. Its weights become ``q = round(w / s)`` with ``|q| ≤ 2^(bits−1) − 1``,
    its bias an integer in the unit of its sums, and the neurons after it get the integer threshold ``n = θ / s``: ``s``
    is moved a little from its best value so that ``n`` is whole and θ stays the same in real terms. Where neurons have
    thresholds of their own, each becomes ``round(θ / s)``, and the largest relative error of these is
    ``threshold_error`` in the report. Spikes, decay and reset are untouched, so the copy is an ordinary network of
    float32 tensors. Before all this, neurons that can be written as LIF neurons become those
    (:func:`hw_export.neurons.lowered`), and each BatchNorm is folded into the layer in front of it
    (:func:`fold_batchnorm`).

    The copy compares with ``n + tie_margin``. For a sum of integers that is the same as ``> n``. With the bare integer
    (``tie_margin=0``) a decayed membrane often *equals* the threshold, or creeps up to it; then the last bit of ``βU``
    decides, which differs between simulators. It does not meet ``n + 49/128``.

    Args:
        net: a chain of :mod:`spikelfp.nn` layers.
        bits: of a weight, 2 to 16, or 32 for a copy in floats; ``None`` for those that the network was trained with, or
            floats. Layers that were trained with quantised weights (:mod:`spikelfp.quantized`) keep exactly the
            integers, scale and threshold of training, whatever the other arguments are; other ``bits`` than theirs are
            refused.
        clip: how scales are chosen: ``mse``, the scale of least squared error; ``max``, the finest that clips no
            weight; ``mean`` and ``percentile`` (:mod:`spikelfp.quantized`); or ``output``, the scale of least
            squared error of the sums, ``E|(W − Ŵ) x|²``, on the ``calibration`` inputs as they arrive through the
            quantised layers in front.
        per_channel: give each output channel a scale ``s · 2^e``, ``e`` from 0 to 7. Its integers are mantissas of
            ``bits`` bits times ``2^e``: the sums of all channels have one unit, and the threshold stays one number.
        power_of_two: make scales powers of two. The threshold is then rounded to a whole number of steps, and its real
            value changes by ``threshold_error`` of the report.
        calibration: inputs of ``net``, ``[T, B, …]``, some hundreds of samples. With them it is also checked that no
            layer was silenced.
        input_scale: ``σ`` such that ``x · σ`` are integers for all inputs (255 for 8-bit pixels in [0, 1], 1 for
            spikes). The copy then takes the integers ``x · σ``, its first threshold and bias are multiplied by ``σ``,
            and every sum is exact in float32, whatever its order. Where sums could reach 2^24 that cannot be promised:
            the copy takes ``x`` instead and says so in its ``notes``.
        tie_margin: fraction of a step, in [0, 1), that is added to integer thresholds.
        fine_biases: keep biases exact that were trained in steps finer than those of weights; the integers of such a
            layer are then multiplied by a power of two, usually 64. ``False`` rounds the biases instead, for chips
            without that width.

    Returns:
        The copy, float32 on the CPU in evaluation mode, with a report on each layer.

    Raises:
        UserError: naming the layer whose weights are all zero or not finite, whose threshold would round to 0, or whose
            neurons fire in ``net`` but not in the copy; for a BatchNorm that cannot be folded; and for options out of
            range.
        ShapeError: for calibration inputs that are not ``[T, B, …]`` of the network.
    """
    check_name("clip", clip, CLIPS)
    if bits is not None and not (isinstance(bits, numbers.Real) and bits == FLOAT):
        bits = check_bits(bits)
    per_channel, power_of_two, fine_biases = (
        checks.truth(name, value)
        for name, value in (("per_channel", per_channel), ("power_of_two", power_of_two), ("fine_biases", fine_biases))
    )
    if calibration is not None and (checks.finite("calibration", calibration).dim() < 3 or not calibration.numel()):
        raise ShapeError(f"calibration inputs are some [T, B, …], got shape {tuple(calibration.shape)}")
    tie_margin = checks.number("tie_margin", tie_margin)
    if not 0 <= tie_margin < 1:
        raise UserError(f"tie_margin must lie in [0, 1), got {tie_margin}")
    if input_scale is not None:
        levels = checks.number("input_scale", input_scale)
        if not 1 <= levels <= checks.LARGEST or levels != int(levels):
            raise UserError(f"input_scale must be a whole number from 1 to {checks.LARGEST}, got {input_scale}")
        input_scale = int(levels)
    made = _copy(net, bits)
    if bits == FLOAT or (bits is None and not has_grids(made)):
        return made
    if clip == "output" and calibration is None:
        raise UserError("clip='output' looks at the sums: hand in calibration inputs [T, B, …] of the network")
    made.input_scale = input_scale
    scheme = Scheme(bits, clip, per_channel, power_of_two, tie_margin, fine_biases)
    all_trained = is_trained(made)
    known = None if calibration is None else made.scaled(calibration)
    if known is not None:
        made(known[:1, :1])  # its layers say which shapes they take
    walk = Walk(made, scheme, made.input_scale, known)
    if made.input_scale is not None and walk.input_sum >= EXACT:
        without = quantize(
            net, bits, clip=clip, per_channel=per_channel, power_of_two=power_of_two, calibration=calibration,
            tie_margin=tie_margin, fine_biases=fine_biases,
        )  # fmt: skip
        without.notes += (
            f"inputs are not scaled to integers: the sums of the first layer could reach {walk.input_sum:.0f}, "
            f"and float32 is exact below 2^24 = {EXACT} only",
        )
        return without
    made.bits = max(layer.bits for layer in walk.report) if walk.report else scheme.bits
    made.clip = "trained" if all_trained else clip
    made.report, made.notes = tuple(walk.report), tuple(walk.notes)
    if calibration is not None:
        rates = compare(net, made, calibration).rates
        refuse_silenced(rates, made.bits, made.clip)
        made.notes += rate_notes(rates)
    return made


def _copy(net: torch.nn.Module, bits: int | None) -> QuantizedNetwork:
    """Copy ``net`` in float32 on the CPU with BatchNorm folded; with 32 ``bits`` all of it in floats.

    Layers that share a weight get one each, since their integers have scales of their own.
    """
    known = lowered(net)
    leaves(known)
    twin = copy.deepcopy(known).eval().requires_grad_(False)
    _untie(twin)
    snap(twin)
    if bits == FLOAT:
        as_floats(twin)
    assert isinstance(twin, torch.nn.Sequential)
    twin = fold_batchnorm(twin)
    if bits not in (None, FLOAT) or known is not net:
        twin = fold_scales(twin)
    twin = twin.to("cpu", torch.float32)
    return QuantizedNetwork(OrderedDict(twin.named_children())).eval()


def _untie(net: torch.nn.Module) -> None:
    """Give each layer parameters of its own, in place."""
    seen: set[int] = set()
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) in seen:
                parameter = module._parameters[name] = torch.nn.Parameter(parameter.clone(), requires_grad=False)
            seen.add(id(parameter))


@torch.no_grad()
def accuracy_by_layer(
    net: torch.nn.Module, quantized: QuantizedNetwork, inputs: Tensor, labels: Tensor, mask: Tensor | None = None
) -> dict[str, float]:
    """Measure the accuracy with the weights of one layer quantised and all else in floats, layer by layer.

    It runs the network once for each layer of weights.

    Args:
        net: the network in floats.
        quantized: its quantised copy.
        inputs: of ``net``, ``[T, B, …]``.
        labels: classes, int64 ``[B]``.
        mask: boolean ``[T, B]``, the steps whose outputs tell the class; by default all.

    Returns:
        Accuracy in [0, 1] by the name of the layer.
    """
    found: dict[str, float] = {}
    for layer in quantized.report:
        floats = quantize(net, 32)
        weight = floats.get_submodule(layer.layer).weight
        assert isinstance(weight, Tensor)
        own = quantized.get_submodule(layer.layer).weight
        assert isinstance(own, Tensor)
        weight.copy_(own * layer.scale)
        accuracy = compare(floats, floats, inputs, labels, mask).float_accuracy
        assert accuracy is not None
        found[layer.layer] = accuracy
    return found
