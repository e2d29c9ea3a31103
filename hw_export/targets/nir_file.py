"""NIR file as a target, which simulators and the toolchains of several chips read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from hw_export.nir import as_chain, to_nir
from hw_export.nir.dialects import DT
from hw_export.quantize.report import span
from hw_export.simulators import SIMULATORS
from hw_export.targets.base import TARGETS, Target

FILE = "network.nir"


@TARGETS.register("nir")
class NirFile(Target):
    """NIR graph in the file ``network.nir``, in the default dialect of :mod:`hw_export.nir.dialects`."""

    nir_file = FILE
    summary: ClassVar[str] = "NIR graph (HDF5), read by snnTorch, norse, sinabs and other simulators and toolchains"
    bits: ClassVar[tuple[int, ...]] = (*range(2, 17), 32)

    def write(self, net: torch.nn.Module, folder: Path, input_shape: tuple[int, ...]) -> dict[str, Any]:
        graph = to_nir(net, folder / FILE, input_shape=input_shape)
        return {
            "dialect": "default",
            "dt": DT,
            "latency": {name: SIMULATORS[name].latency for name in SIMULATORS},
            "neurons": [
                {
                    "layer": neuron.layer,
                    "node": neuron.name,
                    "shape": list(neuron.shape),
                    "beta": span(graph.nodes[neuron.name].metadata["beta"]),
                    "threshold": span(graph.nodes[neuron.name].metadata["threshold"]),
                    "reset": neuron.reset,
                }
                for neuron in as_chain(graph, delays=True).neurons
            ],
        }
