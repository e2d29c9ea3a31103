"""SynSense's Speck (DynapCNN), as a configuration of samna."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.energy import EnergyModel
from hw_export.integer.network import Conv, Dense, IntegerNetwork, Pool
from hw_export.targets.base import TARGETS, Chip
from hw_export.targets.checks.limits import Biases, Blocks, Kinds, Thresholds, Weights
from hw_export.targets.files.outline import rebuild
from hw_export.targets.mapping.speck_cores import CoreLayer, Cores, Shapes, assign, core_layers
from spikelfp.errors import DataError, UserError
from spikelfp.files import write_text
from spikelfp.untrusted import read_json

FILE = "dynapcnn.json"


@TARGETS.register("speck")
class Speck(Chip):
    """``dynapcnn.json``: ``cnn_layers`` by number of the core, each with the attributes of samna's ``CnnLayerConfig``
    as sinabs sets them (kernels ``[out, in, width, height]``), and ``entry``, the core that takes the inputs. Dense
    layers are convolutions with a kernel as large as their input; pooling belongs to the way to the next core.

    The chip works event by event, without time steps: the state does not leak, and a bias is added whenever the slow
    clock ticks.
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
        Kinds((Dense, Conv, Pool)),
        Blocks(pool="behind"),
        Weights(-128, 127),
        Biases(-128, 127),
        Thresholds(2**15 - 1, single=True),
        Shapes(),
        Cores(),
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
                    raise DataError(f"in front of layer {name!r} windows of {pooling} are summed, its outline has none")
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
    """:class:`~spikelfp.errors.DataError` unless the core has the sizes of the layer."""
    for size in ("stride", "padding"):
        own = layer.get(size, [1, 1] if size == "stride" else [0, 0])
        if [dimensions[size]["y"], dimensions[size]["x"]] != list(own):
            raise DataError(f"the {size} of layer {name!r} is not that of its outline")
