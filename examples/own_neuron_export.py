"""Export your own neuron: trained, quantised, written as NIR, and verified in other simulators.

    python examples/own_neuron_export.py
    spikelfp train --data digits --plugin examples/own_neuron_export.py --model circuit --out runs/circuit
    hw-export build runs/circuit --plugin examples/own_neuron_export.py --target nir
    hw-export verify exports/circuit-nir --plugin examples/own_neuron_export.py

The neuron is given by what a laboratory measures, a time constant and a resistance; how such a class is written and
trained is told in ``own_neuron.py``. What an export needs to know is the second class, which may stand in a file of its
own: here that the neuron is a LIF neuron in other words. Weights, whole numbers, chips, NIR and its simulators follow.
Neurons with dynamics of their own write their node of NIR (``NeuronExport.write``); those that NIR has no word for are
refused by name.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hw_export import from_nir, verify
from hw_export.build import build, read_export
from hw_export.neurons import NeuronExport, exports
from hw_export.simulators import SIMULATORS
from spikelfp import models, nn
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


class Circuit(nn.Neurons):
    """Neurons with a leaky membrane, charged through a resistance::

        U[t] = β U[t−1] + (1 − β) R I[t]          β = exp(−1/τ)

    Args:
        tau: time constant in steps, one number or one for each neuron.
        resistance: R, in units of the membrane per unit of current.
        options: those of :class:`spikelfp.nn.LIF` but for ``beta``.
    """

    arguments = None  # time constants are kept as decays

    def __init__(self, tau: float | torch.Tensor = 10.0, resistance: float = 10.0, **options: Any) -> None:
        decay = torch.exp(-1 / tau) if isinstance(tau, torch.Tensor) else math.exp(-1 / tau)
        super().__init__(beta=decay, **options)
        self.resistance = resistance

    def step(self, current: torch.Tensor, state: Any, p: Any) -> tuple[torch.Tensor, Any]:
        """Charge the membrane, and fire."""
        membrane = self.integrate(state.membrane, p, (1 - p.beta) * self.resistance * current)
        return self.fire(membrane, p.threshold), (membrane,)


@exports(Circuit)
class CircuitExport(NeuronExport):
    """Export as a gain of ``(1 − β) R``, which joins the weights before it, and a LIF neuron."""

    def lower(self, layer: Circuit) -> Sequence[torch.nn.Module]:
        gain = (1 - layer.beta) * layer.resistance
        return [nn.Scale(gain), nn.LIF(layer.beta, layer.threshold, layer.reset)]


@models.models.register("circuit", spiking=True, normalizes=False)
def circuit(shape: tuple[int, ...], classes: int, *, hidden: tuple[int, ...] = (64,), **neuron: Any) -> nn.Sequential:
    """Make dense layers of circuits, the hidden ones with time constants from 2 to 20 steps."""
    neuron.pop("beta", None)
    sizes = [math.prod(shape), *hidden]
    layers: list[torch.nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip(sizes, hidden, strict=False):
        layers += [nn.Linear(inputs, outputs), Circuit(torch.linspace(2, 20, outputs), **neuron)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes), Circuit(5.0, **neuron))


def main(epochs: int = 6) -> float:
    """Train, export, and compare every spike in the installed simulators; return the accuracy in 8 bits."""
    with tempfile.TemporaryDirectory() as scratch:
        run, export = Path(scratch) / "run", Path(scratch) / "export"
        train(RunConfig(data="digits", model="circuit", hidden=(60,), epochs=epochs, steps=10), run, progress=False)
        manifest = build(run, export, target="nir", bits=8, per_channel=True)  # gains differ by the neuron
        _, net, samples = read_export(export)
        x, file = samples.sequence(), export / "network.nir"
        assert torch.equal(from_nir(file)(x.flatten(2)), net(x)), "the file says something else"
        for result in verify(net, file, x, [name for name in SIMULATORS if SIMULATORS[name].available()]):
            print(f"{result.simulator}: {result.status} {result.reason}")
            if result.status == "different":
                return 0.0
        accuracy = manifest["accuracy"]
        print(f"accuracy {accuracy['exported']:.3f} in 8 bits, {accuracy['float']:.3f} before")
        return accuracy["exported"]


if __name__ == "__main__":
    main()
