"""norse, through ``norse.torch.from_nir``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hw_export.nir import Chain, Neuron
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


@SIMULATORS.register("norse")
class Norse(Simulator):
    """norse 1.1, which takes Euler steps ``v += dt/τ · (I − v)`` and ignores ``r``: the file must have ``r = 1``.

    Resets:

    * ``zero``: as imported, with ``dt`` of the file.
    * ``subtract``: the importer takes no reset from a ``nir.LIF``. After import a spike of each cell takes ``θ/β`` off
      at once, which decay turns into ``θ`` one step later.
    * ``immediate``: as ``subtract``, with ``θ``.
    """

    package = "norse"
    module = "norse"
    install = "norse nirtorch --no-deps"  # it also asks for torchvision, whose newest release replaces torch
    resets = frozenset({"zero", "subtract", "immediate"})

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        import norse.torch

        for neuron in chain.neurons:
            if (chain.graph.nodes[neuron.name].r != 1).any():
                raise UnsupportedError("norse ignores r; write the file in the default dialect, which has r = 1")
        net = norse.torch.from_nir(chain.graph, dt=float(chain.metadata.get("dt", DT)))
        batch_flatten(net)
        modules = {neuron.name: net.get_submodule(neuron.name) for neuron in chain.neurons}
        for neuron in chain.neurons:
            if neuron.reset != "zero":
                cell = modules[neuron.name]
                cell.p = cell.p._replace(reset_method=subtract(neuron))
        watch = Watch(modules)
        state = None
        for step in inputs:
            _, state = net(step, state)
        return watch.stacked()


def subtract(neuron: Neuron) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Make a reset method of norse, ``(z, v, v_reset, v_th) → v``, that takes θ off, or ``θ/β`` for a delayed θ.

    Args:
        neuron: of the file, with the reset ``immediate`` (θ) or ``subtract`` (θ/β).
    """
    if neuron.reset == "immediate":
        return lambda z, v, v_reset, v_th: v - z * v_th
    beta = tensor_of(neuron.beta) if is_vector(neuron.beta) else float(neuron.beta.flat[0])
    return lambda z, v, v_reset, v_th: v - z * v_th / beta
