"""Rules and neurons that the tests go through."""

from __future__ import annotations

import torch

from spikelfp import nn, rules

RULES = {
    "zero": rules.Zero(),
    "epsilon": rules.Epsilon(),
    "epsilon-large": rules.Epsilon(eps=0.1),
    "epsilon-normalised": rules.Epsilon(normalize=True),
    "alpha2beta1": rules.AlphaBeta(),
    "alpha1beta0": rules.AlphaBeta(alpha=1.0, beta=0.0),
    "zplusminus": rules.ZPlusMinus(eps=1e-3),
    "gamma": rules.Gamma(),
    "gamma-0": rules.Gamma(gamma=0.0),
}

NEURONS = {
    "relu": lambda n: nn.ReLU(),
    "tanh": lambda n: nn.Tanh(),
    "heaviside": lambda n: nn.Heaviside(),
    "lif": lambda n: nn.LIF(0.9, 0.3),
    "lif-zero-increment": lambda n: nn.LIF(0.8, 0.3, "zero", "increment"),
    "lif-immediate": lambda n: nn.LIF(0.8, 0.3, "immediate"),
    "synaptic": lambda n: nn.Synaptic(0.7, 0.9, 0.3),
    "recurrent": lambda n: nn.RecurrentLIF(nn.Linear(n, n), 0.9, 0.3),
}
"""What may follow a layer with ``n`` features."""

SPIKING = [name for name in NEURONS if name not in ("relu", "tanh", "heaviside")]


def build(rule: rules.Rule | rules.Composite, *layers: torch.nn.Module) -> nn.Sequential:
    """A network in float64 that follows ``rule``."""
    net = nn.Sequential(*layers).double()
    rules.attach(net, rule)
    return net


def plant(net: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter random numbers, so that none starts at 0 or 1 (γ, β of normalisation layers do)."""
    for parameter in net.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter)
    return net
