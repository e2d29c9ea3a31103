"""sinabs, through ``sinabs.nir.from_nir``."""

from __future__ import annotations

import nir
import torch
from torch import Tensor

from hw_export.nir import Chain, Neuron
from hw_export.simulators.base import SIMULATORS, Simulator, Watch, tensor_of


@SIMULATORS.register("sinabs")
class Sinabs(Simulator):
    """sinabs 2.0 and 3.1, which import layers as they are and neurons with other constants.

    An imported neuron decays by ``exp(−1/τ)`` with τ in steps, ignores ``r``, fires ``floor(v / θ)`` times where
    ``v ≥ θ``, and subtracts θ at once. After import every LIF layer is set to the neurons of the file: decay
    ``1 − dt/τ``, threshold in units of the current, one spike a step, and the next float32 above θ to compare with, so
    that ``≥`` is ``>``. Resets are ``zero``; ``immediate``, which subtracts θ; and ``subtract``, which subtracts
    ``θ/β``, turned by decay into θ one step later.

    Neurons of more than one axis crash the importer where it asks ``any(v_leak)``, so it is given a flat ``v_leak``,
    which it uses for nothing else.
    """

    package = "sinabs"
    module = "sinabs"
    install = "sinabs==2.0.3"  # sinabs 3 asks for nir<=1.0.4, which cannot read what nir 1.0.8 writes
    resets = frozenset({"zero", "subtract", "immediate"})

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        import sinabs.nir

        for _, node in chain.nodes:
            if isinstance(node, nir.LIF):
                node.v_leak = node.v_leak.reshape(-1)
        steps, batch = inputs.shape[:2]
        net = sinabs.nir.from_nir(chain.graph, batch_size=batch)
        modules = {neuron.name: net.get_submodule(neuron.name) for neuron in chain.neurons}
        for neuron in chain.neurons:
            as_in_file(modules[neuron.name], neuron)
        watch = Watch(modules)
        net(inputs.transpose(0, 1).flatten(0, 1))  # sinabs folds time into the batch, samples first
        return {name: seen[0].unflatten(0, (batch, steps)).transpose(0, 1) for name, seen in watch.stacked().items()}


def as_in_file(layer: torch.nn.Module, neuron: Neuron) -> None:
    """Give an imported ``sinabs.layers.LIFSqueeze`` the decay, threshold and reset of ``neuron``."""
    from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike

    beta = tensor_of(neuron.beta)
    threshold = tensor_of(neuron.threshold)
    layer.train_alphas = True  # type: ignore[assignment]
    layer.alpha_syn = None  # type: ignore[assignment]
    layer.alpha_mem = torch.nn.Parameter(beta, requires_grad=False)
    layer.spike_threshold = torch.nn.Parameter(torch.nextafter(threshold, threshold + 1), requires_grad=False)
    layer.spike_fn = SingleSpike
    if neuron.reset == "zero":
        layer.reset_fn = MembraneReset()
    else:
        layer.reset_fn = MembraneSubtract(threshold if neuron.reset == "immediate" else threshold / beta)
