"""Small networks of every kind of layer that sparse sequences may come to, and such sequences."""

import torch

from spikelfp import nn


def events(*shape, density=0.05, levels=1):
    """Counts of events, most of them 0."""
    return torch.randint(1, levels + 1, shape) / levels * (torch.rand(shape) < density)


def exact(net):
    """``net`` with its weights rounded to multiples of 1/256, so that float32 sums of events have no rounding.

    Every order of summation, and so every processor and cut of the sequence, then gives the same currents. With others
    a current near 0 differs by a large part of itself, and the update that divides by it too.
    """
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(256).round_().div_(256)
    return net


def convolutional():
    net = nn.Sequential(
        nn.Conv2d(2, 6, 5), nn.MaxPool2d(2), nn.LIF(0.9, 0.3), nn.Conv2d(6, 8, 3), nn.MaxPool2d(2), nn.LIF(0.9, 0.3),
        nn.Flatten(), nn.Linear(72, 10), nn.LIF(0.9, 0.2),
    )  # fmt: skip
    return net, (2, 20, 20)


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(200, 30), nn.LIF(0.9, 0.2), nn.Linear(30, 10), nn.LIF(0.9, 0.2)), (
        2, 10, 10,
    )  # fmt: skip


def recurrent():
    return nn.Sequential(nn.Linear(70, 20), nn.RecurrentLIF(20, 0.9, 0.2), nn.Linear(20, 10), nn.LI()), (70,)


def pooled():
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(2, 6, 3, padding=1), nn.LIF(0.9, 0.1), nn.Flatten(), nn.Linear(384, 10), nn.LIF()
    ), (2, 16, 16)


def branches():
    side = nn.Sequential(nn.Flatten(), nn.Linear(200, 8), nn.LIF(0.9, 0.2))
    other = nn.Sequential(nn.FlattenAxes(1, 2), nn.FlattenAxes(0, 1), nn.Linear(200, 9), nn.LIF(0.9, 0.2))
    return nn.Sequential(nn.Dropout(0.3), nn.Concat(side, other), nn.Linear(17, 10), nn.LIF(0.9, 0.2)), (2, 10, 10)


NETWORKS = {"conv": convolutional, "dense": dense, "recurrent": recurrent, "pooled": pooled, "branches": branches}
