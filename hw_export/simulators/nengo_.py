"""Nengo, which imports no NIR: its ensembles are made here from the file."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw_export.nir import Chain
from hw_export.simulators.base import SIMULATORS, Simulator, dense_layers


@SIMULATORS.register("nengo")
class Nengo(Simulator):
    """Nengo: each layer is an ``Ensemble`` of a neuron type of ours, each matrix a ``Connection`` between neurons.

    Connections have no synapse filter. Nengo computes in float64 and passes spikes on within a step, so there is no
    latency. Samples run one after the other.
    """

    package = "nengo"
    module = "nengo"
    resets = frozenset({"zero", "subtract", "immediate"})

    def spikes(self, chain: Chain, inputs: Tensor) -> dict[str, Tensor]:
        import nengo

        layers = dense_layers(chain)
        steps, batch = inputs.shape[:2]
        x = inputs.flatten(2).numpy().astype(np.float64)  # [T, B, inputs]
        showing = 0

        def show(time: float) -> np.ndarray:
            return x[round(time) - 1, showing]

        with nengo.Network(seed=0) as net:
            source = nengo.Node(show, size_out=x.shape[2])
            probes = []
            for layer in layers:
                ensemble = nengo.Ensemble(
                    layer.size,
                    1,
                    neuron_type=_neuron_type()(layer.beta, layer.threshold, layer.reset),
                    encoders=np.ones((layer.size, 1)),
                    gain=np.ones(layer.size),
                    bias=layer.bias,
                )
                nengo.Connection(source, ensemble.neurons, transform=layer.weight, synapse=None)
                probes.append(nengo.Probe(ensemble.neurons))
                source = ensemble.neurons
        recorded: list[list[np.ndarray]] = [[] for _ in layers]
        with nengo.Simulator(net, dt=1.0, progress_bar=False, optimize=False) as simulation:
            for showing in range(batch):  # noqa: B007  (the node reads it)
                simulation.reset()
                simulation.run_steps(steps, progress_bar=False)
                for kept, probe in zip(recorded, probes, strict=True):
                    kept.append(simulation.data[probe].copy())
        return {
            layer.neuron.name: torch.from_numpy(np.stack(kept, axis=1)).unflatten(2, layer.neuron.shape)
            for layer, kept in zip(layers, recorded, strict=True)
        }


@functools.cache
def _neuron_type() -> type:
    """Make the class of our neuron, which needs Nengo, once for all networks."""
    import nengo

    class DiscreteLIF(nengo.neurons.NeuronType):
        """LIF neuron ``U = β V + J − owed`` with a spike of size 1 where ``U > θ``.

        ``V`` is ``U`` after a reset at once; ``owed`` is the θ that a spike takes one step later.
        """

        spiking = True
        negative = False
        state = {"voltage": nengo.dists.Choice([0.0]), "owed": nengo.dists.Choice([0.0])}  # noqa: RUF012

        def __init__(self, beta: np.ndarray, threshold: np.ndarray, reset: str) -> None:
            super().__init__()
            self._constants = (beta, threshold, reset)

        def gain_bias(self, max_rates: Any, intercepts: Any) -> Any:
            return np.ones_like(max_rates), np.zeros_like(intercepts)

        def max_rates_intercepts(self, gain: Any, bias: Any) -> Any:
            return np.ones_like(gain), np.zeros_like(bias)

        def rates(self, x: Any, gain: Any, bias: Any) -> Any:
            return np.zeros((len(np.atleast_1d(x)), len(gain)))

        def step(self, dt: float, J: Any, output: Any, voltage: Any, owed: Any) -> None:
            beta, threshold, reset = self._constants
            voltage[...] = beta * voltage + J - owed
            output[...] = voltage > threshold
            if reset == "subtract":
                owed[...] = threshold * output
            elif reset == "immediate":
                voltage -= threshold * output
            else:
                voltage[output > 0] = 0

    return DiscreteLIF
