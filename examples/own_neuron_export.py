"""A neuron of one's own that leaves the package: to NIR and its simulators, and to a chip.

    python examples/own_neuron_export.py
    spikelfp train --plugin examples/own_neuron_export.py --model averaging --reset zero --out runs/mean
    hw-export build runs/mean --plugin examples/own_neuron_export.py --target loihi

A neuron that is LIF neurons in other words says in which, and whatever takes LIF neurons takes it. How one is trained
is shown in ``own_neuron.py``; a neuron that NIR has a node of its own for writes that node in its ``NeuronExport``.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from hw_export.build import build, read_export
from hw_export.neurons import NeuronExport, exports
from hw_export.on_chip import verify_chip
from hw_export.targets import TARGETS
from hw_export.verify import verify
from spikelfp import models, nn
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


class Averaging(nn.Neurons):
    """Neurons whose membrane is a running mean of the current, ``U[t] = β U[t−1] + (1 − β) I[t]``, for ``β < 1``."""

    def step(self, current: torch.Tensor, state: Any, p: Any) -> tuple[torch.Tensor, Any]:
        """Integrate the share of the current that is new, and fire."""
        membrane = self.integrate(state.membrane, p, (1 - p.beta) * current)
        return self.fire(membrane, p.threshold), (membrane,)


@exports(Averaging)
class AveragingExport(NeuronExport):
    """The membrane of LIF neurons is ``1 / (1 − β)`` times as large, and so is their threshold."""

    def lower(self, layer: Averaging) -> Sequence[torch.nn.Module]:
        """Rewrite the layer as LIF neurons."""
        p = layer.constants
        if float(torch.as_tensor(p.beta).max()) == 1.0:
            raise UserError("averaging neurons with a beta of 1 hear nothing: train with --beta below 1")
        return [nn.LIF(p.beta, p.threshold / (1 - p.beta), p.reset)]


@models.models.register("averaging", spiking=True, normalizes=False)
def averaging(shape: tuple[int, ...], classes: int, *, hidden: tuple[int, ...] = (48,), **neuron: Any) -> nn.Sequential:
    """Dense layers of averaging neurons."""
    sizes, layers = [math.prod(shape), *hidden, classes], []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), Averaging(**neuron)]
    return nn.Sequential(nn.Flatten(), *layers)


def main(epochs: int = 6) -> float:
    """Train, export as NIR and for a chip, and compare every spike; returns the accuracy on the chip."""
    with tempfile.TemporaryDirectory() as scratch:
        run, nir, chip = (Path(scratch) / name for name in ("run", "nir", "chip"))
        config = {"beta": 0.75, "threshold": 0.2, "reset": "zero", "epochs": epochs, "steps": 10}
        train(RunConfig(data="digits", model="averaging", hidden=(48,), **config), run, progress=False)
        build(run, nir)
        _, net, samples = read_export(nir)
        results = verify(net, nir / "network.nir", samples.sequence())
        manifest = build(run, chip, target="loihi")
        results.append(verify_chip(TARGETS["loihi"](), chip, manifest, read_export(chip)[2]))
        for result in results:
            print(f"{result.simulator:20} {result.status}")
        print(f"accuracy {manifest['accuracy']['float']:.3f}, on the chip {manifest['chip']['accuracy']:.3f}")
        wrong = [result for result in results if result.status in ("different", "failed")]
        return 0.0 if wrong else manifest["chip"]["accuracy"]


if __name__ == "__main__":
    main()
