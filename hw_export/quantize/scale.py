"""How long one integer step of a weight is.

Scales are chosen as for training with quantised weights (:mod:`spikelfp.quantized`), and, where inputs are at
hand, also by what the error of the weights does to the sums: ``output``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hw_export.quantize.error import Error
from spikelfp.functional.grid import largest
from spikelfp.quantized import CLIPS as OF_WEIGHTS
from spikelfp.quantized import check_weights, choose_scale

CLIPS = (*OF_WEIGHTS, "output")
"""Ways to choose a scale: those of :data:`spikelfp.quantized.CLIPS` look at the weights alone; ``output`` takes
the scale of least squared error of the sums on given inputs."""

_COARSE = [2 ** (-step / 8) for step in range(81)]
_FINE = [2 ** (step / 32) for step in range(-3, 4)]


def free_scales(
    weight: Tensor, error: Error, clip: str, *, per_channel: bool, power_of_two: bool, what: str = "weights"
) -> Tensor:
    """The scales that nothing else constrains, float64 ``[1]``, or ``[C]``, one for each output channel.

    A channel that is all zero gets the largest scale of the others. power_of_two: rounded to ``2^e``.
    Raises :class:`~spikelfp.errors.UserError`, naming ``what``, for weights that are all zero or not finite.
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


def _least_error(weight: Tensor, error: Error, per_channel: bool) -> Tensor:
    """By search over factors of the scale that clips nothing: steps of 2^⅛ first, then of 2^(1/32) around the best.

    The error of a few weights has several valleys, so the search goes on around the three best.
    """
    top = weight.flatten(1).abs().amax(1).double() / largest(error.bits)
    top = torch.where(top > 0, top, top.max()) if per_channel else top.max().reshape(1)
    around = _best([top * factor for factor in _COARSE], error, 3)
    return _best([torch.minimum(own * factor, top) for own in around for factor in _FINE], error)[0]


def _best(candidates: list[Tensor], error: Callable[[Tensor], Tensor], count: int = 1) -> Tensor:
    """The ``count`` candidates of least error of each channel, ``[count, C]``, best first; or of all channels together
    where a candidate is one scale."""
    errors = torch.stack([error(scales) for scales in candidates])
    if len(candidates[0]) == 1:
        errors = errors.sum(1, keepdim=True)
    return torch.stack(candidates).gather(0, errors.argsort(dim=0, stable=True)[:count])
