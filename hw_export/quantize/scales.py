"""Scales of integer weights, and thresholds in steps of them.

In order: bounds on sums of integers, the error of a scale, the search for the scale of a layer, shifts of channels,
and the step that makes a threshold a whole number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp import checks, nn
from spikelfp.errors import UserError
from spikelfp.functional.grid import Grid, check_bits, largest
from spikelfp.functional.sequence import is_constant
from spikelfp.quantized import CLIPS as OF_WEIGHTS
from spikelfp.quantized import check_weights, choose_scale

EXACT = 2**24
"""float32 holds every integer below this."""


def largest_sum(weight: Tensor, bias: Tensor | None, peak: float, signed: bool) -> float:
    """Bounds every partial sum of weights times inputs in ``[0, peak]`` (``signed``: ``[−peak, peak]``), in any order.

    Args:
        weight: integer weights ``[C, …]``.
        bias: ``[C]``, or ``None``.
        peak: largest magnitude of an input.
        signed: whether inputs may be negative.

    Returns:
        The larger of ``max Σ (w x)⁺`` and ``max Σ (w x)⁻`` over the output channels, biases included.
    """
    terms = weight.flatten(1).double() * peak
    if signed:
        terms = terms.abs()
    if bias is not None:
        terms = torch.cat([terms, bias.double().unsqueeze(1)], 1)
    return max(terms.clamp(min=0).sum(1).max().item(), (-terms).clamp(min=0).sum(1).max().item())


def adds_exactly(largest: float | None, divisor: int) -> bool:
    """Whether float32 adds sums of integers up to ``largest``, divided by ``divisor``, without rounding."""
    return largest is not None and divisor & (divisor - 1) == 0 and largest * divisor < EXACT


_AT_ONCE = 256
"""Images whose patches are unfolded at the same time."""


@dataclass(frozen=True, eq=False)
class QuantizationError:
    """Squared error of the weights ``[C, …]`` on a grid of ``bits``, for each output channel.

    Called with scales ``[C]`` or ``[1]``, it returns errors ``[C]``, float64: ``Σ (w − s q)²``, or, with a ``moment``,
    the error of the sums, ``E[((w − s q)·x)²] = (w − s q)ᵀ E[x xᵀ] (w − s q)``.

    Attributes:
        weight: real weights ``[C, …]``.
        bits: signed bits of an integer weight.
        moment: ``E[x xᵀ]`` of the inputs of one sum, float64 ``[groups, K, K]`` (:func:`second_moment`).
    """

    weight: Tensor
    bits: int
    moment: Tensor | None = None

    def __call__(self, scales: Tensor) -> Tensor:
        """Compute the errors ``[C]``, float64, of ``scales`` ``[C]`` or ``[1]``."""
        lost = self.weight - self.grid(scales).to_real(self.integers(scales))
        if self.moment is None:
            return lost.flatten(1).square().sum(1, dtype=torch.float64)
        rows = lost.reshape(len(self.moment), -1, self.moment.shape[-1])
        return (rows @ self.moment.to(rows)).mul_(rows).sum(2, dtype=torch.float64).flatten()

    def integers(self, scales: Tensor) -> Tensor:
        """Round the weights to the grid: whole numbers of ``bits`` bits."""
        return self.grid(scales).to_integers(self.weight)

    def grid(self, scales: Tensor) -> Grid:
        """Make the grid with ``scales`` ``[C]`` or ``[1]``."""
        if len(scales) == 1:
            return Grid.symmetric(scales.item(), self.bits)
        return Grid.symmetric(scales.to(self.weight).reshape(-1, *[1] * (self.weight.dim() - 1)), self.bits)


@torch.no_grad()
def second_moment(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """Estimate ``E[x xᵀ]`` of the inputs of one sum, over steps and samples, and over places in a convolution.

    Args:
        layer: dense layer (one group of ``K`` inputs) or convolution (``K`` inputs of a patch of each group's channels,
            in the order of the weights).
        x: inputs of the layer, ``[T, B, …]``.

    Returns:
        float64 ``[groups, K, K]``.
    """
    steps = x[:1] if is_constant(x) else x
    if isinstance(layer, nn.Linear):
        rows = steps.reshape(-1, layer.in_features).double()
        return (rows.T @ rows / len(rows)).unsqueeze(0)
    total, count = torch.zeros((), dtype=torch.float64), 0
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    for images in steps.flatten(0, 1).split(_AT_ONCE):
        padded = F.pad(images, layer._reversed_padding_repeated_twice, mode)
        patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        rows = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2).double()
        total = total + rows.mT @ rows
        count += rows.shape[1]
    return total / count


CLIPS = (*OF_WEIGHTS, "output")
"""Ways to choose a scale: ``output`` takes the scale of least squared error of the sums on given inputs; all others
(:data:`spikelfp.quantized.CLIPS`) look at the weights alone."""

_COARSE = [2 ** (-step / 8) for step in range(81)]
_FINE = [2 ** (step / 32) for step in range(-3, 4)]


def free_scales(
    weight: Tensor, error: QuantizationError, clip: str, *, per_channel: bool, power_of_two: bool, what: str = "weights"
) -> Tensor:
    """Choose the scales of a layer that no threshold constrains yet.

    A channel that is all zero gets the largest scale of the others.

    Args:
        weight: real weights ``[C, …]``.
        error: of these weights, used by ``clip="output"``.
        clip: one of :data:`CLIPS`.
        per_channel: whether each output channel has a scale of its own.
        power_of_two: whether scales are rounded to ``2^e``.
        what: name of the weights in errors.

    Returns:
        float64 ``[1]``, or ``[C]`` for one a channel.

    Raises:
        UserError: for weights that are all zero or not finite.
    """
    if clip != "output":
        chosen = choose_scale(weight, error.bits, clip, per_channel, power_of_two, what)
        return torch.as_tensor(chosen, dtype=torch.float64).flatten()
    check_weights(weight, what)
    scales = _least_error(weight, error, per_channel)
    if power_of_two:
        exponents = scales.log2()
        scales = _best([exponents.floor().exp2(), exponents.ceil().exp2()], error)[0]
    return scales


def _least_error(weight: Tensor, error: QuantizationError, per_channel: bool) -> Tensor:
    """Searches factors of the scale that clips nothing: first in steps of 2^⅛, then of 2^(1/32) around the best.

    The error of few weights has several valleys, so the search goes on around the three best.
    """
    top = weight.flatten(1).abs().amax(1).double() / largest(error.bits)
    top = torch.where(top > 0, top, top.max()) if per_channel else top.max().reshape(1)
    around = _best([top * factor for factor in _COARSE], error, 3)
    return _best([torch.minimum(own * factor, top) for own in around for factor in _FINE], error)[0]


def _best(candidates: list[Tensor], error: Callable[[Tensor], Tensor], count: int = 1) -> Tensor:
    """Select the ``count`` candidates of least error of each channel, ``[count, C]``, best first.

    Candidates of one scale are compared by the error of all channels together.
    """
    errors = torch.stack([error(scales) for scales in candidates])
    if len(candidates[0]) == 1:
        errors = errors.sum(1, keepdim=True)
    return torch.stack(candidates).gather(0, errors.argsort(dim=0, stable=True)[:count])


LARGEST_SHIFT = 7
"""Shifts are numbers of three bits."""

_PHASES = 8
"""Number of units tried within a factor of two."""


def shifts_of(scales: Tensor, error: QuantizationError, clip: str, *, power_of_two: bool) -> tuple[float, Tensor]:
    """Write the scales of channels as ``unit · 2^e``, so that sums of all channels have one unit.

    Each channel takes one of the two shifts next to its own scale: the one of less error (``mse``, ``output``), the one
    that clips nothing (``max``), or the nearer one. Eight units within a factor of two are tried, and the one of least
    error of the layer is kept.

    Args:
        scales: scale that each channel would have by itself, float64 ``[C]``.
        error: of the weights.
        clip: one of :data:`CLIPS`.
        power_of_two: whether ``scales`` are powers of two; the unit then is one as well.

    Returns:
        The unit, and the shift ``e`` of each channel, int64 ``[C]`` from 0 to :data:`LARGEST_SHIFT`.
    """
    top = scales.max().item() / 2**LARGEST_SHIFT
    units = [top] if power_of_two else [top * 2 ** (phase / _PHASES) for phase in range(_PHASES)]
    found = [(unit, _shifts(scales, unit, error, clip)) for unit in units]
    unit, shifts = min(found, key=lambda pair: error(pair[0] * pair[1].exp2()).sum().item())
    least = int(shifts.min())
    return unit * 2**least, shifts.long() - least


def _shifts(scales: Tensor, unit: float, error: QuantizationError, clip: str) -> Tensor:
    wanted = (scales / unit).log2()
    if clip == "max":
        chosen = (wanted - 1e-9).ceil()  # a scale that is a power of two already is one despite rounding
    elif clip in ("mse", "output"):
        below, above = wanted.floor().clamp(0, LARGEST_SHIFT), wanted.ceil().clamp(0, LARGEST_SHIFT)
        chosen = torch.where(error(unit * below.exp2()) < error(unit * above.exp2()), below, above)
    else:
        chosen = wanted.round()
    return chosen.clamp(0, LARGEST_SHIFT)


def mantissas(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Split integer weights into mantissas and a shift for each output channel, ``q = m · 2^e``.

    Args:
        weight: whole numbers ``[C, …]`` of a network of :func:`~hw_export.quantize.quantize` with ``per_channel``.
        bits: signed bits of a mantissa, 2 to 16.

    Returns:
        Mantissas ``[C, …]`` in the dtype of ``weight``, and the smallest shifts that do, int64 ``[C]``.

    Raises:
        UserError: for weights that are not whole numbers, or have no such mantissas.
    """
    limit = largest(check_bits(bits))
    if checks.tensor("weight", weight).dim() < 2:
        raise UserError(f"weights are [C, …], of two axes or more, got shape {list(weight.shape)}")
    rows = weight.detach().flatten(1)
    if not torch.equal(rows, rows.round()):
        raise UserError("the weights are not whole numbers: quantise the network first")
    shifts = torch.zeros(len(rows), dtype=torch.int64)
    while (wide := rows.abs().amax(1) > limit).any():
        rows = torch.where(wide.unsqueeze(1), rows / 2, rows)
        shifts += wide
        if not torch.equal(rows, rows.round()):
            channel = int((rows != rows.round()).any(1).nonzero()[0])
            raise UserError(f"the weights of channel {channel} are no numbers of {bits} bits with a common shift")
    return rows.reshape(weight.shape), shifts


_ROUNDED = 2**-22
"""Relative error of a quotient of two numbers that are rounded to float32."""

Real = float | Tensor
"""A real threshold: one number, or a tensor that broadcasts to the shape of the layer."""


@dataclass(frozen=True)
class ThresholdStep:
    """Real value of one step of a weight, and the thresholds counted in steps of the sums.

    Attributes:
        scale: real value of the step.
        whole: the integer threshold, or int64 of the shape of the thresholds; 0 where one would round to that.
        compared: value that neurons compare their membrane with, float32 from ``whole`` up to ``whole + 1``.
        error: relative error of the real threshold; of several the largest.
    """

    scale: float
    whole: int | Tensor
    compared: float | Tensor
    error: float = 0.0

    @property
    def vanishes(self) -> bool:
        """Whether a threshold rounds to 0."""
        return bool((torch.as_tensor(self.whole) == 0).any())


def one_if_uniform(threshold: Real) -> Real:
    """Return the one number of a tensor that holds no other, else the threshold as it is."""
    if isinstance(threshold, Tensor) and bool((threshold == threshold.flatten()[0]).all()):
        return threshold.flatten()[0].item()
    return threshold


def exact_step(
    scale: float, threshold: float, factor: int, margin: float, error: Callable[[float], float] | None
) -> ThresholdStep:
    """Move a scale so that the threshold is a whole number of steps: ``s' = θ f / (n f + margin)``.

    Of the two whole numbers ``n`` next to ``θ / s`` the one of less error is taken. Without ``error`` it is the one of
    the larger step, which clips no weight.

    Args:
        scale: ``s``, the scale that would be best for the weights alone.
        threshold: ``θ``, real, in the unit of the weights.
        factor: ``f``, how many units of the sums a step of a weight times the unit of its input is.
        margin: fraction of a unit that is added to the integer threshold.
        error: error of the weights for a scale, or ``None``.

    Returns:
        The step; its ``whole`` is 0 where the threshold is less than half a step.
    """
    wanted = threshold / scale
    if wanted < 0.5:
        return ThresholdStep(scale, 0, 0.0)
    steps = max(1, int(wanted))
    if error is not None and steps <= wanted:
        steps = min((steps, steps + 1), key=lambda n: error(threshold / n))
    whole = steps * factor
    compared = float(np.float32(whole + margin))
    return ThresholdStep(threshold * factor / compared, whole, compared)


def nearest_step(scale: float, threshold: Real, factor: int, margin: float) -> ThresholdStep:
    """Keep ``scale`` and round the thresholds to whole numbers of steps, which changes their real value."""
    wanted = _wanted(scale, threshold, factor)
    whole = (wanted - margin).round().clamp(min=1)
    whole = torch.where(wanted < 0.5, 0, whole)
    return _step(scale, whole, whole + margin, wanted, threshold)


def kept_step(scale: float, threshold: Real, factor: int, margin: float) -> ThresholdStep:
    """Keep ``scale`` and thresholds: neurons compare with ``θ f / s``, which need not be whole.

    For sums of integers that is the same as a comparison with the whole number below. A threshold that is whole, up to
    the rounding of a scale to float32, gets the margin.
    """
    wanted = _wanted(scale, threshold, factor)
    nearest = wanted.round()
    is_whole = (wanted - nearest).abs() <= wanted * _ROUNDED
    whole = torch.where(is_whole, nearest, wanted.floor())
    return _step(scale, whole, torch.where(is_whole, nearest + margin, wanted), wanted, threshold)


def _wanted(scale: float, threshold: Real, factor: int) -> Tensor:
    return torch.as_tensor(threshold, dtype=torch.float64).cpu() * factor / scale


def _step(scale: float, whole: Tensor, compared: Tensor, wanted: Tensor, threshold: Real) -> ThresholdStep:
    compared = compared.float()
    error = (compared.double() / wanted - 1).flatten()
    worst = error[error.abs().argmax()].item()
    if isinstance(threshold, Tensor):
        return ThresholdStep(scale, whole.long(), compared, worst)
    return ThresholdStep(scale, int(whole), compared.item(), worst)
