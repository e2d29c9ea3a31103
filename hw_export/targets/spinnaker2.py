"""SpiNNaker2: populations and lists of connections, as py-spinnaker2 takes them, and the unrolling of convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import (
    DELAYS,
    IntegerConv,
    IntegerDelay,
    IntegerDense,
    IntegerFlatten,
    IntegerLayer,
    IntegerLIF,
    IntegerNetwork,
    IntegerPool,
    IntegerTaps,
    output_shape,
    spread,
)
from hw_export.targets.base import TARGETS, Chip, adapted
from hw_export.targets.limits import Blocks, EventsPerStep, Kinds, Limit, Thresholds, Violation, WeightRange, above
from hw_export.targets.outline import read_arrays, read_facts, rebuild, write_arrays, write_facts
from spikelfp.errors import DataError

MOST = 2**26
"""Most entries of a dense matrix that is made."""


def unrolled(network: IntegerNetwork) -> IntegerNetwork:
    """Unroll a network: all layers between two layers of neurons become one dense matrix.

    Sums over windows become part of the matrix. A threshold or decay for each channel becomes one for each neuron.
    Where inputs are delayed, the matrix takes a copy of them for each delay that there is.

    Args:
        network: of any layers.

    Returns:
        A network of dense layers and neurons; ``network`` itself where it has max-pooling or two layers of weights in a
        row, or where a matrix would have more than :data:`MOST` entries.
    """
    layers: list[IntegerLayer] = []
    waiting: list[IntegerLayer] = []
    features = math.prod(network.input_shape)
    shape = network.input_shape
    for layer, out in zip(network.layers, network.shapes, strict=True):
        if not isinstance(layer, IntegerLIF):
            waiting.append(layer)
            continue
        products = [each for each in waiting if isinstance(each, (IntegerDense, IntegerConv))]
        most = features * math.prod(out)
        if (
            len(products) != 1
            or most > MOST
            or any(isinstance(each, IntegerPool) and each.kind == "max" for each in waiting)
        ):
            return network
        beta = spread(layer.beta, out) if isinstance(layer.beta, Tensor) else layer.beta
        threshold = spread(layer.threshold, out) if layer.threshold.dim() else layer.threshold
        front = max((place for place, each in enumerate(waiting, 1) if isinstance(each, DELAYS)), default=0)
        if any(isinstance(each, (IntegerDense, IntegerConv, IntegerPool)) for each in waiting[:front]):
            return network
        later = _delays(waiting[:front], shape)
        rest = waiting[front:]
        for each in waiting[:front]:
            shape = output_shape(each, shape)
        matrix = _matrix(products[0], rest, shape)
        if front:
            taps, matrix = _by_delay(waiting[front - 1].name, matrix, later, features)
            layers.append(taps)
        layers += [matrix, replace(layer, beta=beta, threshold=threshold)]
        waiting, features, shape = [], math.prod(out), out
    if waiting:
        return network
    flat: tuple[int, ...] = (math.prod(network.input_shape),)
    shapes = [flat]
    for layer in layers:
        shapes.append(output_shape(layer, shapes[-1]))
    return IntegerNetwork(tuple(layers), network.bits, network.input_scale, flat, tuple(shapes[1:]))


def _delays(front: list[IntegerLayer], shape: tuple[int, ...]) -> Tensor:
    """Find which delay and which input each output of layers of delays has: int64 ``[2, F]``."""
    number = torch.arange(math.prod(shape))
    found = torch.stack([torch.zeros_like(number), number])
    for layer in front:
        if isinstance(layer, IntegerDelay):
            found = found + torch.stack([spread(layer.delays, shape), torch.zeros(found.shape[1], dtype=torch.int64)])
        elif isinstance(layer, IntegerTaps):
            found = torch.cat([found + torch.tensor([[each], [0]]) for each in layer.delays], 1)
        shape = output_shape(layer, shape)
    return found


def _by_delay(name: str, matrix: IntegerDense, later: Tensor, features: int) -> tuple[IntegerTaps, IntegerDense]:
    """Sort the columns of a matrix by their delays, so that it takes copies of all inputs, one for each delay."""
    delays, number = later[0].unique(return_inverse=True)
    weight = torch.zeros(len(matrix.weight), len(delays) * features, dtype=torch.int32)
    weight.index_add_(1, number * features + later[1], matrix.weight)
    return IntegerTaps(name, tuple(delays.tolist())), replace(matrix, weight=weight)


def _matrix(product: IntegerDense | IntegerConv, between: list[IntegerLayer], shape: tuple[int, ...]) -> IntegerDense:
    """Make one dense layer of the layers ``between``: a single one as it is, others by running them on unit inputs."""
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
    """Run layers with or without their biases, in float64, which is exact below 2⁵³; return the result flattened."""
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
"""Neurons of a core."""
FILE, POPULATIONS = "connections.npz", "populations.yaml"
RESETS = {"zero": "reset_to_v_reset", "immediate": "reset_by_subtraction"}


@dataclass(frozen=True)
class SpiNNaker2Cores(Limit):
    """Cores of SpiNNaker2 for all populations, those of the inputs too.

    Attributes:
        cores: cores of the chip.
        each: most neurons of a core.
    """

    cores: int
    each: int

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        sizes = [math.prod(network.input_shape), *(math.prod(network.shape_of(layer)) for layer in network.neurons)]
        yield from above(None, "cores needed", sum(-(-size // self.each) for size in sizes), self.cores)

    def __str__(self) -> str:
        return f"{self.cores} cores of {self.each} neurons"


@dataclass(frozen=True)
class Unrolled(Limit):
    """Number of pairs of neurons between two layers, whose connections are written one by one.

    Attributes:
        most: highest number of pairs.
    """

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
    """SpiNNaker2: populations and connections for py-spinnaker2.

    ``populations.yaml`` holds for each population its size, neuron model and parameters, as ``snn.Population`` takes
    them. ``connections.npz`` holds for each projection ``<pre>-<post>`` rows ``[pre, post, weight, delay]`` (int32), as
    ``snn.Projection`` takes them, with delays of 0 to 7 steps.

    A step is ``V ← β V + I`` in float32, a spike at ``V > θ``, and the reset in the same step; that order is inferred
    from the published results. The chip adds a step to every delay, so a delay of 0 arrives one step later, from inputs
    too. Biases are the constant current ``i_offset``. Convolutions and sums over windows are unrolled; neurons count
    channels, rows, columns.
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
        32, decay="float", fires=">", resets=frozenset({"zero", "immediate"}), latency=1, input_latency=1, delays=7
    )
    limits = (
        Kinds((IntegerDense, IntegerConv, IntegerPool)),
        Blocks(pool="anywhere"),
        WeightRange(-15, 15),
        Thresholds(2**24 - 1),
        EventsPerStep(1),
        SpiNNaker2Cores(152, EACH),
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
        before = "input"
        while before in {layer.name for layer in network.neurons}:
            before += "_"
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
            post, column = np.nonzero(product.weight.numpy())
            weights = product.weight.numpy()[post, column]
            delays = network.delays_of(product)
            tap, pre = np.divmod(column, product.weight.shape[1] // len(delays))
            rows = [pre, post, weights, np.array(delays, dtype=np.int64)[tap]]
            projections[f"{before}-{neurons.name}"] = np.stack(rows, 1).astype("i4")
            before = neurons.name
        return {"populations": populations, "projections": projections}

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        codes = self.prepare(network)
        write_facts(folder / POPULATIONS, codes["populations"])
        write_arrays(folder / FILE, codes["projections"])

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        populations, projections = read_facts(folder / POPULATIONS), read_arrays(folder / FILE)
        kinds = {kind: [layer for layer in facts["layers"] if layer["kind"] == kind] for kind in ("dense", "neurons")}
        tensors = {}
        before = next(iter(populations))
        taps = _taps(facts)
        for product, neurons in zip(kinds["dense"], kinds["neurons"], strict=True):
            name, params = neurons["name"], populations[neurons["name"]]["params"]
            if params["alpha_decay"] != neurons["beta"] or params["reset"] != RESETS[neurons["reset"]]:
                raise DataError(f"the population {name!r} has another decay or reset than its layer")
            outputs, inputs = populations[name]["size"], populations[before]["size"]
            pre, post, weights, late = torch.from_numpy(projections[f"{before}-{name}"]).long().T
            delays = torch.tensor(taps.get(product["name"], [0]))
            tap = (late.unsqueeze(1) == delays).long().argmax(1)
            if not torch.equal(delays[tap], late):
                raise DataError(f"the projection {before}-{name} has delays that its layer has not")
            weight = torch.zeros(outputs, len(delays) * inputs, dtype=torch.int32)
            weight[post, tap * inputs + pre] = weights.to(torch.int32)
            tensors[f"{product['name']}.weight"] = weight
            tensors[f"{product['name']}.bias"] = torch.tensor(params["i_offset"]).long().expand(outputs).clone()
            tensors[f"{name}.threshold"] = torch.tensor(params["threshold"]).long()
            before = name
        return rebuild(facts, tensors)


def _taps(facts: Mapping[str, Any]) -> dict[str, list[int]]:
    """Find the delays of the copies that dense layers of an outline take, by name of the layer."""
    layers = facts["layers"]
    return {
        layer["name"]: before["delays"]
        for before, layer in pairwise(layers)
        if before["kind"] == "taps" and layer["kind"] == "dense"
    }
