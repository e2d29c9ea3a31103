"""SpikingJelly, through ``spikingjelly.activation_based.nir_exchange.import_from_nir``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.nir.dialects import DT
from hw_export.simulators.base import SIMULATORS, Simulator, UnsupportedError, Watch, is_vector


@SIMULATORS.register("spikingjelly")
class SpikingJelly(Simulator):
    """SpikingJelly 2.0 takes Euler steps ``v += (I − v) · dt/τ`` where ``r = 1`` and ``v += I − v · dt/τ`` where
    ``r = τ/dt`` (it refuses any other ``r``), and fires at ``v ≥ v_threshold``.

    All: ``v_threshold`` becomes the next float32 above, so that ``≥`` is ``>``. ``zero``: nothing more. ``immediate``:
    ``v_reset = None``, with which it takes ``v_threshold`` off, so that last bit too. ``subtract``: its
    neurons take off what they compare with, so they are replaced by ``SimpleLIFNode``, the class it keeps for changed
    neurons, with the constants as imported, which takes off ``θ/β``; decay turns that into the delayed θ.
    """

    package = "spikingjelly"
    module = "spikingjelly"
    install = "spikingjelly loguru --no-deps"  # its data sets ask for torchvision, torchaudio and tensorboard
    resets = frozenset({"zero", "subtract", "immediate"})

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        from spikingjelly.activation_based.nir_exchange import import_from_nir

        dt = float(chain.metadata.get("dt", DT))
        for neuron in chain.neurons:
            if is_vector(neuron.beta) or is_vector(neuron.threshold):
                raise UnsupportedError(
                    f"its neurons of a layer have one decay and one threshold, those of {neuron.name!r} differ"
                )
            if (shortest := float(np.min(chain.graph.nodes[neuron.name].tau))) <= dt:
                raise UnsupportedError(
                    f"its time constants are longer than a step of {dt:g}, those of {neuron.name!r} are {shortest:g}"
                )
        net = import_from_nir(chain.graph, dt=dt)
        for neuron in chain.neurons:
            imported = net.get_submodule(f"{neuron.name}.module")
            if neuron.reset == "subtract":
                net.add_module(neuron.name, SubtractLater(imported, float(neuron.beta.flat[0])))
            else:
                imported.v_threshold = above(imported.v_threshold)
                imported.v_reset = 0.0 if neuron.reset == "zero" else None
        watch = Watch({neuron.name: net.get_submodule(neuron.name) for neuron in chain.neurons})
        state = None
        for step in inputs:
            _, state = net(step, state)
        return watch.stacked()


def above(threshold: float) -> float:
    """The next float32 above ``threshold``."""
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))


class SubtractLater(torch.nn.Module):
    """In place of an imported ``LIFNode``: its constants, and θ taken off one step after the spike."""

    def __init__(self, imported: Any, beta: float) -> None:
        from spikingjelly.activation_based.neuron import SimpleLIFNode

        super().__init__()
        taken = float(np.float32(imported.v_threshold) / np.float32(beta))

        class LIFNode(SimpleLIFNode):
            v: Tensor

            def neuronal_reset(self, spike: Tensor) -> None:
                self.v = self.v - taken * spike

        self.node = LIFNode(imported.tau, imported.decay_input, v_threshold=above(imported.v_threshold), v_reset=0.0)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.node(x), state  # the node keeps its membrane itself
