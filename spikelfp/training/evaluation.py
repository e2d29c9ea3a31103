"""Accuracy over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.training.parallel import World
from spikelfp.training.state import predict


class Evaluation(NamedTuple):
    """Accuracy over a data set, between 0 and 1, and the mean output per step (the rate, for spikes)."""

    accuracy: float
    mean_output: float


@torch.no_grad()
def evaluate(
    net: Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    present: Callable[[Tensor], Tensor],
    *,
    seed: int,
    device: torch.device,
    world: World,
) -> Evaluation:
    """Accuracy by accumulated outputs; from rest for every batch, the network's mode and random state kept.

    present: makes a sequence ``[T, B, …]`` of a batch. Several workers take turns at the batches of the ``loader``,
    the same for all, and all of them get the result of the whole.
    """
    training = net.training
    net.eval()
    world.copy(net.buffers())  # running statistics are each worker's own
    correct, total, output = torch.zeros((), dtype=torch.int64, device=device), 0, 0.0
    # Random encodings draw the same numbers at every evaluation and leave those of training alone.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for number, (x, labels) in enumerate(loader):
            sequence = present(x.to(device))  # by every worker, so that all draw what one alone would
            if number % world.size == world.rank:
                outputs = net(sequence)
                correct += (predict(outputs) == labels.to(device)).sum()
                total += len(labels)
                output += float(outputs.mean()) * len(labels)
    net.train(training)
    right, of, summed = (float(value) for value in world.sum([correct, total, output], device))
    return Evaluation(right / of, summed / of)
