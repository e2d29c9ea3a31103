"""The quantised network, the report on each of its layers, and its spikes beside those of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikelfp import checks, nn
from spikelfp.analysis import record
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.registry import checked_keywords
from spikelfp.training.update import predict


@dataclass(frozen=True)
class LayerReport:
    """Facts on one layer of weights ``w ≈ scale · q`` and the neurons it drives.

    Attributes:
        layer: name of the layer.
        kind: type of the layer.
        neurons: name of the LIF layer it drives, ``None`` where there is none.
        weights: number of weights.
        bits: of a weight; with a scale for each channel, of its mantissa.
        scale: real value of one integer step of a weight.
        max_shift: 0, or with a scale for each channel the largest ``e`` of ``q = mantissa · 2^e``
            (:func:`~hw_export.quantize.mantissas` takes them apart).
        threshold: integer threshold of the neurons, in the unit of the layer's sums; where they have several, nested
            lists of the shape of their thresholds.
        threshold_error: relative error of the real threshold, 0 where the scale was moved to meet it; of several the
            largest.
        max_weight: largest magnitude of an integer weight.
        max_bias: largest magnitude of an integer bias, which is not limited to a weight's bits.
        squared_error: ``Σ (w − scale · q)²``.
        relative_error: ``squared_error / Σ w²``.
        zero_fraction: fraction of the weights that became 0.
        largest_sum: bound on ``|Σ q x + b|`` for inputs in [0, 1] and spikes; ``None`` for float inputs.
        exact: whether float32 adds these sums without rounding, in any order.
    """

    layer: str
    kind: str
    neurons: str | None
    weights: int
    bits: int
    scale: float
    max_shift: int
    threshold: Any
    threshold_error: float
    max_weight: int
    max_bias: int
    squared_error: float
    relative_error: float
    zero_fraction: float
    largest_sum: float | None
    exact: bool

    def summary(self) -> dict[str, Any]:
        """Return all fields for a manifest; of several thresholds the lowest and the highest."""
        return {**asdict(self), "threshold": span(self.threshold)}


def span(values: Any) -> Any:
    """Summarises the constants of a layer: one number, or the lowest and the highest; ``None`` where there are none."""
    if values is None:
        return None
    array = np.asarray(values)
    low, high = array.min().item(), array.max().item()
    return low if low == high else {"from": low, "to": high}


class QuantizedNetwork(nn.Sequential):
    """A network of integer weights (:func:`~hw_export.quantize`): it runs, without gradients, and exports as any other.

    Attributes:
        bits: of a weight, ``None`` for a network left in floats.
        clip: how the scales were chosen; ``trained`` where all were taken over from training.
        input_scale: ``σ``, where inputs are the integers ``x · σ``; ``None`` where they are the inputs ``x``
            themselves.
        report: a :class:`~hw_export.quantize.LayerReport` for each layer of weights.
        notes: warnings for the user, a line each.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.bits: int | None = None
        self.clip: str | None = None
        self.input_scale: int | None = None
        self.report: tuple[LayerReport, ...] = ()
        self.notes: tuple[str, ...] = ()

    def scaled(self, inputs: Tensor) -> Tensor:
        """Convert inputs of the original network to those of this one: the integers ``x · input_scale``, or ``x``.

        Args:
            inputs: ``x``, ``[T, B, …]``.

        Returns:
            float32 ``[T, B, …]`` on the CPU.

        Raises:
            UserError: for what is no dense tensor of real numbers, and where ``x · input_scale`` are no integers from 0
                to ``input_scale``.
        """
        inputs = checks.tensor("inputs", inputs).detach().to("cpu", torch.float32)
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


def check_thresholds(net: QuantizedNetwork) -> None:
    """Refuse a network whose neurons have other thresholds than its report says, such as those set by hand.

    Raises:
        UserError: naming the neurons.
    """
    for layer in net.report:
        if layer.neurons is None or layer.threshold is None:
            continue
        neurons: Any = net.get_submodule(layer.neurons)
        now = torch.as_tensor(neurons.threshold, dtype=torch.float64)
        whole = torch.as_tensor(layer.threshold, dtype=torch.float64)
        if bool(((now < whole * (1 - _ROUNDED)) | (now > (whole + 1) * (1 + _ROUNDED))).any()):
            raise UserError(
                f"the neurons {layer.neurons!r} have the threshold {span(now)}, and were quantised with {span(whole)}: "
                "set thresholds before quantize, whose steps depend on them"
            )


_ROUNDED = 2**-22
"""Relative error of a threshold that is rounded to float32."""

_AT_ONCE = 256
"""Samples that run at the same time."""


@dataclass(frozen=True)
class RateReport:
    """Firing of one layer of neurons in the float network and in the quantised one, on the same inputs.

    Attributes:
        layer: name of the layer.
        neurons: number of neurons.
        float_rate: spikes per neuron and step in the float network.
        quantized_rate: the same in the quantised one.
        silenced: of the neurons that fire in the float network, the fraction that never does in the quantised one.
        agreement: fraction of all neurons and steps with a spike in both or in neither.
        overlap: ``2 |both| / (|float| + |quantised|)`` of the spikes, 1 where neither fires. Unlike ``agreement`` it
            does not count the silence on which sparse layers agree anyway.
    """

    layer: str
    neurons: int
    float_rate: float
    quantized_rate: float
    silenced: float
    agreement: float
    overlap: float


@dataclass(frozen=True)
class Comparison:
    """Spikes and classes of a network and its quantised copy on the same inputs.

    Attributes:
        samples: number of samples.
        rates: of each layer of neurons.
        float_accuracy: of the network, in [0, 1]; ``None`` without labels.
        quantized_accuracy: of its copy; ``None`` without labels.
        agreement: fraction of the samples to which both give the same class.
    """

    samples: int
    rates: tuple[RateReport, ...]
    float_accuracy: float | None
    quantized_accuracy: float | None
    agreement: float


@checked_keywords()
def compare(
    net: torch.nn.Module,
    quantized: QuantizedNetwork,
    inputs: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
) -> Comparison:
    """Run the same inputs through a network and its quantised copy, from rest and in evaluation mode.

    Args:
        net: the network.
        quantized: its copy, which gets the integers it takes in place of ``inputs``.
        inputs: of ``net``, ``[T, B, …]``.
        labels: classes, int64 ``[B]``.
        mask: boolean ``[T, B]``, the steps whose outputs tell the class; by default all.

    Returns:
        Rates of each layer, accuracies (with ``labels``), and how often both give the same class.

    Raises:
        UserError: for what is no network and no copy of it, inputs that are not finite, and labels below 0.
        ShapeError: for inputs that are not ``[T, B, …]``, and labels and masks that do not fit them.
    """
    checks.network(net)
    if not isinstance(quantized, QuantizedNetwork):
        raise UserError(f"the quantised copy is one of hw_export.quantize, got {type(quantized).__name__}")
    if checks.finite("inputs", inputs).dim() < 3 or not inputs.numel():
        raise ShapeError(f"inputs are some [T, B, …], got shape {tuple(inputs.shape)}")
    if labels is not None:
        checks.class_labels(labels, inputs)
    checks.step_mask(mask, inputs)
    count = inputs.shape[1]
    like = next(net.parameters(), inputs)
    tallies: dict[str, _Tally] = {}
    classes = []
    for start in range(0, count, _AT_ONCE):
        part = inputs[:, start : start + _AT_ONCE]
        read_out = None if mask is None else mask[:, start : start + _AT_ONCE]
        before, spikes = _run(net, part.to(like), read_out)
        after, others = _run(quantized, quantized.scaled(part), read_out)
        if not spikes.keys() <= others.keys():
            raise UserError(
                f"the quantised network is no copy of the network: its neurons are {', '.join(others) or 'none'}, "
                f"those of the network {', '.join(spikes) or 'none'}"
            )
        for name, own in spikes.items():
            tallies.setdefault(name, _Tally(own)).add(own, others[name])
        classes.append(torch.stack([before, after]))
    both = torch.cat(classes, 1)
    right = [None, None] if labels is None else [(own == labels.cpu()).double().mean().item() for own in both]
    rates = tuple(tally.report(name) for name, tally in tallies.items())
    return Comparison(count, rates, right[0], right[1], (both[0] == both[1]).double().mean().item())


def refuse_silenced(rates: Sequence[RateReport], bits: int | None, clip: str | None) -> None:
    """Refuse a network that has a layer which fires in floats and never after quantisation.

    Args:
        rates: of :func:`compare`.
        bits: of the weights, for the message.
        clip: how the scales were chosen, for the message.

    Raises:
        UserError: naming the layer.
    """
    for rate in rates:
        if rate.float_rate > 0 and rate.quantized_rate == 0:
            raise UserError(
                f"quantisation silenced the neurons {rate.layer!r}: {rate.float_rate:.3g} spikes per neuron and step "
                f"in floats, {rate.quantized_rate:g} with {bits} bits and clip={clip!r}: use more bits, another clip, "
                "or a scale for each channel"
            )


def rate_notes(rates: Sequence[RateReport]) -> tuple[str, ...]:
    """Write a warning for each layer whose firing changed much.

    These are layers that fire less than half or more than twice as often as before, and those in which a tenth of the
    neurons that fired never fires any more.

    Args:
        rates: of :func:`compare`.
    """
    return tuple(
        f"the neurons {rate.layer!r} fire at a rate of {rate.quantized_rate:.3g}, in floats at {rate.float_rate:.3g}; "
        f"{rate.silenced:.1%} of those that fired in floats never fire now"
        for rate in rates
        if not rate.float_rate / 2 <= rate.quantized_rate <= rate.float_rate * 2 or rate.silenced >= 0.1
    )


class _Tally:
    """Counts of spikes of one layer of neurons, summed over batches."""

    def __init__(self, spikes: Tensor) -> None:
        self.fired = torch.zeros(2, *spikes.shape[2:], dtype=torch.bool)
        self.counts = torch.zeros(4, dtype=torch.int64)  # compared, float spikes, quantised spikes, both

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        one, other = ours.cpu().bool(), theirs.bool()
        self.fired |= torch.stack([one.flatten(0, 1).any(0), other.flatten(0, 1).any(0)])
        self.counts += torch.tensor([one.numel(), int(one.sum()), int(other.sum()), int((one & other).sum())])

    def report(self, name: str) -> RateReport:
        compared, ours, theirs, both = self.counts.tolist()
        before, after = self.fired
        firing = int(before.sum())
        return RateReport(
            layer=name,
            neurons=before.numel(),
            float_rate=ours / compared,
            quantized_rate=theirs / compared,
            silenced=int((before & ~after).sum()) / firing if firing else 0.0,
            agreement=1 - (ours + theirs - 2 * both) / compared,
            overlap=2 * both / (ours + theirs) if ours + theirs else 1.0,
        )


def _run(net: torch.nn.Module, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Run ``net``; return classes ``[B]`` and the spikes of each layer of neurons."""
    outputs: list[Tensor] = []
    handle = net.register_forward_hook(lambda _, arguments, output: outputs.append(output.detach()))
    try:
        spikes = record(net, inputs)
    finally:
        handle.remove()
    return predict(outputs[0], mask).cpu(), spikes
