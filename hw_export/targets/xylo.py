"""SynSense's Xylo: the specification from which rockpool makes a configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from hw_export.integer.arithmetic import Arithmetic, code_of
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerDense, IntegerNetwork, spread
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.limits import (
    BiasRange,
    Blocks,
    EventsPerStep,
    InputCount,
    Kinds,
    Limit,
    Thresholds,
    Violation,
    WeightRange,
    above,
    below,
)
from hw_export.targets.outline import check_codes, read_arrays, rebuild, write_arrays
from spikelfp.errors import DataError

FILE = "xylo.npz"
_BIASES = (("hidden", "threshold"), ("out", "threshold_out"))
SYNAPSE = 1
"""Bit shift of the decay of a current: the shortest that lets it through (0 clears a current before it is used)."""


@dataclass(frozen=True)
class Sizes(Limit):
    """Sizes of the hidden population and of the readout, and connections among hidden neurons.

    Attributes:
        hidden: most hidden neurons.
        outputs: most readout neurons.
        fan_in: most hidden neurons that take inputs.
        fan_out: most hidden neurons that feed the readout.
        each: most connections from one hidden neuron to hidden neurons.
        all: most connections between hidden neurons.
    """

    hidden: int
    outputs: int
    fan_in: int
    fan_out: int
    each: int
    all: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        dense = [layer for layer in network.products if isinstance(layer, IntegerDense)]
        yield from below(None, "layers of weights", len(dense), 2, "one of them to the readout")
        if len(dense) < 2 or len(dense) != len(network.products):
            return
        *hidden, readout = dense
        yield from above(None, "hidden neurons", sum(layer.weight.shape[0] for layer in hidden), self.hidden)
        yield from above(readout.name, "readout neurons", readout.weight.shape[0], self.outputs)
        yield from above(hidden[0].name, "neurons that take inputs", hidden[0].weight.shape[0], self.fan_in)
        yield from above(readout.name, "neurons that feed the readout", readout.weight.shape[1], self.fan_out)
        used = [layer.weight != 0 for layer in hidden[1:]]
        for layer, connected in zip(hidden[1:], used, strict=True):
            most = int(connected.sum(0).max())
            yield from above(layer.name, "connections from one hidden neuron", most, self.each, "set weights to 0")
        total = sum(int(connected.sum()) for connected in used)
        yield from above(None, "connections among hidden neurons", total, self.all, "set weights to 0")

    def __str__(self) -> str:
        return (
            f"{self.hidden:,} hidden neurons ({self.fan_in:,} take inputs, {self.fan_out:,} feed the readout), "
            f"{self.each:,} connections from each to others and {self.all:,} in all, {self.outputs} readout neurons"
        )


LIMITS: tuple[Limit, ...] = (
    Kinds((IntegerDense,)),
    Blocks(),
    WeightRange(-128, 127),
    BiasRange(-(2**15), 2**15 - 1),
    Thresholds(2**15 - 1),
    InputCount(16),
    EventsPerStep(15),
)
"""Limits of every Xylo."""


@TARGETS.register("xylo")
class Xylo(Chip):
    """Xylo: arguments of rockpool's ``config_from_specification(**spec)``, whole numbers, in the file ``xylo.npz``.

    The arrays are ``weights_in`` ``[in, hidden of the first layer, 1]``; ``weights_rec`` ``[hidden, hidden, 1]``, a
    block for each further hidden layer; ``weights_out`` ``[hidden, out]``, with rows of 0 for all hidden neurons but
    those of the last layer; ``dash_mem``, ``dash_syn``, ``threshold`` and ``bias_hidden`` ``[hidden]``; and for the
    readout ``dash_mem_out``, ``dash_syn_out``, ``threshold_out`` and ``bias_out`` ``[out]``.

    Membranes of 16 bits decay by a bit shift, ``V ← V − (V >> k)``, and fire at ``V ≥ θ``, which is taken off, up to
    31 times in a step (neurons of the readout once). The synaptic current of a neuron is halved in each step before it
    is added (``dash_syn`` 1, the shortest there is), so half of a spike arrives in its step, a quarter in the next.

    xylosim limits the current at every spike that is added to it, in order. Here it is limited once a step, which
    differs only where the current leaves its 16 bits within a step.
    """

    summary: ClassVar[str] = "SynSense Xylo: specification for rockpool (npz), 8-bit weights, bit-shift decay"
    bits: ClassVar[tuple[int, ...]] = tuple(range(2, 9))
    per_neuron: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "rockpool docs/devices/xylo-overview.ipynb, quick-xylo/deploy_to_xylo.ipynb: sizes, widths, decay, reset",
        "rockpool devices/xylo/syns61201/xylo_samna.py: config_from_specification",
        "xylosim 0.1.3, v2: order of a step, spike at >= threshold, 31 and 1 spikes a step",
    )
    energy = EnergyModel(
        taken="nothing per operation; keyword spotting takes 291 µW besides idle power, 6.6 µJ per inference",
        source="H. Bos and D. R. Muir, Micro-power spoken keyword spotting on Xylo Audio 2, 2024, arXiv:2406.15112",
    )
    arithmetic = Arithmetic(
        16,
        decay="shift",
        decay_bits=4,
        fires=">=",
        resets=frozenset({"immediate"}),
        most_spikes=31,
        last_spikes=1,
        latency=1,
        synapse=SYNAPSE,
    )

    limits = (*LIMITS, Sizes(hidden=1000, outputs=8, fan_in=1000, fan_out=1000, each=64, all=32_000))

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        *hidden, readout = [layer.weight.numpy().T for layer in network.products]
        biases = [layer.bias.numpy() for layer in network.products]
        sizes = [weight.shape[1] for weight in hidden]
        total = sum(sizes)
        recurrent = np.zeros((total, total, 1), dtype=np.int8)
        for weight, (first, second) in zip(hidden[1:], pairwise(_spans(sizes)), strict=True):
            recurrent[first, second, 0] = weight
        out = np.zeros((total, readout.shape[1]), dtype=np.int8)
        out[_spans(sizes)[-1]] = readout
        each = list(zip(network.neurons, [(size,) for size in (*sizes, readout.shape[1])], strict=True))
        dash = [spread(code_of(layer, self.arithmetic, shape), shape).numpy() for layer, shape in each]
        threshold = [spread(layer.threshold, shape).numpy() for layer, shape in each]
        spec: dict[str, np.ndarray] = {
            "weights_in": hidden[0][:, :, None].astype(np.int8),
            "weights_rec": recurrent,
            "weights_out": out,
            "dash_mem": np.concatenate(dash[:-1]),
            "dash_mem_out": dash[-1],
            "dash_syn": np.full(total, SYNAPSE),
            "dash_syn_out": np.full(readout.shape[1], SYNAPSE),
            "threshold": np.concatenate(threshold[:-1]),
            "threshold_out": threshold[-1],
            "weight_shift_in": np.array(0),
            "weight_shift_rec": np.array(0),
            "weight_shift_out": np.array(0),
        }
        if any(bias.any() for bias in biases):
            spec |= {"bias_hidden": np.concatenate(biases[:-1]), "bias_out": biases[-1]}
        return spec

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        write_arrays(folder / FILE, self.prepare(network))

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        spec = read_arrays(folder / FILE)
        dense = [layer for layer in facts["layers"] if layer["kind"] == "dense"]
        neurons = [layer for layer in facts["layers"] if layer["kind"] == "neurons"]
        spans = _spans([math.prod(layer["shape"]) for layer in dense[:-1]])
        weights = [spec["weights_in"][:, :, 0]]
        weights += [spec["weights_rec"][first, second, 0] for first, second in pairwise(spans)]
        weights.append(spec["weights_out"][spans[-1]])
        none = {f"bias_{part}": np.zeros_like(spec[of]) for part, of in _BIASES}
        spec = none | spec
        tensors: dict[str, torch.Tensor] = {}
        codes: dict[str, np.ndarray] = {}
        for index, (product, layer) in enumerate(zip(dense, neurons, strict=True)):
            last = index == len(spans)
            span = slice(None) if last else spans[index]
            tensors[f"{product['name']}.weight"] = torch.from_numpy(weights[index].T.copy())
            tensors[f"{product['name']}.bias"] = torch.from_numpy(spec["bias_out" if last else "bias_hidden"][span])
            tensors[f"{layer['name']}.threshold"] = torch.from_numpy(
                spec["threshold_out" if last else "threshold"][span]
            )
            codes[layer["name"]] = spec["dash_mem_out" if last else "dash_mem"][span]
        if any((spec[name] != SYNAPSE).any() for name in ("dash_syn", "dash_syn_out")):
            raise DataError(f"the currents decay by another shift than {SYNAPSE}")
        network = rebuild(facts, tensors)
        check_codes(network, self.arithmetic, codes)
        return network

    def notes(self, network: IntegerNetwork) -> list[str]:
        return [
            *super().notes(network),
            "the current of a spike reaches the membrane over several steps: a half, a quarter, an eighth, …",
            "a readout neuron fires once in a step at most",
        ]


@TARGETS.register("xylo-a3")
class XyloA3(Xylo):
    """Xylo A3: more neurons in the readout, and fewer that take inputs; files and arithmetic are those of Xylo."""

    summary: ClassVar[str] = "SynSense Xylo A3: as xylo, 992 hidden neurons of which 128 take inputs, 32 in the readout"
    limits = (*LIMITS, Sizes(hidden=992, outputs=32, fan_in=128, fan_out=128, each=1024, all=31_744))


def _spans(sizes: list[int]) -> list[slice]:
    """Ranges of the hidden layers in the hidden population."""
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(first, last) for first, last in pairwise(ends)]
