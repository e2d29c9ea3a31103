"""Spikes of the neurons of a network, layer by layer, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.nn import graph


def record(net: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a network and record the spikes of every layer that fires. The network is left as it was.

    Args:
        net: the network; a user's own layer counts if it states ``fires = True``.
        x: its input ``[T, B, …]``.

    Returns:
        Spikes ``[T, B, …]`` of 0 and 1 by name of the layer, in the order the layers ran
        (:func:`spikelfp.nn.graph.record`).

    Raises:
        UserError: for inputs with NaN or infinity.
    """
    if isinstance(x, Tensor) and x.layout is torch.strided:
        checks.finite("x", x)  # a membrane of NaN never reaches its threshold, and its neuron looks silent
    return graph.record(net, x, partial(graph.has_trait, trait="fires"))


def spike_rates(net: torch.nn.Module, x: Tensor) -> dict[str, float]:
    """Measure the mean spikes per neuron and step of each layer that fires.

    Args:
        net: the network.
        x: its input ``[T, B, …]``.

    Returns:
        Rates by name of the layer, between 0 and 1 where a neuron fires once in a step at most.

    Raises:
        ShapeError: for inputs without steps or samples.
    """
    recorded = record(net, x)
    for name, spikes in recorded.items():
        if not spikes.numel():
            raise ShapeError(f"there are no spikes to count: those of layer {name!r} have shape {list(spikes.shape)}")
    return {name: spikes.double().mean().item() for name, spikes in recorded.items()}


@dataclass(frozen=True)
class SpikeStatistics:
    """Statistics of the spikes of a layer. A *train* is the spikes of one neuron for one sample.

    Attributes:
        rates: mean spikes per step of each neuron, float64, of the shape of the layer.
        silent: share of the neurons that never spike.
        saturated: share of the neurons that spike at every step of every sample.
        first_spike: mean step of the first spike of the trains that have one, from 1; NaN where there is none.
        interval: mean steps between two spikes of a train; NaN without two in any.
        cv: coefficient of variation of these intervals, standard deviation over mean, of each train with three spikes
            or more, and their mean: 0 for a clock, 1 for a Poisson process; NaN without such a train.
    """

    rates: Tensor
    silent: float
    saturated: float
    first_spike: float
    interval: float
    cv: float

    @property
    def rate(self) -> float:
        """Mean spikes per neuron and step."""
        return float(self.rates.mean())

    @classmethod
    def of(cls, spikes: Tensor, mask: Tensor | None = None) -> SpikeStatistics:
        """Compute the statistics of spikes.

        Args:
            spikes: ``[T, B, …]``; neurons that fire several times in a step have larger numbers.
            mask: boolean ``[T, B]``, the steps that count, for sequences of unequal lengths; ``None`` for all.

        Raises:
            ShapeError: for spikes without steps, samples and neurons, and a mask of another shape or dtype.
            UserError: for what is no dense tensor, and numbers that count no spikes, such as membranes.
        """
        spikes = checks.finite("spikes", spikes)
        if spikes.ndim < 3 or not spikes.numel():
            raise ShapeError(f"spikes have shape [T, B, …], got {list(spikes.shape)}")
        if (spikes.is_floating_point() and bool((spikes != spikes.round()).any())) or bool((spikes < 0).any()):
            raise UserError(
                "spikes are 0 or 1, or counts of them, and these hold negative numbers or fractions, as membranes and "
                "activations do: record(net, x) returns the spikes of a network"
            )
        mask = checks.step_mask(mask, spikes)
        if mask is None:
            mask = torch.ones(spikes.shape[:2], dtype=torch.bool, device=spikes.device)
        if not mask.any():
            raise ShapeError("a mask has a step that counts, and this one has none")
        counts = mask.to(spikes.device).view(*mask.shape, *[1] * (spikes.ndim - 2))
        spikes = spikes.detach().double() * counts
        fired, steps = spikes > 0, counts.sum()
        rates = spikes.sum((0, 1)) / steps
        when = torch.arange(1, len(spikes) + 1, device=spikes.device).view(-1, *[1] * (spikes.ndim - 1))
        last = (fired * when).cummax(0).values  # step of the last spike so far, 0 before the first
        before = torch.cat([torch.zeros_like(last[:1]), last[:-1]])
        first, later = fired & (before == 0), fired & (before > 0)
        gaps = ((when - before) * later).double()
        number = later.sum(0)
        mean = gaps.sum(0) / number
        spread = (gaps.square().sum(0) / number - mean.square()).clamp(min=0).sqrt()
        return cls(
            rates,
            float((rates == 0).double().mean()),
            float((fired.sum((0, 1)) == steps).double().mean()),
            float((first * when).sum().double() / first.sum()),
            float(gaps.sum() / later.sum()),
            float((spread / mean)[number > 1].mean()),
        )


def spike_statistics(net: torch.nn.Module, x: Tensor, mask: Tensor | None = None) -> dict[str, SpikeStatistics]:
    """Measure the statistics of the spikes of each layer that fires: rates, silence, first spikes and intervals.

    Args:
        net: the network.
        x: its input ``[T, B, …]``.
        mask: boolean ``[T, B]``, the steps that count; ``None`` for all.

    Returns:
        Statistics by name of the layer.

    Raises:
        ShapeError: for a mask that does not fit the input.
    """
    return {name: SpikeStatistics.of(spikes, mask) for name, spikes in record(net, x).items()}
