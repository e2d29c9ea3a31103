"""From a trained network to one that computes in integers."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor

from hw_export.chain import leaves
from hw_export.neurons import lowered
from hw_export.quantize.bounds import EXACT
from hw_export.quantize.fold import fold_batchnorm, fold_scales
from hw_export.quantize.network import QuantizedNetwork
from hw_export.quantize.rates import compare, rate_notes, refuse_silenced
from hw_export.quantize.scale import CLIPS
from hw_export.quantize.threshold import TIE_MARGIN
from hw_export.quantize.trained import as_floats, has_grids, is_trained, snap
from hw_export.quantize.walk import Scheme, Walk
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.grid import check_bits
from spikelfp.options import one_of, other_than, setting
from spikelfp.registry import check_name

FLOAT = 32
"""Bits of a weight that stays a float."""
CHOSEN = other_than("bits", FLOAT, f"weights of fewer --bits than {FLOAT}")


@dataclass(frozen=True)
class QuantizeOptions:
    """How the weights of a trained run become whole numbers: options of :func:`quantize`, and of what it is shown."""

    bits: int | None = setting(
        None, f"bits of a weight, or {FLOAT} for floats", automatic="as trained, else the target's", within="[1, ∞)"
    )
    clip: str = setting("mse", "how scales are chosen", names=CLIPS, owner=CHOSEN)
    per_channel: bool = setting(False, "a scale for each output channel", owner=CHOSEN)
    power_of_two: bool = setting(False, "scales that are powers of two", owner=CHOSEN)
    calibration: int = setting(
        512, "samples of the training set by whose sums scales are chosen", within="[1, ∞)",
        owner=one_of("clip", ("output",)),
    )  # fmt: skip


@torch.no_grad()
def quantize(
    net: torch.nn.Module,
    bits: int | None = 8,
    *,
    clip: str = "mse",
    per_channel: bool = False,
    power_of_two: bool = False,
    calibration: Tensor | None = None,
    input_scale: int | None = None,
    tie_margin: float = TIE_MARGIN,
    fine_biases: bool = True,
) -> QuantizedNetwork:
    """A copy of ``net``, a chain of :mod:`spikelfp.nn` layers, that computes in integers.

    Each layer of weights has one scale ``s``; its weights become ``round(w / s)``, at most ``2^(bits−1) − 1``
    in magnitude, its bias an integer in the unit of its sums, and the neurons behind it get the integer
    threshold ``n = θ / s``: ``s`` is moved a little from its best value so that the threshold is hit and
    stays θ in real terms. Neurons with thresholds of their own get an integer threshold each, ``round(θ / s)``; the
    largest relative error of these is the ``threshold_error`` of the report. Spikes, decay and reset are untouched, so
    the copy is an ordinary network of float32 tensors. Neurons that are LIF neurons in other words become those
    (:func:`hw_export.neurons.lowered`), and a BatchNorm is folded into the layer in front of it
    (:func:`fold_batchnorm`), first.

    The copy compares with ``n + tie_margin``. For a sum of integers that is the same as ``> n``. But with the
    bare integer (``tie_margin=0``) a decayed membrane often *equals* the threshold, or creeps up to it, and then
    the last bit of ``βU`` decides, which differs between simulators; ``n + 49/128`` it does not meet.

    bits: 2 to 16, or 32 for a copy in floats. ``None``: those a network was trained with, or floats. Layers that were
    trained with quantised weights (:mod:`spikelfp.quantized`) keep exactly the integers, the scale and the threshold
    they were trained with, whatever is said below; other ``bits`` than theirs are refused.

    clip: ``mse``, the scale of least squared error, ``max``, the finest that clips no weight, ``mean`` and
    ``percentile`` (:mod:`spikelfp.quantized`), or ``output``, the scale of least squared error of the sums,
    ``E|(W − Ŵ) x|²``, on the ``calibration`` inputs as they arrive through the quantised layers in front.
    per_channel: a scale ``s · 2^e`` for each output channel, ``e`` from 0 to 7. Its integers are mantissas of ``bits``
    bits times ``2^e``: the sums of all channels have one unit, and the threshold stays one number.
    power_of_two: scales are powers of two. The threshold is then rounded to a whole number of steps, and its real value
    changes by what the report gives as ``threshold_error``.
    calibration: inputs of ``net``, ``[T, B, …]``, some hundreds of samples. With them it is also checked that no layer
    was silenced.
    input_scale: ``σ`` such that ``x · σ`` are integers for all
    inputs (255 for 8-bit pixels in [0, 1], 1 for spikes); the copy then takes the integers ``x · σ``, its
    first threshold and bias are multiplied by ``σ``, and every sum is exact in float32, whatever its order.
    Where sums could reach 2^24 that cannot be promised: the copy takes ``x`` instead and says so in its
    ``notes``.
    fine_biases: biases trained in steps finer than those of weights stay exact; the integers of such a layer are then
    multiplied by a power of two, 64 as a rule. ``False`` rounds the biases instead, for chips without that width.

    Raises :class:`~spikelfp.errors.UserError` naming the layer whose weights are all zero or not finite, whose
    threshold would round to 0, or whose neurons fire in ``net`` but not in the copy; for a BatchNorm that cannot be
    folded; and for options out of range.
    """
    check_name("clip", clip, CLIPS)
    if bits not in (None, FLOAT):
        check_bits(bits)
    if calibration is not None:
        if calibration.dim() < 3 or not calibration.numel():
            raise ShapeError(f"calibration inputs are some [T, B, …], got shape {tuple(calibration.shape)}")
        if not calibration.isfinite().all():
            raise UserError("the calibration inputs hold NaN or infinity")
    made = _copy(net, bits)
    if bits == FLOAT or (bits is None and not has_grids(made)):
        return made
    if clip == "output" and calibration is None:
        raise UserError("clip='output' looks at the sums: hand in calibration inputs [T, B, …] of the network")
    if input_scale is not None and not (1 <= input_scale < math.inf and input_scale == int(input_scale)):
        raise UserError(f"input_scale must be a whole number of at least 1, got {input_scale}")
    if not 0 <= tie_margin < 1:
        raise UserError(f"tie_margin must lie in [0, 1), got {tie_margin}")
    made.input_scale = None if input_scale is None else int(input_scale)
    scheme = Scheme(None if bits is None else int(bits), clip, per_channel, power_of_two, tie_margin, fine_biases)
    all_trained = is_trained(made)
    walk = Walk(made, scheme, made.input_scale, None if calibration is None else made.scaled(calibration))
    if made.input_scale is not None and walk.input_sum >= EXACT:
        without = quantize(
            net, bits, clip=clip, per_channel=per_channel, power_of_two=power_of_two, calibration=calibration,
            tie_margin=tie_margin, fine_biases=fine_biases,
        )  # fmt: skip
        without.notes += (
            f"inputs are not scaled to integers: the sums of the first layer could reach {walk.input_sum:.0f}, "
            f"and float32 is exact below 2^24 = {EXACT} only",
        )
        return without
    made.bits = max(layer.bits for layer in walk.report) if walk.report else scheme.bits
    made.clip = "trained" if all_trained else clip
    made.report, made.notes = tuple(walk.report), tuple(walk.notes)
    if calibration is not None:
        rates = compare(net, made, calibration).rates
        refuse_silenced(rates, made.bits, made.clip)
        made.notes += rate_notes(rates)
    return made


def _copy(net: torch.nn.Module, bits: int | None) -> QuantizedNetwork:
    """``net`` in float32 on the CPU, BatchNorm folded; with ``bits`` of 32 in floats, whatever it was trained with."""
    known = lowered(net)
    leaves(known)
    twin = copy.deepcopy(known).eval().requires_grad_(False)
    snap(twin)
    if bits == 32:
        as_floats(twin)
    assert isinstance(twin, torch.nn.Sequential)
    twin = fold_batchnorm(twin)
    if bits not in (None, 32) or known is not net:
        twin = fold_scales(twin)
    twin = twin.to("cpu", torch.float32)
    return QuantizedNetwork(OrderedDict(twin.named_children())).eval()
