"""Functions that contenders share. They need only torch, since each contender may run in its own environment."""

from itertools import pairwise

import torch

PAPER = {"floor": 0.0, "margin": 1.0}
"""The paper's rule, by which all learn: options of our neurons."""

LR = 1e-7
"""Learning rate of Adam: so small that weights and spike rates hardly change during a run; a step takes as long."""


def load(parameters, network, gain=1.0):
    """Copy the weights of ``network["start"]`` into ``parameters``, layer by layer, times ``gain``; else leave them."""
    if "start" not in network:
        return
    saved = torch.load(network["start"], weights_only=True)["parameters"]
    with torch.no_grad():
        for parameter, values in zip(parameters, saved, strict=True):
            if parameter.shape != values.shape:
                raise ValueError(f"a parameter of shape {tuple(parameter.shape)}, in the file {tuple(values.shape)}")
            parameter.copy_(values * gain)


def adam(parameters):
    """Make the optimiser of every contender."""
    return torch.optim.Adam(parameters, lr=LR, fused=True)


def spike_rates(neurons, run):
    """Measure the mean output of each of the modules ``neurons`` during ``run()``."""
    counts = [[0.0, 0] for _ in neurons]

    def counter(count):
        def hook(module, inputs, output):
            spikes = output[0] if isinstance(output, tuple) else output
            count[0] += spikes.sum(dtype=torch.float64).item()
            count[1] += spikes.numel()

        return hook

    handles = [m.register_forward_hook(counter(c)) for m, c in zip(neurons, counts, strict=True)]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [spikes / number for spikes, number in counts]


def of_kind(net, kind):
    """List the modules of a class, or of one of several, in order."""
    return [module for module in net.modules() if isinstance(module, kind)]


def layers(network, neurons):
    """Make the network of torch's layers, each followed by ``neurons()``, for simulators that run step by step."""
    if network["kind"] == "lenet":
        return [
            torch.nn.Conv2d(1, 12, 5), torch.nn.MaxPool2d(2), neurons(),
            torch.nn.Conv2d(12, 64, 5), torch.nn.MaxPool2d(2), neurons(), torch.nn.Flatten(),
            torch.nn.Linear(1024, 1024), neurons(), torch.nn.Linear(1024, 10), neurons(),
        ]  # fmt: skip
    pairs = pairwise(network["sizes"])
    return [torch.nn.Flatten(), *(m for a, b in pairs for m in (torch.nn.Linear(a, b), neurons()))]
