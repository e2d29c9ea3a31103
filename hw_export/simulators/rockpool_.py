"""Rockpool, through ``rockpool.nn.modules.torch.nir.from_nir``.

Its licence is AGPL-3; it is only imported where the user has installed it.
"""

from __future__ import annotations

import itertools
from types import MappingProxyType

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.simulators.base import (
    SIMULATORS,
    DenseLayer,
    Simulator,
    Watch,
    check_decays,
    dense_layers,
    tensor_of,
    without,
)


@SIMULATORS.register("rockpool")
class Rockpool(Simulator):
    """Rockpool 3.1, which imports dense layers and neurons of one axis: convolutions are written out as matrices.

    The importer asks a ``nir.LIF`` for ``tau_mem``, which is called ``tau`` there, so the nodes are given both names.
    Rockpool's neurons compute ``U = exp(−dt/τ) V + I + b``, fire ``floor(U / θ)`` times where ``U ≥ θ``, and take θ off
    at once for each spike; ``dt`` is guessed from ``r``. After import they are set to one spike a step, the decay of
    the file, and the next float32 above θ as threshold, so that ``≥`` is ``>``; a reset takes that last bit off too.

    Resets:

    * ``immediate``: as described.
    * ``subtract``: a θ that is taken off one step later is ``θ/β`` at once. That becomes the threshold, and membranes
      are shifted up by ``c = θ/β − θ``: they start at c and receive ``b = (1 − β) c``.
    * ``zero``: not possible.
    """

    package = "rockpool"
    module = "rockpool"
    resets = frozenset({"subtract", "immediate"})
    cannot = MappingProxyType({"zero": "its neurons always subtract their threshold"})

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        layers = dense_layers(chain)
        check_decays(layers)
        with without("samna"):  # Rockpool imports it if it can, and samna of the package index runs pip when imported
            from rockpool.nn.modules.torch.nir import from_nir
        net = from_nir(_graph(layers, inputs.flatten(2).shape[2]))
        modules = {layer.neuron.name: net.get_submodule(layer.neuron.name) for layer in layers}
        for layer in layers:
            as_in_file(modules[layer.neuron.name], layer)
        watch = Watch(modules)
        net(inputs.flatten(2).transpose(0, 1))  # samples first
        return {
            layer.neuron.name: spikes[0].transpose(0, 1).unflatten(2, layer.neuron.shape)
            for layer, spikes in zip(layers, watch.stacked().values(), strict=True)
        }


def as_in_file(module: torch.nn.Module, layer: DenseLayer) -> None:
    """Give an imported ``LIFNeuronTorch`` the decay, threshold and reset of a layer and one spike a step."""
    taken = layer.threshold / layer.beta if layer.reset == "subtract" else layer.threshold
    shift = taken - layer.threshold
    module.threshold = tensor_of(np.nextafter(taken.astype(np.float32), np.float32(np.inf)))
    module.vmem, module.bias = tensor_of(shift), tensor_of((1 - layer.beta) * shift)
    module.dt = 1.0  # type: ignore[assignment]
    module.tau_mem = time_constants(tensor_of(layer.beta))
    module.max_spikes_per_dt = torch.tensor(1.0)


def time_constants(beta: Tensor) -> Tensor:
    """Find the float32 τ for which ``exp(−1 / τ)`` is nearest to ``beta`` in float32, elementwise."""
    tau = -1.0 / beta.double().log()
    ulp = torch.from_numpy(np.spacing(tau.float().numpy()))
    near = torch.stack([(tau + i * ulp).float() for i in range(-8, 9)])
    best = (torch.exp(-1.0 / near) - beta).abs().argmin(0, keepdim=True)
    return near.gather(0, best)[0]


def _graph(layers: list[DenseLayer], inputs: int) -> nir.NIRGraph:
    """Write layers as a graph of matrices and flat neurons, under their names."""
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array([inputs]))}
    for layer in layers:
        name, ones = layer.neuron.name, np.ones(layer.size, np.float32)
        weight, bias = (array.astype(np.float32) for array in (layer.weight, layer.bias))
        nodes[f"{name}_current"] = nir.Affine(weight=weight, bias=bias)
        nodes[name] = nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)
        nodes[name].tau_mem = nodes[name].tau
    names = [*nodes, "output"]
    nodes["output"] = nir.Output(np.array([layers[-1].size]))
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)))
