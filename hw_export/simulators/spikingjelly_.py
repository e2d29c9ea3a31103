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
    """SpikingJelly 2.0, which takes Euler steps and fires at ``v ≥ v_threshold``.

    A step is ``v += (I − v) · dt/τ`` where ``r = 1`` and ``v += I − v · dt/τ`` where ``r = τ/dt``; any other ``r`` is
    refused. After import ``v_threshold`` becomes the next float32 above θ, so that ``≥`` is ``>``.

    Resets:

    * ``zero``: as imported.
    * ``immediate``: ``v_reset = None``, which takes ``v_threshold`` off, that last bit too.
    * ``subtract``: neurons of SpikingJelly take off what they compare with. They are replaced by ``SimpleLIFNode``, the
      class for changed neurons, with the constants as imported; it takes off ``θ/β``, turned by decay into θ one step
      later.
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
    """Return the next float32 above ``threshold``."""
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))


class SubtractLater(torch.nn.Module):
    """Replacement of an imported ``LIFNode`` that takes θ off one step after the spike.

    Args:
        imported: the ``LIFNode``, whose constants are kept.
        beta: decay β of the neurons.
    """

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
