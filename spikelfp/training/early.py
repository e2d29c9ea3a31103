"""Early readout: what a network says before a sequence has ended, and when it is sure enough to say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikelfp.data.loader import Sequences
from spikelfp.errors import ShapeError, UserError
from spikelfp.methods.base import Batch, counting_steps
from spikelfp.rewards.base import masked
from spikelfp.tasks.classification import are_classes
from spikelfp.training.chunks import outputs_of
from spikelfp.training.evaluation import evaluating
from spikelfp.training.sources import pair, source_of
from spikelfp.training.trainer import Trainer


@dataclass(frozen=True)
class Decisions:
    """What comes of deciding as soon as the leading class is ahead of the second by ``margin``.

    Attributes:
        margin: in units of the outputs, summed over the steps that count so far: spikes, for spikes.
        accuracy: of the decisions, between 0 and 1.
        mean_step: steps seen at the decision, on average: 1 for one after the first step.
        decided: part of the samples that reached the margin; the others were decided at the end of their sequence.
    """

    margin: float
    accuracy: float
    mean_step: float
    decided: float


@dataclass(frozen=True)
class EarlyReadout:
    """How well a data set is classified before its sequences have ended.

    Attributes:
        steps: 1 to the length of the longest sequence.
        accuracy: after each of ``steps``, by the outputs accumulated over the steps that count so far; sequences that
            have ended keep their class, and those of which no step counts yet have none.
        decisions: for each margin.
        samples: how many.
    """

    steps: range
    accuracy: tuple[float, ...]
    decisions: tuple[Decisions, ...]
    samples: int


def early_readout(
    trained: Trainer | torch.nn.Module,
    dataset: Any,
    margins: Sequence[float] = (1, 2, 4, 8),
    *,
    batch_size: int | None = None,
    chunk: int | None = None,
) -> EarlyReadout:
    """Accuracy after each step, and of decisions by margin, over a ``dataset`` without augmentation; from rest for
    every batch.

    trained: a trainer, which says how samples become sequences, how many steps are read out and how many run at a
    time; or a network, for a data set of :class:`~spikelfp.data.loader.Sequences`. batch_size, chunk: by default
    those of the trainer, else 128 and whole sequences. The network's mode and the random state are kept.

    Raises:
        UserError: for a margin that is negative or not finite, or static samples without a trainer.
        ShapeError: for a network with a single output, which is never ahead of a second one.
    """
    for margin in margins:
        if not (math.isfinite(margin) and margin >= 0):
            raise UserError(f"a margin is a finite number of 0 or more, got {margin}")
    if isinstance(trained, Trainer) and not trained.task.has_classes:
        raise UserError(f"early readout is of classes, and the task of this trainer is {trained.task.name}")
    net, batch_of, device, size, chunk, seed = _settings(trained, batch_size, chunk)
    loader = source_of(dataset, size, 0, 0, "test").in_order()
    counts = _Counts(tuple(float(margin) for margin in margins), device)
    with evaluating(net, seed, device):
        for x, labels in map(pair, loader):
            counts.add(batch_of(x.to(device), labels.to(device)), net, chunk)
    return counts.result()


def so_far(net: torch.nn.Module, batch: Batch, chunk: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Of a batch from rest, ``chunk`` steps at a time (``None``: all): outputs summed over the steps that count up to
    each one, ``[k, B, C]``; whether a sample has had any, ``[k, B]``; and which of them count, ``None`` for all."""
    summed, read = torch.zeros(()), torch.zeros(len(batch.targets), dtype=torch.bool)
    for outputs, mask in outputs_of(net, batch, chunk):
        sums = (outputs if mask is None else masked(outputs, mask)).cumsum(0) + summed.to(outputs.device)
        answered = torch.ones(sums.shape[:2], dtype=torch.bool) if mask is None else mask.cumsum(0).bool()
        answered = answered.to(sums.device) | read.to(sums.device)
        summed, read = sums[-1], answered[-1]
        yield sums, answered, mask


class _Counts:
    """What the batches so far add up to."""

    def __init__(self, margins: tuple[float, ...], device: torch.device) -> None:
        self.margins = margins
        self.right: list[Tensor] = []  # of each batch: right samples after each of its steps
        self.samples = 0
        self.sums = torch.zeros(3, len(margins), dtype=torch.float64, device=device)  # right, steps, decided

    def add(self, batch: Batch, net: torch.nn.Module, chunk: int | None) -> None:
        """Run a batch and count what it gave."""
        if not are_classes(batch.targets):
            raise ShapeError(
                f"early readout takes class numbers [B] as labels, got {batch.targets.dtype} "
                f"{list(batch.targets.shape)}"
            )
        samples, device = len(batch.targets), batch.targets.device
        step = torch.zeros(len(self.margins), samples, dtype=torch.int64, device=device)  # of the decision, 0: none
        decision = torch.zeros_like(step)
        margins = torch.tensor(self.margins, device=device).view(-1, 1, 1)
        rights: list[Tensor] = []
        summed, seen = torch.zeros((), device=device), 0
        for sums, answered, mask in so_far(net, batch, chunk):
            if sums.dim() != 3 or sums.shape[-1] < 2:
                raise ShapeError(
                    f"early readout takes outputs [T, B, C] of two classes or more, got {list(sums.shape)}"
                )
            classes = sums.argmax(-1)
            rights.append(((classes == batch.targets) & answered).sum(1))
            first, second = sums.topk(2, -1).values.unbind(-1)
            ahead = (first - second) >= margins  # [margins, k, B]
            if mask is not None:
                ahead &= mask
            reached, place = ahead.any(1), ahead.to(torch.uint8).argmax(1)
            new = reached & (step == 0)
            step = torch.where(new, place + seen + 1, step)
            decision = torch.where(new, classes.gather(0, place), decision)
            summed, seen = sums[-1], seen + len(sums)
        decided = step > 0
        end = _ends(batch, seen)
        step = torch.where(decided, step, end)
        decision = torch.where(decided, decision, summed.argmax(-1))
        self.samples += samples
        self.right.append(torch.cat(rights))
        self.sums += torch.stack([(decision == batch.targets).sum(1), step.sum(1), decided.sum(1)])

    def result(self) -> EarlyReadout:
        longest = max(len(right) for right in self.right)
        right = sum(torch.cat([own, own[-1:].expand(longest - len(own))]) for own in self.right)
        assert isinstance(right, Tensor)
        means = (self.sums / self.samples).T.tolist()
        decisions = tuple(
            Decisions(margin, accuracy, mean_step, decided)
            for margin, (accuracy, mean_step, decided) in zip(self.margins, means, strict=True)
        )
        accuracy = tuple((right.double() / self.samples).tolist())
        return EarlyReadout(range(1, longest + 1), accuracy, decisions, self.samples)


def _ends(batch: Batch, steps: int) -> Tensor:
    """The last step of each sample that counts, counted from 1, ``[B]``."""
    if batch.mask is None:
        return torch.full_like(batch.targets, steps)
    numbers = torch.arange(1, len(batch.mask) + 1, device=batch.mask.device).unsqueeze(1)
    return (batch.mask * numbers).amax(0)


def _settings(
    trained: Trainer | torch.nn.Module, batch_size: int | None, chunk: int | None
) -> tuple[torch.nn.Module, Callable[[Any, Tensor], Batch], torch.device, int, int | None, int]:
    """Network, how it is shown a batch, device, batch size, chunk and seed."""
    if isinstance(trained, Trainer):
        size, chunk = batch_size or trained.batch_size, chunk or trained.chunk
        return trained.net, trained.batch, trained.device, size, chunk, trained.seed
    device = next((p.device for p in trained.parameters()), torch.device("cpu"))
    return trained, _sequences, device, batch_size or 128, chunk, 0


def _sequences(x: Any, labels: Tensor) -> Batch:
    if not isinstance(x, Sequences):
        raise UserError("a network alone takes a data set of sequences: hand in its trainer for static samples")
    return Batch(x.values, labels, counting_steps(x.values, x.lengths, None))
