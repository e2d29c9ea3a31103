"""An image as a network that runs: for simulators and exports that start from a recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hw_export.layers import pooled_areas
from hw_export.quantize import TIE_MARGIN, LayerReport, QuantizedNetwork, quantize
from hw_export.updates.image import IntegerImage
from spikelfp import nn
from spikelfp.errors import UserError

_OFF = 1e-3
"""Steps by which a threshold may miss a whole number of them."""


@torch.no_grad()
def quantized(net: torch.nn.Module, image: IntegerImage, *, input_scale: int | None = None) -> QuantizedNetwork:
    """``net`` with the integers of ``image`` and the whole thresholds that go with its grids.

    With grids of :func:`grids_of` at ``headroom=1`` and the weights it saw, this is
    ``quantize(net, bits, input_scale=input_scale, fine_biases=False)``; with headroom, its scales and thresholds are
    the recording's. What follows a stream must start from here: the integers mean something with these thresholds
    alone. input_scale: the one the grids were chosen for (``about["input_scale"]`` of a stream of ``hw-export updates
    record``). The report has no bound on sums, because the weights are going to change.

    Raises :class:`~spikelfp.errors.UserError` for an image of another network or other bits, with a scale for each
    channel, or with grids on which a threshold is no whole number of steps.
    """
    tops = {p.grid.high for p in image.parameters if p.name.endswith(".weight")}
    bits = next(iter(tops)).bit_length() + 1 if len(tops) == 1 else 0
    if bits < 2 or tops != {2 ** (bits - 1) - 1}:
        raise UserError(f"weights on grids up to {', '.join(map(str, sorted(tops)))} are no layers of the same bits")
    made = quantize(net, bits, input_scale=input_scale, fine_biases=False)
    own, areas = dict(made.named_parameters()), pooled_areas(net)
    for p in image.parameters:
        if p.name not in own or tuple(own[p.name].shape) != p.shape:
            raise UserError(f"the network has no parameter {p.name} of shape {p.shape}")
        area = areas[p.name.rpartition(".")[0]] if p.name.endswith(".bias") else 1
        own[p.name].copy_(torch.from_numpy(image.arrays[p.name].astype(np.float64) / area))
    made.report = tuple(_report(made, net, report, image) for report in made.report)
    return made


def _report(made: QuantizedNetwork, net: torch.nn.Module, report: LayerReport, image: IntegerImage) -> LayerReport:
    """Make the report of a layer with the grid of the image; the threshold behind it is set to match."""
    layer = net.get_submodule(report.layer)
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    live = layer.weight
    name = f"{report.layer}.weight"
    grid = image.grids[name]
    if isinstance(grid.scale, Tensor):
        raise UserError(f"{name} has a scale for each channel: an image to be run needs one for the layer")
    if report.threshold is not None and not isinstance(report.threshold, int):
        raise UserError(f"the neurons behind {name} have thresholds of their own: an image to be run needs one for all")
    threshold = report.threshold
    if report.neurons is not None and threshold is not None:
        lif = made.get_submodule(report.neurons)
        assert isinstance(lif, nn.LIF)
        compared = lif.threshold * report.scale / grid.scale
        threshold = int(compared)
        if layer.grid is None:  # one that was trained on a grid keeps the part of a step that its threshold has
            wanted, compared = compared - TIE_MARGIN, threshold + TIE_MARGIN
            if threshold < 1 or abs(wanted - threshold) > _OFF:
                raise UserError(f"the threshold behind {name} is {wanted:.3f} of its steps: choose grids with grids_of")
        lif.constants = replace(lif.constants, threshold=float(np.float32(compared)))
    weight, bias = image.arrays[name], image.arrays.get(f"{report.layer}.bias")
    error = (live - grid.to_real(torch.from_numpy(weight.astype(np.int32)).to(live))).square().sum(dtype=torch.float64)
    return replace(
        report,
        scale=grid.scale,
        threshold=threshold,
        max_weight=int(np.abs(weight.astype(np.int32)).max()),
        max_bias=0 if bias is None else int(np.abs(bias).max()),
        squared_error=error.item(),
        relative_error=(error / live.square().sum(dtype=torch.float64)).item(),
        zero_fraction=float((weight == 0).mean()),
        largest_sum=None,
        exact=False,
    )
