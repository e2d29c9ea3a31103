"""Sequences of unequal lengths that can be learned, and networks for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikelfp import methods, models, nn, rewards, rules
from spikelfp.data.loader import Sequences
from spikelfp.training import TemporalTrainer

CLASSES = 4

METHODS = {
    "lfp": methods.LFP(rewards.SpikeSequence()),
    "lfp-v1": methods.LFP(rewards.SpikeSequenceV1(whole_steps=True)),
    "surrogate": methods.GradientDescent(rules.Surrogate(slope=5.0)),
}


@dataclass
class Recordings(Dataset):
    """Spikes ``[T, N, …]`` with their lengths ``[N]`` (``None``: all ``T``), each batch padded to its longest one."""

    spikes: Tensor
    labels: Tensor
    lengths: Tensor | None
    sparse: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Sequences, Tensor]:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        lengths = None if self.lengths is None else self.lengths[chosen]
        steps = len(self.spikes) if lengths is None or not len(indices) else int(lengths.max())
        values = self.spikes[:steps, chosen].clone()
        return Sequences(values.to_sparse_coo() if self.sparse else values, lengths), self.labels[chosen]

    def __getitem__(self, index: int) -> tuple[Sequences, Tensor]:
        return self.__getitems__([index])


def recordings(samples=48, steps=20, shape=(12,), unequal=True, sparse=False, dtype=torch.float32, seed=3):
    """Each class has inputs of its own that fire often; a sequence ends anywhere from step 3 on, one at the last."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (samples,), generator=draw)
    rates = 0.05 + 0.5 * (torch.rand(CLASSES, *shape, generator=draw) < 0.3)
    spikes = (torch.rand(steps, samples, *shape, generator=draw) < rates[labels]).to(dtype)
    lengths = None
    if unequal:
        lengths = torch.randint(3, steps + 1, (samples,), generator=draw)
        lengths[5] = steps
        inside = torch.arange(steps).unsqueeze(1) < lengths
        spikes = spikes * inside.reshape(steps, samples, *(1,) * len(shape))
    return Recordings(spikes, labels, lengths, sparse)


def mlp():
    return models.lif_mlp([12, 16, CLASSES], threshold=0.5)


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.LIF(threshold=0.5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, CLASSES),
        nn.LIF(0.8, 0.5, reset="zero"),
    )


def recurrent():
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.RecurrentLIF(16, threshold=0.5),
        nn.Sum(nn.Sequential(nn.Linear(16, 16), nn.Synaptic(threshold=0.5)), nn.Identity()),
        nn.Linear(16, CLASSES),
        nn.LIF(threshold=0.5),
    )


NETS = {"mlp": (mlp, (12,)), "conv": (conv, (2, 6, 6)), "recurrent": (recurrent, (12,))}


def make(net=mlp, dtype=torch.float32, **options):
    torch.manual_seed(0)
    return TemporalTrainer(net().to(dtype), **{"batch_size": 16, "lr": 1e-2, "device": "cpu", "wake": False, **options})


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True))


def assert_close_weights(a, b, tolerance):
    for name, weight in a.net.state_dict().items():
        torch.testing.assert_close(b.net.state_dict()[name], weight, rtol=tolerance, atol=tolerance)
