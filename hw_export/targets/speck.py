"""SynSense's Speck (DynapCNN): a core for each layer, and the configuration of samna."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import IntegerConv, IntegerDense, IntegerLIF, IntegerNetwork, IntegerPool, Pair
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.limits import BiasRange, Blocks, Kinds, Limit, Thresholds, Violation, WeightRange, above
from hw_export.targets.outline import rebuild
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_text
from spikelfp.untrusted import read_json

KI = 1024
"""Words in a Ki."""
KERNEL = tuple(KI * size for size in (16, 16, 16, 32, 32, 64, 64, 16, 16))
"""Words of kernel memory of each core."""
NEURON = tuple(KI * size for size in (64, 64, 64, 32, 32, 16, 16, 16, 16))
"""Words of neuron memory of each core."""


@dataclass(frozen=True, eq=False)
class CoreLayer:
    """Layer of one core: a convolution, its neurons, and sums over windows of their spikes.

    Attributes:
        name: of the layer of weights.
        weight: ``[out, in, height, width]``; a dense layer is a convolution with a kernel as large as its input.
        bias: ``[out]``.
        stride: of the convolution, height and width.
        padding: of the convolution, height and width.
        shape_in: channels, height, width of the inputs.
        shape_out: channels, height, width of the neurons.
        neurons: constants of the neurons.
        pool: sums over windows of their spikes, if any.
    """

    name: str
    weight: Tensor
    bias: Tensor
    stride: Pair
    padding: Pair
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]
    neurons: IntegerLIF
    pool: IntegerPool | None

    @property
    def kernel_memory(self) -> int:
        """Words of the kernel memory: ``c_in 2^(⌈log2 k_x k_y⌉ + ⌈log2 c_out⌉)``."""
        outputs, inputs, height, width = self.weight.shape
        return inputs * 2 ** (_log2_up(height * width) + _log2_up(outputs))

    @property
    def neuron_memory(self) -> int:
        """Words of the neuron memory: ``c_out 2^(⌈log2 h⌉ + ⌈log2 w⌉)``."""
        channels, height, width = self.shape_out
        return channels * 2 ** (_log2_up(height) + _log2_up(width))


def core_layers(network: IntegerNetwork) -> list[CoreLayer]:
    """Divide a network into the layers of cores, in the order they run.

    Args:
        network: of layers of weights, each followed by neurons and at most one pooling.
    """
    made: list[CoreLayer] = []
    maps: tuple[int, ...] = (
        network.input_shape if len(network.input_shape) == 3 else (math.prod(network.input_shape), 1, 1)
    )
    for index, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=True)):
        if isinstance(layer, IntegerPool):
            maps = shape
        if not isinstance(layer, (IntegerDense, IntegerConv)):
            continue
        neurons, following = network.layers[index + 1], [*network.layers[index + 2 : index + 3]]
        assert isinstance(neurons, IntegerLIF)
        pool = following[0] if following and isinstance(following[0], IntegerPool) else None
        out: tuple[int, ...] = shape
        if isinstance(layer, IntegerDense):
            out = (layer.weight.shape[0], 1, 1)
            weight = layer.weight.reshape(out[0], *maps)
            made.append(CoreLayer(layer.name, weight, layer.bias, (1, 1), (0, 0), maps, out, neurons, pool))
        else:
            sizes = layer.stride, layer.padding
            made.append(CoreLayer(layer.name, layer.weight, layer.bias, *sizes, maps, out, neurons, pool))
        maps = out
    return made


def assign(layers: Sequence[CoreLayer]) -> list[int] | None:
    """Assign a core to each layer, small cores first.

    Args:
        layers: in the order they run.

    Returns:
        Numbers of the cores; ``None`` where no choice of cores holds all layers.
    """
    order = sorted(range(len(layers)), key=lambda index: len(_cores(layers[index])))
    taken: dict[int, int] = {}

    def place(position: int) -> bool:
        if position == len(order):
            return True
        for core in _cores(layers[order[position]]):
            if core not in taken.values():
                taken[order[position]] = core
                if place(position + 1):
                    return True
                del taken[order[position]]
        return False

    return [taken[index] for index in range(len(layers))] if place(0) else None


def _cores(layer: CoreLayer) -> list[int]:
    """Numbers of the cores that hold a layer, those of little memory first."""
    fitting = [
        core
        for core in range(len(KERNEL))
        if layer.kernel_memory <= KERNEL[core] and layer.neuron_memory <= NEURON[core]
    ]
    return sorted(fitting, key=lambda core: (KERNEL[core] + NEURON[core], core))


@dataclass(frozen=True)
class SpeckCores(Limit):
    """Memory of the cores of Speck, and a core for each layer."""

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        if not _regular(network):
            return
        layers = core_layers(network)
        yield from above(None, "layers of weights", len(layers), len(KERNEL), "one for each core")
        each_fits = True
        for layer in layers:
            found = [
                *above(layer.name, "kernel memory", layer.kernel_memory, max(KERNEL)),
                *above(layer.name, "neuron memory", layer.neuron_memory, max(NEURON)),
            ]
            if not found and not _cores(layer):
                sizes = f"{layer.kernel_memory:,} and {layer.neuron_memory:,}"
                found = [Violation(layer.name, "kernel and neuron memory", sizes, "no core has both")]
            each_fits &= not found
            yield from found
        if each_fits and len(layers) <= len(KERNEL) and assign(layers) is None:
            sizes = ", ".join(f"{layer.name!r} {layer.kernel_memory:,} and {layer.neuron_memory:,}" for layer in layers)
            yield Violation(None, "kernel and neuron memory of layers", sizes, "no choice of cores holds all at once")

    def __str__(self) -> str:
        kernel, neuron = (", ".join(str(size // KI) for size in sizes) for sizes in (KERNEL, NEURON))
        return f"{len(KERNEL)} cores of {kernel} Ki kernel and {neuron} Ki neuron memory"


@dataclass(frozen=True)
class Shapes(Limit):
    """Kernels, strides, channels and windows of pooling that the cores can do.

    Attributes:
        kernel: largest side of a kernel.
        channels: most channels of inputs and outputs.
        strides: of convolutions.
        pools: sides of the windows that are summed.
    """

    kernel: int = 16
    channels: int = 1024
    strides: tuple[int, ...] = (1, 2, 4, 8)
    pools: tuple[int, ...] = (1, 2, 4)

    def check(self, network: IntegerNetwork) -> Iterator[Violation]:
        if not _regular(network):
            return
        for layer in network.layers:
            if isinstance(layer, IntegerConv):
                yield from self._one_of(layer.name, "stride", layer.stride, self.strides)
                yield from self._one_of(layer.name, "dilation", layer.dilation, (1,))
                yield from above(layer.name, "groups", layer.groups, 1)
            elif isinstance(layer, IntegerPool):
                yield from self._one_of(layer.name, "window", layer.kernel, self.pools)
                if layer.kernel[0] != layer.kernel[1] or layer.stride != layer.kernel:
                    found = f"{layer.kernel} every {layer.stride}"
                    yield Violation(layer.name, "windows of", found, "square ones side by side only")
        for core in core_layers(network):
            outputs, inputs, height, width = core.weight.shape
            yield from above(core.name, "output channels", outputs, self.channels)
            yield from above(core.name, "input channels", inputs, self.channels)
            yield from above(core.name, "kernel size", max(height, width), self.kernel)
            if height != width:
                yield Violation(core.name, "kernel", f"{height} x {width}", "square ones only")

    def _one_of(self, name: str, what: str, found: Pair, allowed: tuple[int, ...]) -> Iterator[Violation]:
        for size in sorted(set(found)):
            if size not in allowed:
                nearest = min(allowed, key=lambda each: abs(each - size))
                yield Violation(name, what, size, f"one of {', '.join(map(str, allowed))}", abs(size - nearest))

    def __str__(self) -> str:
        strides, pools = (", ".join(map(str, sizes)) for sizes in (self.strides, self.pools))
        return (
            f"square kernels of up to {self.kernel}, strides {strides}, {self.channels:,} channels, sums over {pools}"
        )


def _regular(network: IntegerNetwork) -> bool:
    """Whether neurons follow directly after every layer of weights; other limits report the rest."""
    return all(
        isinstance(after, IntegerLIF)
        for layer, after in zip(network.layers, (*network.layers[1:], None), strict=True)
        if isinstance(layer, (IntegerDense, IntegerConv))
    )


def _log2_up(value: int) -> int:
    return (value - 1).bit_length()


FILE = "dynapcnn.json"


@TARGETS.register("speck")
class Speck(Chip):
    """Speck: a configuration of samna, in the file ``dynapcnn.json``.

    ``cnn_layers`` holds for each core, by its number, the attributes of samna's ``CnnLayerConfig`` as sinabs sets them
    (kernels ``[out, in, width, height]``); ``entry`` is the core that takes the inputs. Dense layers are convolutions
    with a kernel as large as their input. Pooling is done on the way to the next core.

    The chip works event by event, without time steps: ``V ← V + w`` for each event, a spike at ``V ≥ θ``, then a reset
    to 0 or by θ. The state of 16 bits does not leak. A bias is added whenever the slow clock ticks.
    """

    summary: ClassVar[str] = "SynSense Speck / DynapCNN: samna configuration (JSON), 8-bit weights, no leak, 9 cores"
    bits: ClassVar[tuple[int, ...]] = tuple(range(2, 9))
    sources: ClassVar[tuple[str, ...]] = (
        "sinabs backend/dynapcnn/chips/dynapcnn.py: memory of the cores, attributes of a layer",
        "sinabs backend/dynapcnn/dynapcnn_layer.py, discretize.py: memory of a layer, 8-bit weights, 16-bit state",
        "sinabs docs/speck/faqs/available_algorithmic_operation.md: kernels, channels, pooling",
    )
    energy = EnergyModel(
        static_power_uw=420.0,
        taken="nothing per operation; the processor at rest, and a least total of 0.70 mW at work",
        source="M. Yao et al., Spike-based dynamic computing with asynchronous sensing-computing neuromorphic chip, "
        "Nature Communications 15, 2024, doi:10.1038/s41467-024-47811-6",
    )
    arithmetic = Arithmetic(16, decay="none", fires=">=", resets=frozenset({"zero", "immediate"}), by_event=True)
    limits = (
        Kinds((IntegerDense, IntegerConv, IntegerPool)),
        Blocks(pool="behind"),
        WeightRange(-128, 127),
        BiasRange(-128, 127),
        Thresholds(2**15 - 1, single=True),
        Shapes(),
        SpeckCores(),
    )

    def prepare(self, network: IntegerNetwork) -> dict[str, Any]:
        layers = core_layers(network)
        cores = assign(layers)
        if cores is None:
            raise UserError("no choice of cores holds all layers at once")
        following = [*cores[1:], None]
        configured = {
            str(core): self._configure(layer, after)
            for layer, core, after in zip(layers, cores, following, strict=True)
        }
        return {"entry": cores[0], "dvs_layer": {"pass_sensor_events": False}, "cnn_layers": configured}

    def _configure(self, layer: CoreLayer, after: int | None) -> dict[str, Any]:
        channels, height, width = layer.shape_in
        maps, rows, columns = layer.shape_out
        pooling = 1 if layer.pool is None else layer.pool.kernel[0]
        return {
            "dimensions": {
                "input_shape": {"size": {"x": width, "y": height}, "feature_count": channels},
                "output_shape": {"size": {"x": columns, "y": rows}, "feature_count": maps},
                "padding": {"x": layer.padding[1], "y": layer.padding[0]},
                "stride": {"x": layer.stride[1], "y": layer.stride[0]},
                "kernel_size": layer.weight.shape[2],
            },
            "weights": layer.weight.transpose(2, 3).tolist(),
            "biases": layer.bias.tolist(),
            "leak_enable": bool(layer.bias.any()),
            "return_to_zero": layer.neurons.reset == "zero",
            "threshold_high": int(layer.neurons.threshold.flatten()[0]),
            "threshold_low": self.arithmetic.low,
            "monitor_enable": after is None,
            "neurons_initial_value": torch.zeros(maps, columns, rows, dtype=torch.int64).tolist(),
            "destinations": [] if after is None else [{"layer": after, "enable": True, "pooling": pooling}],
        }

    def write_network(self, network: IntegerNetwork, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(self.prepare(network)) + "\n")

    def read_network(self, facts: Mapping[str, Any], folder: Path) -> IntegerNetwork:
        if not (folder / FILE).exists():
            raise DataError(f"there is no {folder / FILE}")
        config = read_json(folder / FILE)
        tensors: dict[str, torch.Tensor] = {}
        core, pooling, layer = config["entry"], 1, {}
        for own in facts["layers"]:
            name, kind = own["name"], own["kind"]
            if kind in ("dense", "conv"):
                if pooling != 1:
                    raise DataError(f"before layer {name!r} windows of {pooling} are summed, its outline has none")
                layer = config["cnn_layers"][str(core)]
                weight = torch.tensor(layer["weights"]).transpose(2, 3)
                tensors[f"{name}.weight"] = weight.flatten(1) if kind == "dense" else weight
                tensors[f"{name}.bias"] = torch.tensor(layer["biases"])
                _check_sizes(layer["dimensions"], own, name)
                core, pooling = next(((way["layer"], way["pooling"]) for way in layer["destinations"]), (None, 1))
            elif kind == "sum-pool":
                if own["kernel"] != [pooling, pooling]:
                    raise DataError(f"layer {name!r} sums {own['kernel']}, the configuration {pooling}")
                pooling = 1
            elif kind == "neurons":
                tensors[f"{name}.threshold"] = torch.tensor(layer["threshold_high"])
                if layer["return_to_zero"] != (own["reset"] == "zero"):
                    raise DataError(f"the neurons {name!r} are reset in another way than their outline says")
        if core is not None:
            raise DataError(f"the last layer sends its spikes on to core {core}")
        return rebuild(facts, tensors)

    def notes(self, network: IntegerNetwork) -> list[str]:
        notes = super().notes(network)
        if network.input_scale > 1:
            notes.append(f"an input x is x events at once, up to {network.input_scale}: mind the bandwidth of a core")
        biased = [repr(layer.name) for layer in network.products if bool(layer.bias.any())]
        if biased:
            notes.append(f"the biases of layers {', '.join(biased)} are added at every tick of the slow clock: tick it")
        return notes


def _check_sizes(dimensions: Mapping[str, Any], layer: Mapping[str, Any], name: str) -> None:
    """Refuse a core (DataError) whose stride or padding is not that of its layer."""
    for size in ("stride", "padding"):
        own = layer.get(size, [1, 1] if size == "stride" else [0, 0])
        if [dimensions[size]["y"], dimensions[size]["x"]] != list(own):
            raise DataError(f"the {size} of layer {name!r} is not that of its outline")
