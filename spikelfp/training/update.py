"""From a batch to ``p.grad``: in parts, and over several workers, as one batch would fill it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.methods import Method
from spikelfp.rules import using
from spikelfp.training.parallel import World, unsynchronised
from spikelfp.training.state import Seen, predict


def fill_gradients(
    net: Module,
    replica: Module,
    method: Method,
    sequence: Tensor,
    labels: Tensor,
    *,
    of: int,
    parts: int,
    world: World,
) -> Seen:
    """Add to ``p.grad`` the mean over a batch of ``of`` samples, of which this worker has ``sequence`` ``[T, B, …]``.

    replica: ``net`` among the workers of ``world`` (alone, ``net`` itself). labels: of the ``B`` samples, ``[B, …]``.
    parts: passes one after the other, each with a part of the samples, whose updates add up; every worker makes as
    many. A part without samples takes part with a made-up one of share 0, in evaluation mode: it changes nothing.

    Returns what these samples showed, with ``watched`` weighed by their share of the batch: the workers' add up.
    """
    seen = Seen(of)
    pieces = zip(sequence.tensor_split(parts, 1), labels.tensor_split(parts), strict=True)
    for number, (x, right) in enumerate(pieces, start=1):
        share = len(right) / of
        net.train(share > 0)
        if share == 0:
            x, right = x.new_zeros(len(x), 1, *x.shape[2:]), right.new_zeros(1, *right.shape[1:])
        with unsynchronised(replica) if number < parts else nullcontext():
            with using(net, method.rule):
                outputs = replica(x)
            # the replica averages over the workers, so each counts for as many
            watched = method.backward(outputs, right, share * world.size)
        if share > 0:
            seen.correct = seen.correct + (predict(outputs.detach()) == right).sum()
        for name, value in watched.items():
            seen.watched[name] = seen.watched.get(name, 0) + value.detach() * share
    return seen


def add_up(seen: Seen, stop: bool, world: World, device: torch.device) -> bool:
    """Make ``seen`` what all workers saw of a batch together; returns whether any of them is to ``stop``."""
    correct, stopping, *watched = world.sum([seen.correct, stop, *seen.watched.values()], device)
    seen.correct, seen.watched = correct, dict(zip(seen.watched, watched, strict=True))
    return bool(stopping)


def density(net: Module) -> float:
    """Share of the parameters whose update is not zero."""
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return sum(int(torch.count_nonzero(grad)) for grad in grads) / max(sum(grad.numel() for grad in grads), 1)
