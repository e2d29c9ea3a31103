"""Add your own neuron in one file: LIF neurons that tire, trained by LFP and by surrogate gradients.

A neuron derives from :class:`spikelfp.nn.Neurons`. It names its states and constants and writes one ``step``; that is
where forward pass, credit under LFP, gradients, checkpoints and reports have it from. As a registered model it is found
by the command line too, ``spikelfp train --plugin examples/own_neuron.py --model tiring``.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from spikelfp import TemporalTrainer, data, methods, models, nn, rewards, rules
from spikelfp.report import write_report
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train


class Tiring(nn.Neurons):
    """LIF neurons with a fatigue, which rises with each spike and pulls the membrane down.

    ::

        U[t] = β U[t−1] + I[t] − κ F[t] − θ S[t−1]         S[t] = 1 if U[t] > θ else 0
        F[t+1] = ρ F[t] + S[t]                             fatigue; 0 at rest

    Fatigue flows into the membrane, so under LFP it has its share of the reward, which reaches the spikes that made it.

    Args:
        rho: decay of the fatigue per step, one number or one for each neuron.
        kappa: what a spike takes off the membrane in the next step, in units of the membrane.
        options: those of :class:`spikelfp.nn.LIF`.
    """

    states = ("membrane", "fatigue")
    rho = nn.Decay()
    arguments = ("rho", "kappa", *(nn.Neurons.arguments or ()))

    def __init__(self, rho: float | torch.Tensor = 0.8, kappa: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        self.rho, self.kappa = rho, kappa

    def step(self, current: torch.Tensor, state: Any, p: Any) -> tuple[torch.Tensor, Any]:
        """Integrate what flows in, fire, and tire by it."""
        membrane = self.integrate(state.membrane, p, current, -self.kappa * state.fatigue)
        spikes = self.fire(membrane, p.threshold)
        return spikes, (membrane, p.rho * state.fatigue + spikes)


@models.models.register("tiring", spiking=True, normalizes=False)
def tiring(shape: tuple[int, ...], classes: int, *, hidden: tuple[int, ...] = (64,), **neuron: Any) -> nn.Sequential:
    """Make dense layers of tiring neurons, with time constants of 2 to 20 steps, and LIF neurons at the output."""
    sizes, layers = [math.prod(shape), *hidden], []
    for inputs, outputs in zip(sizes, hidden, strict=False):
        fatigue = torch.exp(-1 / torch.linspace(2, 20, outputs))
        layers += [nn.Linear(inputs, outputs), Tiring(fatigue, **neuron)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes), nn.LIF(**neuron))


def trainer(method: methods.Method) -> TemporalTrainer:
    """Make a trainer of a small network by ``method``."""
    torch.manual_seed(0)
    return TemporalTrainer(tiring((64,), 10), method=method, steps=8, lr=1e-2)


def resumed(method: methods.Method, epochs: int) -> float:
    """Train on the digits, resume from a checkpoint half-way to the same weights, and return the accuracy."""
    digits = data.load("digits")
    whole, stopped, after = trainer(method), trainer(method), trainer(method)
    whole.fit(digits.train, epochs)
    stopped.should_stop = lambda: stopped.position.step == whole.position.step // 2
    stopped.fit(digits.train, epochs)
    with tempfile.TemporaryDirectory() as folder:
        stopped.save(Path(folder) / "half.pt")
        after.load(Path(folder) / "half.pt")
    after.fit(digits.train, epochs)
    for one, other in zip(whole.net.parameters(), after.net.parameters(), strict=True):
        assert torch.equal(one, other), "training went on otherwise than without a stop"
    return after.evaluate(digits.test).accuracy


def main(epochs: int = 10) -> float:
    """Train by both methods, write a report of a run, and return the lower accuracy."""
    found = {
        "LFP": resumed(methods.LFP(rewards.SpikeSequence()), epochs),
        "surrogate gradients": resumed(methods.GradientDescent(rules.Surrogate()), epochs),
    }
    print(", ".join(f"{name} {accuracy:.3f}" for name, accuracy in found.items()), "- each resumed bit for bit")
    with tempfile.TemporaryDirectory() as folder:
        train(RunConfig(data="digits", model="tiring", hidden=(32,), epochs=2, steps=8), folder, progress=False)
        page = write_report(folder)
        print(f"{page.name}: {page.stat().st_size / 1e6:.1f} MB, with the activity of the tiring layer")
    return min(found.values())


if __name__ == "__main__":
    main()
