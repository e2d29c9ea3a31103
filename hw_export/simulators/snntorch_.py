"""snnTorch, through ``snntorch.import_nir.import_from_nir``."""

from __future__ import annotations

from types import MappingProxyType

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.nir.dialects import DT
from hw_export.simulators.base import (
    SIMULATORS,
    Simulator,
    UnsupportedError,
    Watch,
    batch_flatten,
    is_vector,
    tensor_of,
)


@SIMULATORS.register("snntorch")
class SnnTorch(Simulator):
    """snnTorch 1.0, which reads any ``r`` (as a factor of the threshold) and assumes ``dt = 1e-4``.

    Resets:

    * ``zero``: as imported.
    * ``subtract``: the importer always makes ``reset_mechanism="zero"``. After import the neurons are set to snnTorch's
      own default, delayed subtraction. (Four attributes make up that mode; the property alone has no effect.)
    * ``immediate``: not possible; with ``reset_delay=False`` a neuron does not fire where its membrane stays above the
      threshold after the reset.

    Neurons of snnTorch may have their own decays and thresholds, but the importer takes one of each for a layer: it is
    given equal neurons, which get their own constants after import.
    """

    package = "snntorch"
    module = "snntorch"
    resets = frozenset({"zero", "subtract"})
    cannot = MappingProxyType(
        {"immediate": "its reset_delay=False drops a spike whose membrane stays above the threshold after the reset"}
    )

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        import snntorch
        from snntorch.import_nir import import_from_nir

        if chain.metadata.get("dt", DT) != DT:
            raise UnsupportedError(f"snntorch assumes dt = {DT}, the file has {chain.metadata['dt']}")
        each = [neuron for neuron in chain.neurons if is_vector(neuron.beta) or is_vector(neuron.threshold)]
        for neuron in each:
            stand_in(chain.graph.nodes[neuron.name])
        others = list(snntorch.SpikingNeuron.instances)  # a list of every neuron ever made, kept alive by it
        try:
            net = import_from_nir(chain.graph)
        finally:
            snntorch.SpikingNeuron.instances[:] = others
        batch_flatten(net)
        modules = {neuron.name: net.get_submodule(neuron.name) for neuron in chain.neurons}
        for neuron in each:
            modules[neuron.name].beta = tensor_of(neuron.beta)
            modules[neuron.name].threshold = tensor_of(neuron.threshold)
        for neuron in chain.neurons:
            if neuron.reset == "subtract":
                subtract_with_delay(modules[neuron.name])
        watch = Watch(modules)
        for step in inputs:
            net(step)
        return watch.stacked()


def stand_in(node: nir.LIF) -> None:
    """Replace the constants of a node by equal ones that the importer takes."""
    ones = np.ones_like(node.tau)
    node.tau, node.r, node.v_threshold = 2 * DT * ones, 2 * ones, ones


def subtract_with_delay(leaky: torch.nn.Module) -> None:
    """Turn an imported ``snntorch.Leaky`` into ``Leaky(reset_mechanism="subtract", reset_delay=True)``."""
    leaky._reset_mechanism = "subtract"  # type: ignore[assignment]
    leaky.reset_mechanism_val = torch.tensor(0)
    leaky.state_function = leaky._base_sub
    leaky.reset_delay = True  # type: ignore[assignment]
