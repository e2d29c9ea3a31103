"""From a batch to ``p.grad``: in parts, and over several workers, as one batch would fill it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.methods import Method
from spikelfp.nn.layer import State
from spikelfp.rules import lending
from spikelfp.tasks import Classification, Task
from spikelfp.training.batch import Batch, Chunk
from spikelfp.training.chunks import alone
from spikelfp.training.credit import reward_of
from spikelfp.training.parallel import World, unsynchronised
from spikelfp.training.state import Seen


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
    mask: Tensor | None = None,
    chunk: int | None = None,
    task: Task | None = None,
) -> Seen:
    """Add to ``p.grad`` the mean over a batch of ``of`` samples, of which this worker has ``sequence`` ``[T, B, …]``.

    replica: ``net`` among the workers of ``world`` (alone, ``net`` itself). labels: of the ``B`` samples, ``[B, …]``.
    parts: passes one after the other, each with a part of the samples, whose updates add up; every worker makes as
    many. A part without samples takes part with a made-up one of share 0, in evaluation mode: it changes nothing.
    mask: boolean ``[T, B]``, the steps that are rewarded and read out; by default all.
    chunk: steps that run at a time, their updates adding up (:mod:`spikelfp.training.chunks`); ``replica`` is then one
    of :class:`~spikelfp.training.chunks.Carried`.
    task: that reads and judges the outputs; ``None``: classes.

    Returns what these samples showed, with ``watched`` weighed by their share of the batch: the workers' add up.
    """
    task = Classification().by(reward_of(method)) if task is None else task
    descends = "loss" in vars(method)  # and watches it
    seen = Seen(of)
    for number, part in enumerate(Batch(sequence, labels, mask).parts(parts), start=1):
        share = len(part.labels) / of
        net.train(share > 0)
        part = part if share > 0 else _made_up(part, chunk)
        state: State = None
        steps, samples = part.sequence.shape[:2]
        judge = task.judge(part.labels, part.mask, steps, samples, loss=not (descends or task.has_classes))
        start, judged = 0, False
        for piece in part.chunks(chunk):
            shown, final = piece.batch, number == parts and piece.last
            at, start = start, start + len(piece.batch.sequence)
            with nullcontext() if final else unsynchronised(replica):
                with lending(net, method.rule), nullcontext() if piece.counts else torch.no_grad():
                    if chunk is None:
                        outputs = replica(shown.sequence)
                    else:
                        outputs, state = replica(shown.sequence, state)
                        state = alone(state)
                if not piece.counts:
                    continue
                # the replica averages over the workers, so each counts for as many
                counts = share * world.size * (of if method.reduction == "sum" else 1)
                targets = task.during(shown.labels, at, len(shown.sequence))
                watched = method.backward(outputs, targets, counts, **_steps_of(piece, part))
            judge.add(outputs.detach(), at)
            judged = True
            del outputs  # what is left of its graph, before the next one is made
            for name, value in watched.items():
                seen.watched[name] = seen.watched.get(name, 0) + value.detach() * share
        if judged:
            found = judge.sums()
            seen.judge(found if share > 0 else {name: torch.zeros_like(value) for name, value in found.items()})
    return seen


def _made_up(part: Batch, chunk: int | None) -> Batch:
    """A sample of zeros for a part that has none; of as many steps as one chunk."""
    x, labels = part.sequence, part.labels
    steps = max(1, min(len(x), chunk or len(x)))
    zeros = torch.zeros(steps, 1, *x.shape[2:], dtype=x.dtype, device=x.device)
    return Batch(zeros, labels.new_zeros(1, *labels.shape[1:]))


def _steps_of(piece: Chunk, whole: Batch) -> dict[str, Any]:
    """What a method is told of the steps that count, and only what it needs to know."""
    told: dict[str, Any] = {} if piece.batch.mask is None else {"mask": piece.batch.mask}
    return told if piece.first and piece.last else told | {"steps": whole.steps}


def add_up(seen: Seen, stop: bool, world: World, device: torch.device) -> bool:
    """Make ``seen`` what all workers saw of a batch together; returns whether any of them is to ``stop``."""
    if world.size == 1:
        return stop
    sizes = [value.numel() for value in seen.score.values()]
    score = [number for value in seen.score.values() for number in value.reshape(-1).unbind()]
    stopping, *sums = world.sum([stop, *seen.watched.values(), *score], device)
    seen.watched = dict(zip(seen.watched, sums, strict=False))
    parts = iter(sums[len(seen.watched) :])
    for (name, value), size in zip(seen.score.items(), sizes, strict=True):
        seen.score[name] = torch.stack([next(parts) for _ in range(size)]).reshape(value.shape)
    return bool(stopping)


def density(net: Module) -> float:
    """Share of the parameters whose update is not zero."""
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    return sum(int(torch.count_nonzero(grad)) for grad in grads) / max(sum(grad.numel() for grad in grads), 1)
