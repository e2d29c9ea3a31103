"""SpiNNaker2, as py-spinnaker2 takes networks: populations, and lists of connections between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import (
    IntegerConv,
    IntegerDense,
    IntegerFlatten,
    IntegerLayer,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    spread,
)
from hw_export.targets.base import TARGETS, Chip, adapted
from hw_export.targets.files import read_arrays, read_facts, rebuild, write_arrays, write_facts
from hw_export.targets.limits import Blocks, Events, Kinds, Limit, Thresholds, Violation, Weights, above
from spikelfp.errors import DataError

MOST = 2**26
"""Entries of the largest dense matrix that is made."""


def unrolled(network: IntegerNetwork) -> IntegerNetwork:
    """Makes a network of dense layers and neurons: what lies between two layers of neurons becomes one matrix.

    Sums of windows are part of the matrix; per-channel thresholds become one for each neuron. Returned as it is: a
    network with other layers (max-pooling, two layers of weights in a row), or whose matrices would be too large.
    """
    layers: list[IntegerLayer] = []
    waiting: list[IntegerLayer] = []
    features = math.prod(network.input_shape)
    shape = network.input_shape
    for layer, out in zip(network.layers, network.shapes, strict=True):
        if not isinstance(layer, IntegerLIF):
            waiting.append(layer)
            continue
        products = [one for one in waiting if isinstance(one, (IntegerDense, IntegerConv))]
        most = features * math.prod(out)
        if (
            len(products) != 1
            or most > MOST
            or any(isinstance(one, IntegerPool) and one.kind == "max" for one in waiting)
        ):
            return network
        layers += [_matrix(products[0], waiting, shape), _each(layer, out)]
        waiting, features, shape = [], math.prod(out), out
    if waiting:
        return network
    shapes = tuple(
        (int(layer.weight.shape[0]),) for layer in layers[::2] if isinstance(layer, IntegerDense) for _ in range(2)
    )
    flat = (math.prod(network.input_shape),)
    return IntegerNetwork(tuple(layers), network.bits, network.input_scale, flat, shapes)


def _each(layer: IntegerLIF, shape: tuple[int, ...]) -> IntegerLIF:
    """Neurons in a row: one constant for a layer as it is, others as one for each neuron."""
    beta = spread(layer.beta, shape) if isinstance(layer.beta, torch.Tensor) else layer.beta
    return replace(
        layer, beta=beta, threshold=spread(layer.threshold, shape) if layer.threshold.dim() else layer.threshold
    )


def _matrix(product: IntegerDense | IntegerConv, between: list[IntegerLayer], shape: tuple[int, ...]) -> IntegerDense:
    """One dense layer for ``between``: as it is, or by running it on every single input."""
    if isinstance(product, IntegerDense) and not any(isinstance(layer, IntegerPool) for layer in between):
        return product
    features = math.prod(shape)
    columns = []
    for first in range(0, features, 256):
        count = min(256, features - first)
        single = torch.zeros(count, features)
        single[torch.arange(count), first + torch.arange(count)] = 1
        columns.append(_run(between, single.reshape(count, *shape), False))
    bias = _run(between, torch.zeros(1, *shape), True)[0]
    return IntegerDense(product.name, torch.cat(columns).T.contiguous().to(torch.int32), bias.to(torch.int64))


def _run(layers: list[IntegerLayer], values: Tensor, biased: bool) -> Tensor:
    """Runs ``layers`` on ``values`` in float64, which is exact below 2^53, flattened; with or without biases."""
    values = values.double()
    for layer in layers:
        if isinstance(layer, IntegerFlatten):
            values = values.flatten(1)
        elif isinstance(layer, IntegerPool):
            values = torch.nn.functional.avg_pool2d(values, layer.kernel, layer.stride, divisor_override=1)
        elif isinstance(layer, IntegerDense):
            bias = layer.bias.double() if biased else None
            values = torch.nn.functional.linear(values, layer.weight.double(), bias)
        elif isinstance(layer, IntegerConv):
            bias = layer.bias.double() if biased else None
            values = torch.nn.functional.conv2d(
                values, layer.weight.double(), bias, layer.stride, layer.padding, layer.dilation, layer.groups
            )
    return values.flatten(1)


EACH = 256
FILE, POPULATIONS = "connections.npz", "populations.yaml"
RESETS = {"zero": "reset_to_v_reset", "immediate": "reset_by_subtraction"}


@dataclass(frozen=True)
class Cores(Limit):
    """Populations are cut into cores of at most ``each`` neurons; inputs take cores as well."""

    cores: int
    each: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        sizes = [math.prod(network.input_shape), *(math.prod(network.shape_of(one)) for one in network.neurons)]
        yield from above(None, "cores needed", sum(-(-size // self.each) for size in sizes), self.cores)

    def __str__(self) -> str:
        return f"{self.cores} cores of {self.each} neurons"


@dataclass(frozen=True)
class Unrolled(Limit):
    """Between two layers of neurons the connections are written one by one."""

    most: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        before = math.prod(network.input_shape)
        for layer, shape in zip(network.layers, network.shapes, strict=True):
            if isinstance(layer, IntegerLIF):
                yield from above(layer.name, "pairs of neurons connected", before * math.prod(shape), self.most)
                before = math.prod(shape)

    def __str__(self) -> str:
        return f"{self.most:,} pairs of neurons between two layers"


@TARGETS.register("spinnaker2")
class SpiNNaker2(Chip):
    """``populations.yaml``: for each population its size, neuron model and parameters, as ``snn.Population`` takes
    them; ``connections.npz``: for each projection ``<pre>-<post>``, rows ``[pre, post, weight, delay]`` (int32) as
    ``snn.Projection`` takes them.

    The chip adds a step to every delay, so 0 arrives one step later, from inputs too. Biases are the constant current
    ``i_offset``. Convolutions and sums of windows are unrolled; neurons count channels, rows, columns. State and decay
    are float32; that a neuron fires above its threshold and is reset in the same step is inferred from the published
    results.
    """

    summary: ClassVar[str] = "SpiNNaker2: populations and connection lists for py-spinnaker2, weights of -15 to 15"
    bits: ClassVar[tuple[int, ...]] = (2, 3, 4, 5)
    default_bits: ClassVar[int] = 5
    per_neuron: ClassVar[bool] = True
    sources: ClassVar[tuple[str, ...]] = (
        "py-spinnaker2 as its users write it: weights -15..15, delays 0..7 (+1), lif parameters, atoms per core",
        "SpiNNaker2: 152 cores a chip",
    )
    energy = EnergyModel(
        synaptic_operation_pj=450.0,
        membrane_update_pj=2190.0,
        memory_byte_pj=0.0,
        taken="measured on a prototype, 28 nm, neurons and synapses in software on its cores; of the chip in 22 nm "
        "10 pJ per synaptic operation are reported (Tang et al. 2023, doi:10.3389/fnins.2023.1187252, table 3, after "
        "Höppner et al. 2021, arXiv:2103.08392), and nothing for a neuron",
        source="S. Höppner et al., Dynamic power management for neuromorphic many-core systems, IEEE Trans. Circuits "
        "and Systems I 66(8), 2019, pp. 2973-2986, arXiv:1903.08941; numbers as in KerasSpiking",
    )
    arithmetic = Arithmetic(
        32, decay="float", fires=">", resets=frozenset({"zero", "immediate"}), latency=1, input_latency=1
    )
    limits = (
        Kinds((IntegerDense, IntegerConv, IntegerPool)),
        Blocks(pool="anywhere"),
        Weights(-15, 15),
        Thresholds(2**24 - 1),
        Events(1),
        Cores(152, EACH),
        Unrolled(MOST),
    )

    def adapt(self, network: IntegerNetwork) -> IntegerNetwork:
        return adapted(unrolled(network), self.arithmetic)

    def notes(self, network: IntegerNetwork) -> list[str]:
        return [
            *super().notes(network),
            "how many neurons fit on a core depends on their connections: lower neurons_per_core where mapping fails",
        ]

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        before = _input_name(network.neurons)
        populations: dict[str, dict[str, Any]] = {
            before: {"size": math.prod(network.input_shape), "neuron_model": "spike_list", "neurons_per_core": EACH}
        }
        projections = {}
        for product, neurons in zip(network.products, network.neurons, strict=True):
            populations[neurons.name] = {
                "size": product.weight.shape[0],
                "neuron_model": "lif",
                "neurons_per_core": EACH,
                "params": {
                    "threshold": neurons.threshold.double().tolist(),
                    "alpha_decay": neurons.betas.tolist(),
                    "i_offset": product.bias.double().tolist(),
                    "v_init": 0.0,
                    "v_reset": 0.0,
                    "reset": RESETS[neurons.reset],
                },
            }
            post, pre = np.nonzero(product.weight.numpy())
            weights = product.weight.numpy()[post, pre]
            projections[f"{before}-{neurons.name}"] = np.stack([pre, post, weights, np.zeros_like(pre)], 1).astype("i4")
            before = neurons.name
        return {"populations": populations, "projections": projections}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        codes = self.prepare(network)
        write_facts(folder / POPULATIONS, codes["populations"])
        write_arrays(folder / FILE, codes["projections"])

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        populations, projections = read_facts(folder / POPULATIONS), read_arrays(folder / FILE)
        kinds = {kind: [one for one in facts["layers"] if one["kind"] == kind] for kind in ("dense", "neurons")}
        tensors = {}
        before = next(iter(populations))
        for product, neurons in zip(kinds["dense"], kinds["neurons"], strict=True):
            name, params = neurons["name"], populations[neurons["name"]]["params"]
            if params["alpha_decay"] != neurons["beta"] or params["reset"] != RESETS[neurons["reset"]]:
                raise DataError(f"the population {name!r} has another decay or reset than its layer")
            outputs, inputs = populations[name]["size"], populations[before]["size"]
            pre, post, weights, _ = torch.from_numpy(projections[f"{before}-{name}"]).long().T
            weight = torch.zeros(outputs, inputs, dtype=torch.int32)
            weight[post, pre] = weights.to(torch.int32)
            tensors[f"{product['name']}.weight"] = weight
            tensors[f"{product['name']}.bias"] = torch.tensor(params["i_offset"]).long().expand(outputs).clone()
            tensors[f"{name}.threshold"] = torch.tensor(params["threshold"]).long()
            before = name
        return rebuild(facts, tensors)


def _input_name(neurons: Sequence[IntegerLIF]) -> str:
    """``input``, or that with underscores where a layer has the name."""
    name = "input"
    while name in {layer.name for layer in neurons}:
        name += "_"
    return name
