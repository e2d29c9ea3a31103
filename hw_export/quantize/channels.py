"""One scale for each output channel, in sums of one unit: ``w ≈ unit · m · 2^e`` with a shift ``e`` of the channel.

Neurons compare sums with one threshold, and most simulators and several chips hold no other for each neuron. Scales
that differ by powers of two keep it so: the sums of all channels count the same unit, and a chip stores the mantissa
``m`` of a weight in its few bits and one small shift for each channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hw_export.quantize.error import Error
from spikelfp.errors import UserError
from spikelfp.functional.grid import check_bits, largest

LARGEST_SHIFT = 7
"""Shifts are numbers of three bits."""

_PHASES = 8
"""Units tried within a factor of two."""


def shifts_of(scales: Tensor, error: Error, clip: str, *, power_of_two: bool) -> tuple[float, Tensor]:
    """``(unit, e)``: the finest step, and the shift of each channel, int64 ``[C]`` from 0 to :data:`LARGEST_SHIFT`.

    scales: those the channels would have each by itself, ``[C]``. Of the two shifts next to a channel's own scale it
    gets the one of less error (``mse``, ``output``), the one that clips nothing (``max``), or the nearer one; the
    unit is the one of least error of the layer, of eight within a factor of two. power_of_two: ``scales`` are powers
    of two, and the unit is one.
    """
    top = scales.max().item() / 2**LARGEST_SHIFT
    units = [top] if power_of_two else [top * 2 ** (phase / _PHASES) for phase in range(_PHASES)]
    found = [(unit, _shifts(scales, unit, error, clip)) for unit in units]
    unit, shifts = min(found, key=lambda pair: error(pair[0] * pair[1].exp2()).sum().item())
    least = int(shifts.min())
    return unit * 2**least, shifts.long() - least


def _shifts(scales: Tensor, unit: float, error: Error, clip: str) -> Tensor:
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
    """Integer weights ``[C, …]`` as ``m · 2^e``: mantissas of ``bits`` signed bits, in the dtype of ``weight``, and the
    shift of each output channel, int64 ``[C]``, the least that does.

    Raises :class:`~spikelfp.errors.UserError` for weights that are not whole numbers, or have no such mantissas.
    """
    limit = largest(check_bits(bits))
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
