"""How long one integer step of a weight is."""

from __future__ import annotations

import torch
from torch import Tensor

CLIPS = ("mse", "max")
_COARSE = [step / 20 for step in range(1, 21)]
_FINE = [step / 80 for step in range(-3, 4)]


def largest(bits: int) -> int:
    """Largest integer weight of ``bits`` signed bits; the range is symmetric, ``-largest … largest``."""
    return 2 ** (bits - 1) - 1


def to_integers(weight: Tensor, scale: float, bits: int) -> Tensor:
    """``round(weight / scale)``, halves to even, limited to the range of ``bits``; integers held in
    floats."""
    limit = largest(bits)
    return (weight / scale).round().clamp(-limit, limit)


def squared_error(weight: Tensor, scale: float, bits: int) -> float:
    """``Σ (w − scale · q)²``."""
    return (weight - scale * to_integers(weight, scale, bits)).square().sum(dtype=torch.float64).item()


def free_scale(weight: Tensor, bits: int, clip: str) -> float:
    """The scale nothing else constrains: that clips no weight (``max``), or of least squared error
    (``mse``)."""
    top = weight.abs().max().item() / largest(bits)
    if clip == "max":
        return top

    def error(fraction: float) -> float:
        return squared_error(weight, top * fraction, bits)

    coarse = min(_COARSE, key=error)
    return top * min((min(coarse + step, 1.0) for step in _FINE), key=error)


def threshold_steps(weight: Tensor, free: float, threshold: float, bits: int, clip: str) -> int:
    """Into how many steps of a weight the ``threshold`` is divided: the scale becomes ``threshold / steps``.

    Of the two numbers next to ``threshold / free``, the one of less error; for ``max`` the one that clips
    nothing. 0 where the threshold would round to 0.
    """
    wanted = threshold / free
    if wanted < 0.5:
        return 0
    below = max(1, int(wanted))
    if clip == "max" or below > wanted:
        return below
    return min((below, below + 1), key=lambda n: squared_error(weight, threshold / n, bits))
