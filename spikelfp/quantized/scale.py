"""How long one integer step of a weight is: the scale ``s`` of ``w ≈ s · q``.

A bound on ``|q|`` makes the scale a compromise between two errors: a small one clips large weights, a large one rounds
small weights coarsely. Weights trained by LFP have heavy tails, few large and many near 0, so the scale that clips
nothing (``max``) wastes most of the range below 8 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.grid import Grid, check_bits, largest
from spikelfp.registry import check_name

CLIPS = ("mse", "max", "mean", "percentile")
"""Ways to choose a scale: least squared error, the finest that clips no weight, a multiple of ``mean|w|``
(:data:`MEAN_MULTIPLES`), and the finest that clips no more than one weight in a thousand (:data:`PERCENTILE`)."""

PERCENTILE = 99.9
"""Part of the weights, in percent, that ``percentile`` does not clip."""

MEAN_MULTIPLES = {
    2: 1.5, 3: 0.8156, 4: 0.4429, 5: 0.2422, 6: 0.1322, 7: 0.07177, 8: 0.03869, 9: 0.02072, 10: 0.01102,
    11: 5.830e-3, 12: 3.069e-3, 13: 1.609e-3, 14: 8.404e-4, 15: 4.375e-4, 16: 2.272e-4,
}  # fmt: skip
"""Scale by bits in units of ``mean|w|``: that of least squared error for normally distributed weights (Max 1960), to
four digits; for ternary weights rounded to 1.5."""

TIE_MARGIN = 49 / 128
"""How far a threshold lies above a whole number of steps, so that sums of steps, and membranes that decay towards one,
do not *equal* the threshold: there the last bit of ``βU`` would decide, which differs between simulators. For whole
numbers ``U > k + 49/128`` is the same as ``U > k``."""

FINE_MARGIN = (24 + TIE_MARGIN) / 64
"""The same in training (:func:`threshold_scale`), where sums with biases are whole 64ths of a step: in these the margin
is ``24 + 49/128``. The plain 49/128 would be 24½ of them, which ``0.9 U + I`` does meet."""

_COARSE = [2 ** (-step / 4) for step in range(41)]
_FINE = [2 ** (step / 32) for step in range(-4, 5)]


def check_weights(weight: Tensor, what: str = "weights") -> None:
    """Refuse, by :class:`~spikelfp.errors.UserError`, weights that are not finite or all zero; ``what`` names them."""
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
    """The scale of ``weight`` in ``bits`` signed bits, range ``−largest(bits) … largest(bits)``.

    clip: one of :data:`CLIPS`. per_channel: one scale for each output channel (the first axis of the weight), returned
    as a tensor ``[C, 1, …]`` that broadcasts against it; a channel that is all zero gets the largest scale of the
    others. power_of_two: rounded to ``2^e``: of the two next to it the one of less squared error for ``mse``, the
    larger for ``max``, the nearer in ``log₂`` for the others. what: the name of the weights in errors.

    Raises :class:`~spikelfp.errors.UserError` for weights that are all zero or not finite, ``bits`` outside of 2 to 16
    and an unknown ``clip``.
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
    kept = math.ceil(rows.shape[1] * PERCENTILE / 100)
    found = rows.abs().kthvalue(kept, 1).values.double() / largest(bits)
    return torch.where(found > 0, found, _clips_nothing(rows, bits))  # of sparse weights all large ones may be clipped


def _least_error(rows: Tensor, bits: int) -> Tensor:
    """By search over factors of the scale that clips nothing: steps of 2^¼ first, then of 2^(1/32) around the best."""
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
    """Of each row the candidate of least squared error."""
    errors = torch.stack([_errors(rows, scales, bits) for scales in candidates])
    return torch.stack(candidates).gather(0, errors.argmin(0, keepdim=True))[0]


def _errors(rows: Tensor, scales: Tensor, bits: int) -> Tensor:
    """``Σ (w − s q)²`` of each row."""
    grid = Grid.symmetric(scales.clamp(min=torch.finfo(rows.dtype).tiny).to(rows).unsqueeze(1), bits)
    return (rows - grid.to_real(grid.to_integers(rows))).square_().sum(1, dtype=torch.float64)


def _to_power_of_two(rows: Tensor, scales: Tensor, bits: int, clip: str) -> Tensor:
    exponents = scales.clamp(min=torch.finfo(torch.float64).tiny).log2()
    if clip == "mse":
        return _best(rows, [exponents.floor().exp2(), exponents.ceil().exp2()], bits)
    return (exponents.ceil() if clip == "max" else exponents.round()).exp2()


def threshold_scale(scale: float, threshold: float) -> tuple[int, float]:
    """``(k, s)``: the scale next to ``scale`` of which the ``threshold`` is ``k + FINE_MARGIN`` steps, ``k ≥ 1``.

    The number of steps is the nearest to ``threshold / scale − FINE_MARGIN``; the real threshold stays what it was.
    """
    steps = max(1, round(threshold / scale - FINE_MARGIN))
    return steps, threshold / (steps + FINE_MARGIN)
