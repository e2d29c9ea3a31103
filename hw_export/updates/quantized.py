"""Grids that a recording keeps from its first step to its last, and an image as a quantised network that runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hw_export.layers import leaves, pooled_areas
from hw_export.quantize import TIE_MARGIN, LayerReport, QuantizedNetwork, quantize
from hw_export.quantize.prepare import is_trained
from hw_export.updates.content import LIMIT, IntegerImage, check_image
from spikelfp import checks, nn
from spikelfp.errors import UserError
from spikelfp.quantized import CLIPS, Grid
from spikelfp.registry import check_name

BITS = 8
"""Bits of a weight by default, for a network that was trained in floats."""


def grids_of(
    net: torch.nn.Module,
    bits: int | None = None,
    clip: str = "mse",
    *,
    headroom: float = 1.0,
    input_scale: int | None = None,
) -> dict[str, Grid]:
    """Choose a grid for every parameter of a chain of layers, as :func:`hw_export.quantize` would choose it now.

    Weights range over ``−(2^(bits−1) − 1) … 2^(bits−1) − 1``. Biases are counted in the unit of the sums of their
    layer, up to ±(2²⁴ − 1), and kept in int32. Average pooling becomes a sum on chips and in
    :class:`~hw_export.IntegerSimulator`; biases after it are counted in the unit of that sum.

    With ``headroom=1`` integers and thresholds are those of
    ``quantize(net, bits, clip=clip, input_scale=input_scale, fine_biases=False)``. A network that was trained with
    quantised weights begins with the integers that it computes with. Its biases may have been trained in finer steps:
    they are rounded to whole steps of the sums, and may differ by one from those of ``quantize``, which rounds twice.

    Args:
        net: chain of ``Linear``, ``Conv2d``, pooling and neurons.
        bits: of a weight, 2 to 16; by default those of the training, else :data:`BITS`.
        clip: how scales are chosen, one of :data:`spikelfp.quantized.CLIPS`.
        headroom: factor ``h ≥ 1`` on the scales. Weights that grow in training stop at the ends of their grid, which
            stays as it is; longer scales leave them room, and make the steps coarser. Where neurons with a threshold of
            ``k`` steps follow, the scale ``s`` becomes ``s (k + m) / (k' + m)`` with
            ``k' = max(1, round((k + m) / h − m))`` and the margin ``m`` of :func:`~hw_export.quantize`, so that the
            threshold stays a whole number of steps.
        input_scale: ``σ`` where the receiver's inputs are the whole numbers ``x · σ`` (255 for 8-bit pixels). Biases of
            the first layer are then in units of the scale of its weights divided by σ.

    Returns:
        Grids by name of the parameter.

    Raises:
        UserError: for a network that cannot be quantised, options out of range, and parameters other than weights and
            biases of ``Linear`` and ``Conv2d``.
    """
    return grids_like(net, integers_of(net, bits, clip, input_scale), headroom)


def integers_of(net: torch.nn.Module, bits: int | None, clip: str, input_scale: int | None) -> QuantizedNetwork:
    """Quantise a network to the integers from which :func:`grids_of` starts.

    Args:
        net: as for :func:`grids_of`.
        bits: as for :func:`grids_of`.
        clip: as for :func:`grids_of`.
        input_scale: as for :func:`grids_of`.

    Returns:
        The quantised network; its ``input_scale`` is ``None`` where sums of such large inputs would not be exact.

    Raises:
        UserError: for a network that cannot be quantised, and options out of range.
    """
    check_name("clip", clip, CLIPS)
    if bits is None and not is_trained(checks.network(net)):
        bits = BITS
    made = quantize(net, bits, clip=clip, input_scale=input_scale, fine_biases=False)
    if made.bits is None:
        raise UserError(f"a stream of updates holds integers of 2 to 16 bits, not {bits}")
    return made


def grids_like(net: torch.nn.Module, made: QuantizedNetwork, headroom: float = 1.0) -> dict[str, Grid]:
    """Choose the grids on which a network has the integers of a quantised one.

    Args:
        net: the network.
        made: its quantised form, of :func:`integers_of`.
        headroom: factor on the scales, as for :func:`grids_of`.

    Returns:
        Grids by name of the parameter.

    Raises:
        UserError: for a headroom below 1, and parameters that have no form in integers.
    """
    assert made.bits is not None
    headroom = checks.number("headroom", headroom)
    if headroom < 1:
        raise UserError(f"headroom is a factor of at least 1, got {headroom}")
    owners: dict[int, str] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        if owners.setdefault(id(parameter), name) != name:
            raise UserError(
                f"{owners[id(parameter)]} and {name} are one parameter, and a stream has integers of a scale of its "
                "own for each layer: give each layer its own"
            )
    factor = made.input_scale or 1
    reports = {report.layer: report for report in made.report}
    grids: dict[str, Grid] = {}
    unit: float | Tensor = 1 / factor
    areas = pooled_areas(net)
    for name, layer in leaves(net):
        if name in reports:
            scale = _with_headroom(made, reports[name], headroom, factor)
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


def _with_headroom(made: QuantizedNetwork, report: LayerReport, headroom: float, factor: int) -> float | Tensor:
    """Scale of a layer, ``headroom`` times as long as far as the threshold stays a whole number of steps."""
    if headroom == 1:
        return report.scale
    if report.threshold is None or report.neurons is None:
        return report.scale * headroom
    if not isinstance(report.threshold, int):
        raise UserError(
            f"the neurons {report.neurons!r} have thresholds of their own, and headroom makes one longer step for all: "
            "leave headroom at 1"
        )
    steps = report.threshold // factor
    neurons = made.get_submodule(report.neurons)
    assert isinstance(neurons, nn.LIF)
    compared = neurons.threshold
    fewer = max(1, round(compared / factor / headroom - TIE_MARGIN / factor))
    return report.scale * compared / (fewer * factor + TIE_MARGIN) if fewer < steps else report.scale


_OFF = 1e-3
"""Steps by which a threshold may differ from a whole number of steps."""


@torch.no_grad()
def quantized(net: torch.nn.Module, image: IntegerImage, *, input_scale: int | None = None) -> QuantizedNetwork:
    """Build the quantised network with the integers of an image and the whole thresholds that go with its grids.

    A target that follows a stream must start from this network, because the integers need these thresholds. With the
    grids of :func:`grids_of` at ``headroom=1``, and the weights from which they were chosen, it is
    ``quantize(net, bits, input_scale=input_scale, fine_biases=False)``. With headroom it has the longer scales of the
    recording and thresholds that match.

    Args:
        net: the network that was recorded.
        image: integers of one of its steps.
        input_scale: the one for which the grids were chosen; ``about["input_scale"]`` in the header of a stream of
            ``hw-export updates record``.

    Returns:
        The network. Its report has no bound on sums, because the weights are going to change.

    Raises:
        UserError: for an image of another network or of other bits, with a scale for each channel, or with grids on
            which a threshold is no whole number of steps.
    """
    check_image("image", image)
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
    """Make the report of a layer with the grid of the image, and set the threshold of its neurons to match."""
    layer = net.get_submodule(report.layer)
    assert isinstance(layer, (nn.Linear, nn.Conv2d))
    live = layer.weight
    name = f"{report.layer}.weight"
    grid = image.grids[name]
    if isinstance(grid.scale, Tensor):
        raise UserError(f"{name} has a scale for each channel: an image to be run needs one for the layer")
    if report.threshold is not None and not isinstance(report.threshold, int):
        raise UserError(f"the neurons after {name} have thresholds of their own: an image to be run needs one for all")
    threshold = report.threshold
    if report.neurons is not None and threshold is not None:
        lif = made.get_submodule(report.neurons)
        assert isinstance(lif, nn.LIF)
        compared = lif.threshold * report.scale / grid.scale
        threshold = int(compared)
        if layer.grid is None:  # a layer that was trained on a grid keeps a threshold between two steps
            wanted, compared = compared - TIE_MARGIN, threshold + TIE_MARGIN
            if threshold < 1 or abs(wanted - threshold) > _OFF:
                raise UserError(f"the threshold after {name} is {wanted:.3f} of its steps: choose grids with grids_of")
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
