"""Small networks of every kind of neuron, with batch normalisation in evaluation, for tests of time and of storage."""

from __future__ import annotations

import torch
from references.cases import plant

from spikelfp import nn


def _dense(first, second):
    return nn.Sequential(nn.Linear(6, 7), first, nn.Linear(7, 4), second)


def _residual():
    block = nn.Sequential(nn.Linear(7, 7), nn.BatchNorm1d(7), nn.LIF(0.9, 0.3))
    wide = nn.Concat(nn.Sequential(nn.Linear(7, 3), nn.Synaptic(0.7, 0.9, 0.3)), nn.Identity())
    return nn.Sequential(
        nn.Linear(6, 7), nn.LIF(0.9, 0.3), nn.Sum(block, nn.Identity()), wide, nn.Linear(10, 4), nn.LI()
    )


def _convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.LIF(0.9, 0.3), nn.Flatten(), nn.Linear(12, 4),
        nn.LIF(0.9, 0.3),
    )  # fmt: skip


def _attention():
    spiking = nn.SpikingSelfAttention(6, 2, scale=0.5, threshold=0.2)
    return nn.Sequential(nn.Sum(spiking, nn.Identity()), nn.MeanToken(), nn.Linear(6, 4), nn.LIF(0.9, 0.2))


def _recurrent(**options):
    return _dense(
        nn.RecurrentLIF(nn.Linear(7, 7), 0.9, 0.3, **options), nn.RecurrentLIF(nn.Linear(4, 4, bias=False), 0.9, 0.3)
    )


def _delayed():
    return nn.Sequential(
        nn.Linear(6, 7), nn.LIF(0.9, 0.3), nn.Delay(torch.tensor([0, 3, 1, 0, 2, 9, 1])),
        nn.DelayLinear(7, 4, (1, 0, 4)), nn.LIF(0.9, 0.3),
    )  # fmt: skip


NETWORKS = {
    "lif": (lambda: _dense(nn.LIF(0.9, 0.3), nn.LIF(0.8, 0.3)), (6,)),
    "lif-zero-increment": (lambda: _dense(nn.LIF(0.9, 0.3, "zero", "increment"), nn.LIF(0.8, 0.3, "zero")), (6,)),
    "lif-immediate": (lambda: _dense(nn.LIF(0.9, 0.3, "immediate"), nn.LIF(0.8, 0.3, "immediate", "increment")), (6,)),
    "learned-decay": (
        lambda: _dense(nn.LIF(0.9, 0.3, learn_beta=True), nn.LIF(0.8, 0.3, "zero", learn_beta=True)), (6,),
    ),
    "synaptic": (lambda: _dense(nn.Synaptic(0.7, 0.9, 0.3), nn.Synaptic(0.5, 0.9, 0.3, learn_beta=True)), (6,)),
    "synaptic-immediate": (lambda: _dense(nn.Synaptic(0.7, 0.9, 0.3, "immediate"), nn.Synaptic(0.5, 0.9, 0.3)), (6,)),
    "recurrent": (_recurrent, (6,)),
    "recurrent-zero-increment": (
        lambda: _recurrent(reset="zero", denominator="increment", learn_beta=True), (6,),
    ),
    "recurrent-immediate": (lambda: _recurrent(reset="immediate", learn_beta=True), (6,)),
    "delays": (_delayed, (6,)),
    "readout": (lambda: _dense(nn.LIF(0.9, 0.3), nn.LI(0.8)), (6,)),
    "skips": (_residual, (6,)),
    "convolutional": (_convolutional, (1, 6, 6)),
    "attention": (_attention, (3, 6)),
}  # fmt: skip


def network(name: str, steps: int = 8, batch: int = 4) -> tuple[nn.Sequential, torch.Tensor]:
    """The network, in float64 and evaluation, and an input ``[T, B, …]`` under which it fires."""
    make, shape = NETWORKS[name]
    net = make().double()
    plant(net).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Neurons) and module.decay is not None:
                module.decay.fill_(0.85)
    return net, torch.randn(steps, batch, *shape).double() * 2
