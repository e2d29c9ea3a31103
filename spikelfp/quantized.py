"""Training with weights of a few bits: choice of their grids, and updates of weights on a grid.

The scale ``s`` of ``w ≈ s · q`` is the length of one integer step. Since ``|q|`` is bounded, the scale is a compromise
between two errors: a small scale clips large weights, a large one rounds small weights coarsely. Weights trained by LFP
have heavy tails, few large and many near 0, so below 8 bits the scale that clips nothing (``max``) wastes most of the
range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikelfp.data.loader import generator
from spikelfp.errors import UserError
from spikelfp.functional.grid import Grid, check_bits, largest, round_by_chance
from spikelfp.nn import graph
from spikelfp.nn.layer import Quantizable
from spikelfp.registry import check_constructors, check_name, public_names

CLIPS = ("mse", "max", "mean", "percentile")
"""Ways to choose a scale.

``mse``: that of least squared error. ``max``: the finest that clips no weight. ``mean``: a multiple of ``mean|w|``
(:data:`MEAN_MULTIPLES`). ``percentile``: the finest that clips at most one weight in a thousand (:data:`PERCENTILE`).
"""

PERCENTILE = 99.9
"""Percentage of the weights that ``percentile`` does not clip."""

MEAN_MULTIPLES = {
    2: 1.5, 3: 0.8156, 4: 0.4429, 5: 0.2422, 6: 0.1322, 7: 0.07177, 8: 0.03869, 9: 0.02072, 10: 0.01102,
    11: 5.830e-3, 12: 3.069e-3, 13: 1.609e-3, 14: 8.404e-4, 15: 4.375e-4, 16: 2.272e-4,
}  # fmt: skip
"""Scale of least squared error for normally distributed weights, in units of ``mean|w|``, by bits (Max 1960; 4 digits).

The scale of ternary weights is rounded to 1.5.
"""

TIE_MARGIN = 49 / 128
"""Distance of a threshold above a whole number of steps, in steps.

Sums of steps, and membranes that decay towards such a sum, must not *equal* the threshold, since then the last bit of
``βU`` would decide, which differs between simulators. For whole numbers ``U > k + 49/128`` is the same as ``U > k``.
"""

FINE_MARGIN = (24 + TIE_MARGIN) / 64
""":data:`TIE_MARGIN` for training (:func:`threshold_scale`), where sums with biases are whole 64ths of a step.

In 64ths the margin is ``24 + 49/128``. A margin of 49/128 would be 24½ of them, a value that ``0.9 U + I`` can reach.
"""

_COARSE = [2 ** (-step / 4) for step in range(41)]
_FINE = [2 ** (step / 32) for step in range(-4, 5)]


def check_weights(weight: Tensor, what: str = "weights") -> None:
    """Refuse weights that cannot be quantised.

    Args:
        weight: the weights.
        what: name of the weights in errors.

    Raises:
        UserError: for weights that are not finite, or all zero.
    """
    if not torch.isfinite(weight).all():
        raise UserError(f"the {what} are not finite")
    if not weight.any():
        raise UserError(f"the {what} are all zero: there is nothing to quantise")


@torch.no_grad()
def choose_scale(
    weight: Tensor,
    bits: int,
    clip: str = "mse",
    per_channel: bool = False,
    power_of_two: bool = False,
    what: str = "weights",
) -> float | Tensor:
    """Choose the scale of weights in ``bits`` signed bits, of the range ``−largest(bits) … largest(bits)``.

    Args:
        weight: the weights, output channels first.
        bits: 2 to 16.
        clip: one of :data:`CLIPS`.
        per_channel: whether each output channel has its own scale. A channel that is all zero gets the largest scale of
            the others.
        power_of_two: whether the scale is rounded to one of the two nearest powers ``2^e``: the one of less squared
            error for ``mse``, the larger for ``max``, the nearer in ``log₂`` for the others.
        what: name of the weights in errors.

    Returns:
        The scale, or with ``per_channel`` a tensor ``[C, 1, …]`` that broadcasts against the weights.

    Raises:
        UserError: for weights that are all zero or not finite, ``bits`` outside of 2 to 16, and an unknown ``clip``.
    """
    bits, rows = check_bits(bits), weight.detach()
    check_name("clip", clip, CLIPS)
    check_weights(rows, what)
    rows = rows.flatten(1) if per_channel else rows.reshape(1, -1)
    silent = ~rows.any(1)
    scales = _CHOICES[clip](rows, bits)
    if power_of_two:
        scales = _to_power_of_two(rows, scales, bits, clip)
    scales = torch.where(silent, scales.masked_fill(silent, 0).max(), scales)
    return scales.to(weight.dtype).reshape(-1, *[1] * (weight.dim() - 1)) if per_channel else scales.item()


def _clips_nothing(rows: Tensor, bits: int) -> Tensor:
    return rows.abs().amax(1).double() / largest(bits)


def _mean(rows: Tensor, bits: int) -> Tensor:
    return rows.abs().mean(1, dtype=torch.float64) * MEAN_MULTIPLES[bits]


def _percentile(rows: Tensor, bits: int) -> Tensor:
    rank = math.ceil(rows.shape[1] * PERCENTILE / 100)
    scales = rows.abs().kthvalue(rank, 1).values.double() / largest(bits)
    return torch.where(scales > 0, scales, _clips_nothing(rows, bits))  # 0 where nearly all weights are 0


def _least_error(rows: Tensor, bits: int) -> Tensor:
    """Search factors of the scale that clips nothing: steps of 2^¼ first, then of 2^(1/32) around the best."""
    top = _clips_nothing(rows, bits)
    around = _best(rows, [top * factor for factor in _COARSE], bits)
    return _best(rows, [torch.minimum(around * factor, top) for factor in _FINE], bits)


_CHOICES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mse": _least_error,
    "max": _clips_nothing,
    "mean": _mean,
    "percentile": _percentile,
}


def _best(rows: Tensor, candidates: list[Tensor], bits: int) -> Tensor:
    """Return the candidate of least squared error, for each row."""
    errors = torch.stack([_errors(rows, scales, bits) for scales in candidates])
    return torch.stack(candidates).gather(0, errors.argmin(0, keepdim=True))[0]


def _errors(rows: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Return ``Σ (w − s q)²`` of each row."""
    grid = Grid.symmetric(scales.clamp(min=torch.finfo(rows.dtype).tiny).to(rows).unsqueeze(1), bits)
    return (rows - grid.to_real(grid.to_integers(rows))).square_().sum(1, dtype=torch.float64)


def _to_power_of_two(rows: Tensor, scales: Tensor, bits: int, clip: str) -> Tensor:
    exponents = scales.clamp(min=torch.finfo(torch.float64).tiny).log2()
    if clip == "mse":
        return _best(rows, [exponents.floor().exp2(), exponents.ceil().exp2()], bits)
    return (exponents.ceil() if clip == "max" else exponents.round()).exp2()


def threshold_scale(scale: float, threshold: float) -> tuple[int, float]:
    """Fit a scale to a threshold, so that the threshold is ``k + FINE_MARGIN`` steps of it.

    ``k`` is the whole number nearest to ``threshold / scale − FINE_MARGIN``, at least 1; the threshold stays as it is.

    Args:
        scale: length of a step, above 0.
        threshold: θ, in units of the membrane.

    Returns:
        ``k``, and the scale next to ``scale`` that fits.
    """
    steps = max(1, round(threshold / scale - FINE_MARGIN))
    return steps, threshold / (steps + FINE_MARGIN)


LEAST_STEPS = 64
"""Least number of steps of a bias in one step of a weight (:func:`bias_steps`).

A membrane sums the bias over ``1 / (1 − β)`` steps of time, so whole steps of a weight would be far too coarse.
"""
HEADROOM = 4.0
"""Scale of stochastically rounded weights, in units of the best scale for the starting weights.

LFP makes large weights larger, and there are no float weights from which another scale could be chosen later.
"""
_SAMPLE = 2**16  # least number of weights from which a scale is chosen, where there are as many


UPDATES = ("masters", "stochastic")
"""Targets of updates: float copies of the weights, or the grid itself by stochastic rounding."""


@dataclass(frozen=True)
class Quantization:
    """Weights of ``bits`` bits in every forward pass.

    Args:
        bits: bits of a weight, 2 (ternary) to 16.
        update: one of :data:`UPDATES`.
        clip: choice of scales, one of :data:`~spikelfp.quantized.CLIPS`.
        every: steps of training between two choices of the scales of ``masters``, at least 1.
        input_levels: inputs of the network are multiples of ``1 / input_levels``: 255 for 8-bit pixels in [0, 1], 1 for
            spikes. The steps of biases in the same sums are chosen to fit.

    Raises:
        UserError: for ``bits`` outside of 2 to 16, unknown names, and ``every`` or ``input_levels`` below 1.
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


@dataclass(frozen=True, eq=False)
class WeightLayer:
    """Layer of weights on a grid.

    Attributes:
        name: name of the layer in the network.
        layer: the layer.
        takes_spikes: whether its inputs are spikes, not real values.
    """

    name: str
    layer: Quantizable
    takes_spikes: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Layers whose sums flow into one layer of neurons, so that all of them share one scale.

    Attributes:
        members: the layers of weights.
        threshold: threshold of the neurons; ``None`` where there are no neurons, or neurons without a threshold.
        into_neurons: whether the sums flow into neurons, so that a bias has to be a whole number of their steps.
    """

    members: tuple[WeightLayer, ...]
    threshold: float | None
    into_neurons: bool


def groups(net: torch.nn.Module) -> list[Group]:
    """Find the layers of weights that share a scale because they drive the same neurons.

    Layers that pass a scale on, such as pooling, may lie between weights and neurons. Weights before any other layer,
    such as a normalisation or a sum of branches, have their own scale, and so have weights that drive several layers.
    The connections of recurrent neurons are grouped with the layer before them.

    Args:
        net: the network.

    Returns:
        Groups in the order of ``net.modules()``; each layer of weights is in one of them.

    Raises:
        UserError: for thresholds that differ between the neurons of a layer, since a layer of weights has one scale.
    """
    known = graph.neighbours(net)
    inner = {getattr(layer, "recurrent", None): name for name, layer in known.layers.items() if graph.is_neuron(layer)}
    found: dict[str, list[WeightLayer]] = {}
    for name, layer in net.named_modules():
        if isinstance(layer, Quantizable):
            key = inner.get(layer) or (_driven(known, name) if name in known.layers else name)
            found.setdefault(key, []).append(WeightLayer(name, layer, layer in inner or _takes_spikes(known, name)))
    return [
        Group(tuple(members), _threshold(key, known.layers.get(key)), key not in {each.name for each in members})
        for key, members in found.items()
    ]


def _keeps_unit(layer: torch.nn.Module | None) -> bool:
    return layer is not None and graph.has_trait(layer, "passes_scale")


def _driven(known: graph.Neighbours, name: str) -> str:
    """Return the neurons that this layer of weights alone drives, else the layer itself."""
    near = known.nearest(name, _keeps_unit, after=True)
    each = next(iter(near)) if len(near) == 1 else ""
    alone = each in known.layers and graph.has_trait(known.layers[each], "has_membrane")
    return each if alone and known.nearest(each, _keeps_unit) == {name} else name


def _takes_spikes(known: graph.Neighbours, name: str) -> bool:
    near = [known.layers.get(each) for each in known.nearest(name, _keeps_unit)]
    return bool(near) and all(each is not None and graph.has_trait(each, "fires") for each in near)


def _threshold(name: str, layer: torch.nn.Module | None) -> float | None:
    """Return the threshold of the neurons of a group; ``None`` for layers without one."""
    if layer is None or not graph.has_trait(layer, "has_threshold"):
        return None
    values = torch.as_tensor(layer.threshold)
    if not bool((values == values.flatten()[0]).all()):
        raise UserError(
            f"the neurons of layer {name!r} have thresholds of their own, and the weights in front of them one scale "
            "for all: give them one threshold to train with quantised weights"
        )
    return layer.threshold if isinstance(layer.threshold, float) else values.flatten()[0].item()


class WeightGrids:
    """Grids of the weights of ``net``, which are put onto them in place and kept there while it trains::

        grids = WeightGrids(net, Quantization(bits=4))
        for step in range(1, steps + 1):
            …                                # forward pass, reward, backward pass
            optimizer.step()
            grids.settle(step)

    Every layer of weights has one scale ``s``, and computes with ``s · q``, ``q`` integers of few bits. A backward pass
    by an LFP rule needs no derivative of the rounding: contributions ``z_ij = s q_ij a_i`` and messages are those of
    the quantised network, and the step of a weight is ``|w|`` times its sum (v3, eq. 7). Under ``Surrogate`` or
    ``Gradient`` the same network is trained by a straight-through estimator.

    With ``masters`` the parameters are float weights, rounded to nearest in each forward pass; their scales are chosen
    anew every few steps. With ``stochastic`` there are no float weights: parameters are ``s · q``, and :meth:`settle`
    rounds the result of the optimiser's step by chance, so that a change much smaller than ``s`` counts on average.
    Scales stay those of the start, with room to grow.

    For a layer that drives neurons of threshold θ, ``θ = (k + 3121/8192) s`` with ``k`` whole, so that integer neurons
    that fire above ``k`` make the same spikes (:data:`~spikelfp.quantized.FINE_MARGIN`). This is why all channels share
    one scale. A bias that flows into neurons is a whole number of ``s / 64``, or of ``s / bias_steps(input_levels)``
    for inputs that are not spikes; other biases are floats. Normalisation layers stay in floats.

    Args:
        net: the network; one that has grids of these options is left as it is.
        options: bits, updates and scales.
        seed: seed of the rounding by chance, which is a function of seed and step, so that training can go on anywhere
            and all workers round alike.

    Raises:
        UserError: for a network without layers of weights, or with a layer whose weights are all zero, not finite, or
            floats of 16 bits, which do not hold the integers.
    """

    def __init__(self, net: torch.nn.Module, options: Quantization, seed: int = 0) -> None:
        self.options, self.seed, self.groups = options, seed, groups(net)
        members = [member for group in self.groups for member in group.members]
        if not members:
            raise UserError("the network has no layer whose weights can be quantised: nn.Linear or nn.Conv2d")
        for member in members:
            check_weights(member.layer.weight, f"weights of layer {member.name!r}")
            kind = member.layer.weight.dtype
            if kind in (torch.float16, torch.bfloat16):
                raise UserError(f"the weights of layer {member.name!r} are {kind}: train quantised weights in float32")
        if all(member.layer.quantization == options for member in members):
            return
        for group in self.groups:
            for member in group.members:
                steps = bias_steps(1 if member.takes_spikes else options.input_levels)
                member.layer.put_on_grid(options, steps if group.into_neurons else None)
        stochastic = options.update == "stochastic"
        with torch.no_grad():
            for group in self.groups:
                self._choose(group, HEADROOM if stochastic else 1.0)
            if stochastic:
                self._round(0)

    @torch.no_grad()
    def follow(self, factors: dict[str, float]) -> None:
        """Scale the grids of layers whose weights were multiplied before the first step.

        Args:
            factors: factor of each layer, by name.
        """
        for group in self.groups:
            factor = max(factors.get(member.name, 1.0) for member in group.members)
            if factor != 1:
                self._fit(group, group.members[0].layer.weight_scale.item() * factor)
        if factors and self.options.update == "stochastic":
            self._round(0)

    @torch.no_grad()
    def settle(self, step: int) -> None:
        """Bring the weights back to their grids, or the grids to their weights, after update number ``step``."""
        if self.options.update == "stochastic":
            self._round(step)
        elif step % self.options.every == 0:
            for group in self.groups:
                self._choose(group)

    def _choose(self, group: Group, headroom: float = 1.0) -> None:
        weights = torch.cat([_sample(member.layer.weight, self.options.clip) for member in group.members])
        what = f"weights of layer {group.members[0].name!r}"
        scale = choose_scale(weights, self.options.bits, self.options.clip, what=what)
        assert isinstance(scale, float)
        self._fit(group, scale * headroom)

    def _fit(self, group: Group, scale: float) -> None:
        """Give all layers of a group the scale next to ``scale`` that suits their threshold."""
        if group.threshold is not None:
            _, scale = threshold_scale(scale, group.threshold)
        for member in group.members:
            member.layer.weight_scale.fill_(scale)

    def _round(self, step: int) -> None:
        random = generator("rounding", self.seed, step)
        for group in self.groups:
            for member in group.members:
                grid, wide = member.layer.live_grids()
                member.layer.weight.copy_(round_by_chance(member.layer.weight, grid, random))
                if member.layer.bias is not None and wide is not None:
                    member.layer.bias.copy_(round_by_chance(member.layer.bias, wide, random))


def bias_steps(levels: int) -> int:
    """Return the steps of a bias in one step of a weight: ``levels · 2^e``, at least :data:`LEAST_STEPS`.

    So sums of weights are whole numbers of them, a shift away.

    Args:
        levels: inputs are multiples of ``1 / levels``.
    """
    steps = levels
    while steps < LEAST_STEPS:
        steps *= 2
    return steps


def _sample(weight: Tensor, clip: str) -> Tensor:
    """All weights, or as many as tell their distribution, evenly spaced over rows and columns."""
    every = weight.numel() // _SAMPLE
    if clip == "max" or every < 2:
        return weight.flatten()
    while math.gcd(every, weight[0].numel()) > 1:
        every += 1
    sample = weight.flatten()[::every]
    return sample if sample.any() else weight.flatten()


__all__ = ["CLIPS", "UPDATES", "Grid", "Quantization", "WeightGrids", "choose_scale"]

check_constructors(Grid, Quantization, WeightGrids)
public_names(globals())
