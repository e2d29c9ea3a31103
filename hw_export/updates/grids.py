"""The grids that a recording keeps from its first step to its last."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_export.chain import leaves, pooled_areas
from hw_export.quantize import TIE_MARGIN, LayerReport, quantize
from hw_export.updates.image import LIMIT
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.quantized import Grid


def grids_of(
    net: torch.nn.Module, bits: int = 8, clip: str = "mse", *, headroom: float = 1.0, input_scale: int | None = None
) -> dict[str, Grid]:
    """A grid for every parameter of the chain ``net``, as :func:`hw_export.quantize` would choose it now.

    Weights have ``bits`` bits, range ``−(2^(bits−1) − 1) … 2^(bits−1) − 1``. Biases are counted in the unit of the sums
    of their layer, up to ±(2²⁴ − 1), kept in int32; behind average pooling, which chips and
    :class:`~hw_export.IntegerSimulator` make a sum, in that of the sum. With ``headroom=1`` the integers are those of
    ``quantize(net, bits, clip=clip, input_scale=input_scale)``, thresholds included.

    headroom: ``h ≥ 1``. Weights grow in training and stop at the ends of a grid, which stays as it is; scales ``h``
    times as long leave them room, at the price of coarser steps. Where neurons with a threshold of ``k`` steps follow,
    the scale becomes ``s (k + m) / (k' + m)`` with ``k' = round((k + m) / h − m)``, at least 1, and the margin ``m``
    of :func:`~hw_export.quantize`, so that the threshold stays a whole number of steps.

    Raises :class:`~spikelfp.errors.UserError` for what cannot be quantised, and for parameters other than weights and
    biases of ``Linear`` and ``Conv2d``.
    """
    if not 1 <= headroom < float("inf"):
        raise UserError(f"headroom is a factor of at least 1, got {headroom}")
    made = quantize(net, bits, clip=clip, input_scale=input_scale)
    if made.bits is None:
        raise UserError(f"a stream of updates holds integers of 2 to 16 bits, not {bits}")
    factor = made.input_scale or 1
    reports = {report.layer: report for report in made.report}
    grids: dict[str, Grid] = {}
    unit: float | Tensor = 1 / factor
    areas = pooled_areas(net)
    for name, layer in leaves(net):
        if name in reports:
            scale = _with_headroom(reports[name], headroom, factor)
            unit = unit * scale
            grids[f"{name}.weight"] = Grid.symmetric(scale, made.bits)
            if getattr(layer, "bias", None) is not None:
                flat = (unit.flatten() if isinstance(unit, Tensor) else unit) / areas[name]
                grids[f"{name}.bias"] = Grid(flat, 1 - LIMIT, LIMIT - 1)
            if reports[name].neurons is not None:
                factor = 1
        elif isinstance(layer, (nn.LIF, nn.Heaviside)):
            unit = 1.0
    for name, _ in net.named_parameters():
        if name not in grids:
            raise UserError(
                f"{name} has no form in integers: only weights and biases of Linear and Conv2d can be streamed"
            )
    return grids


def _with_headroom(report: LayerReport, headroom: float, factor: int) -> float | Tensor:
    """The scale of a layer, ``headroom`` times as long as far as its threshold allows."""
    if headroom == 1:
        return report.scale
    if report.threshold is None:
        return report.scale * headroom
    steps = report.threshold // factor
    compared = report.threshold + TIE_MARGIN
    fewer = max(1, round(compared / factor / headroom - TIE_MARGIN / factor))
    return report.scale * compared / (fewer * factor + TIE_MARGIN) if fewer < steps else report.scale
