"""Networks and runs that the tests of the conversions share."""

from __future__ import annotations

from itertools import pairwise

import snntorch
import torch
from hypothesis import strategies as st
from reference import RESETS
from torch import Tensor

from spikelfp import nn
from spikelfp.interop import base as shared

STEPS = {0.5: 10, 0.75: 6, 0.875: 4}
"""Decays, and for how many steps float32 holds their membranes exactly when weights are quarters."""


def quarters_(net: torch.nn.Module) -> torch.nn.Module:
    """Round all parameters, scaled up, to multiples of 1/4: sums of them are exact in any order."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_((p * 12).round() / 4)
    return net


def binary(*shape: int) -> Tensor:
    return (torch.rand(*shape) < 0.5).float()


@st.composite
def shapes(draw, resets=RESETS):
    """How a random network looks: its decay, threshold, reset, sizes, and whether it begins with a convolution."""
    return {
        "beta": draw(st.sampled_from(sorted(STEPS))),
        "threshold": draw(st.sampled_from([0.25, 0.5, 1.0])),
        "reset": draw(st.sampled_from(resets)),
        "sizes": draw(st.lists(st.integers(2, 9), min_size=2, max_size=4)),
        "conv": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "seed": draw(st.integers(0, 10**6)),
    }


def ours(shape: dict) -> tuple[nn.Sequential, Tensor]:
    """A random network of exact weights, and a sequence for it."""
    torch.manual_seed(shape["seed"])
    neuron = (shape["beta"], shape["threshold"], shape["reset"])
    steps, sizes = STEPS[shape["beta"]], shape["sizes"]
    layers: list[torch.nn.Module] = []
    x = binary(steps, 3, sizes[0])
    if shape["conv"]:
        x = binary(steps, 3, 2, 6, 6)
        layers = [nn.Conv2d(2, sizes[0], 3, bias=shape["bias"]), nn.MaxPool2d(2), nn.LIF(*neuron), nn.Flatten()]
        sizes = [4 * sizes[0], *sizes[1:]]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, shape["bias"]), nn.LIF(*neuron)]
    return quarters_(nn.Sequential(*layers)), x


def snn_of(net: nn.Sequential) -> torch.nn.Sequential:
    """The same network written by hand for snnTorch, with copies of the weights."""
    layers = []
    for layer in net:
        if isinstance(layer, nn.LIF):
            p = layer.constants
            layers.append(snntorch.Leaky(beta=p.beta, threshold=p.threshold, reset_mechanism=p.reset, init_hidden=True))
        elif isinstance(layer, nn.Linear):
            layers.append(torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None))
        elif isinstance(layer, nn.Conv2d):
            layers.append(torch.nn.Conv2d(layer.in_channels, layer.out_channels, 3, bias=layer.bias is not None))
        else:
            layers.append(torch.nn.MaxPool2d(2) if isinstance(layer, nn.MaxPool2d) else torch.nn.Flatten())
    model = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for own, other in zip(model.parameters(), net.parameters(), strict=True):
            own.copy_(other)
    return model


@torch.no_grad()
def run_snntorch(model: torch.nn.Module, x: Tensor) -> Tensor:
    """A model with ``init_hidden`` stepped through a sequence from rest."""
    for _, layer in shared.layer_chain(model):
        if isinstance(layer, snntorch.SpikingNeuron):
            layer.reset_mem()
    outputs = [model(step) for step in x]
    return torch.stack([out[-1] if isinstance(out, tuple) else out for out in outputs])


@torch.no_grad()
def run_norse(model: torch.nn.Module, x: Tensor) -> Tensor:
    """A ``SequentialState`` stepped through a sequence from rest."""
    state, outputs = None, []
    for step in x:
        out, state = model(step, state)
        outputs.append(out)
    return torch.stack(outputs)


class Tutorial(torch.nn.Module):
    """A model as snnTorch's tutorial 5 writes it."""

    def __init__(self, steps: int = 12, **neuron) -> None:
        super().__init__()
        self.steps = steps
        self.fc1 = torch.nn.Linear(64, 128)
        self.lif1 = snntorch.Leaky(beta=0.9, **neuron)
        self.fc2 = torch.nn.Linear(128, 10)
        self.lif2 = snntorch.Leaky(beta=0.9, **neuron)
        self.loss = torch.nn.CrossEntropyLoss()

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)
