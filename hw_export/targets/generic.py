"""Generic target for any chip or simulator of multiply-decay neurons in whole numbers: arrays, and facts in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerConv, IntegerDense, IntegerNetwork, IntegerPool
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.limits import Kinds, Limit, OneDecay, Thresholds
from hw_export.targets.outline import check_codes, read_arrays, rebuild, write_arrays
from spikelfp import checks
from spikelfp.functional.lif import Reset
from spikelfp.nn.delay import LONGEST

FILE = "network.npz"

_ADD, _MULTIPLY, _CACHE_LINE = 0.1, 3.1, 10.0
"""Picojoule (Horowitz 2014): an addition and a multiplication in 32 bits, and 8 bytes from a memory of 8 kB."""


@TARGETS.register("generic")
class Generic(Chip):
    """Arrays of whole numbers by name, for any chip or simulator.

    ``network.npz`` holds for each layer of weights ``<layer>.weight`` (int8, or wider where needed; ``[out, in]`` or
    ``[out, in / groups, height, width]`` as in PyTorch) and ``<layer>.bias`` (int64), and for each layer of neurons
    ``<layer>.threshold`` and ``<layer>.decay`` (int64; one number, one for each channel or one for each neuron).
    ``network.yaml`` names the layers in the order they run, and holds their ``delays`` in steps: of a layer ``delay``
    one for all inputs, for each channel or for each input; of a layer ``taps`` those of the copies of all inputs, side
    by side, which the weights ``[out, taps · in]`` after it take.

    A neuron decays as ``V (2^12 − d) / 2^12`` rounded toward 0, adds its sum and fires above its threshold, both in
    steps of ``2^-shift`` of a weight.

    Args:
        state_bits: bits of a membrane, which saturates
        shift: bits by which sums and thresholds are shifted left in a membrane
        one_decay: take networks whose neurons share one beta only
    """

    summary: ClassVar[str] = "arrays of whole numbers (npz) and facts (YAML), for any chip or simulator of your own"
    bits: ClassVar[tuple[int, ...]] = tuple(range(2, 17))
    per_neuron: ClassVar[bool] = True
    energy = EnergyModel(
        synaptic_operation_pj=_ADD,
        membrane_update_pj=_MULTIPLY + 3 * _ADD,  # decay; current, comparison (a subtraction) and reset
        spike_pj=0.0,
        memory_byte_pj=_CACHE_LINE / 8,
        taken="arithmetic in 32 bits and a memory of 8 kB, 45 nm, 0.9 V, without control and clock; a spike costs the "
        "bytes that it touches",
        source="M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, pp. 10-14, "
        "doi:10.1109/ISSCC.2014.6757323",
    )

    def __init__(self, state_bits: int = 32, shift: int = 6, one_decay: bool = False) -> None:
        self.state_bits, self.shift, self.one_decay = state_bits, shift, checks.truth("one_decay", one_decay)
        resets: frozenset[Reset] = frozenset({"zero", "subtract", "immediate"})
        self.arithmetic = Arithmetic(state_bits, shift=shift, resets=resets, delays=LONGEST)
        self.limits: tuple[Limit, ...] = (
            Kinds((IntegerDense, IntegerConv, IntegerPool), maximum=True),
            Thresholds(self.arithmetic.high >> shift),
        )
        if one_decay:
            self.limits += (OneDecay(),)

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        largest = max(int(layer.weight.abs().max()) for layer in network.products)
        width = torch.int8 if largest < 2**7 else torch.int16 if largest < 2**15 else torch.int32
        arrays: dict[str, np.ndarray] = {
            name: (tensor.to(width) if name.endswith(".weight") else tensor).numpy()
            for name, tensor in network.parameters().items()
        }
        for layer in network.neurons:
            arrays[f"{layer.name}.threshold"] = layer.threshold.numpy()
            arrays[f"{layer.name}.decay"] = code_of(layer, self.arithmetic, network.shape_of(layer)).numpy()
        return arrays

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        write_arrays(folder / FILE, self.prepare(network))

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        arrays = read_arrays(folder / FILE)
        network = rebuild(facts, {name: torch.from_numpy(array) for name, array in arrays.items()})
        check_codes(network, self.arithmetic, {layer.name: arrays[f"{layer.name}.decay"] for layer in network.neurons})
        return network
