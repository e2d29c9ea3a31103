"""Score and loss over a data set, the outputs for it, and the accuracy before its sequences have ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.data.loader import Sequences
from spikelfp.data.samples import TargetScale
from spikelfp.errors import ShapeError, UserError
from spikelfp.methods.base import Batch, counting_steps, mean_over_steps, step_weights
from spikelfp.nn import graph
from spikelfp.rewards.base import masked, takes
from spikelfp.tasks import Judge, Task
from spikelfp.tasks.classification import are_classes
from spikelfp.tasks.sequence_labels import NONE
from spikelfp.training.parallel import World
from spikelfp.training.sources import checked_inputs, pair, source_of
from spikelfp.training.update import added, outputs_in_chunks

if TYPE_CHECKING:
    from spikelfp.training.trainer import Trainer


class Evaluation(NamedTuple):
    """Score and loss of a network over a data set.

    Attributes:
        score: score of its task: the accuracy, between 0 and 1, for classes.
        loss: mean over the samples, for targets in their own units; ``None`` where outputs have none, as a single one
            whose sign names a class.
        metrics: the score and all other measures of the task, by name.
        mean_output: mean over the steps that count: the rate, for spikes.
    """

    score: float
    loss: float | None
    metrics: dict[str, float]
    mean_output: float

    def row(self, part: str, task: Task) -> dict[str, float]:
        """Return the columns of ``metrics.csv`` for a part of the data: ``train``, ``validation`` or ``test``."""
        return {f"{part}_{task.score}": self.score} | ({} if self.loss is None else {f"{part}_loss": self.loss})

    @property
    def accuracy(self) -> float:
        """Share of samples whose class was found.

        Raises:
            UserError: for a task without classes.
        """
        if "accuracy" not in self.metrics:
            raise UserError(
                f"there is no accuracy without classes: this task has {', '.join(self.metrics)}, in evaluation.metrics"
            )
        return self.metrics["accuracy"]


@contextmanager
def evaluating(net: Module, seed: int, device: torch.device) -> Iterator[None]:
    """Put the network into evaluation mode, without graphs, within the block; random numbers are those of ``seed``.

    After the block, the mode of each layer and the random state of training are as before.
    """
    # Random encodings draw the same numbers at every evaluation and leave those of training alone.
    with graph.evaluating(net), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def evaluate(
    net: Module,
    loader: Iterable[tuple[Any, Tensor]],
    batch_of: Callable[[Any, Tensor], Batch],
    *,
    task: Task,
    seed: int,
    device: torch.device,
    world: World,
    loss: Callable[..., Tensor] | None = None,
    chunk: int | None = None,
    scale: TargetScale | None = None,
) -> Evaluation:
    """Measure score and loss over a data set; from rest for every batch, the network's mode and random state kept.

    Several workers take turns at the batches of the ``loader``, the same for all, and all of them get the result of the
    whole.

    Args:
        net: the network.
        loader: pairs of samples and targets.
        batch_of: function that makes a :class:`Batch` of samples and targets on the device.
        task: task that reads and judges the outputs.
        seed: seed of the random numbers.
        device: device of the network.
        world: the workers.
        loss: loss of the method, where it is not that of the task.
        chunk: steps that run at a time, each chunk from the state that the one before has left; by default the whole
            sequence. A ``loss`` needs the outputs of a whole batch in memory even then.
        scale: how real targets were standardised.

    Returns:
        The evaluation.

    Raises:
        UserError: for targets or outputs that the task cannot judge.
    """
    world.copy(net.buffers())  # running statistics are each worker's own
    sums: dict[str, Any] = {}
    output, before = 0.0, 0
    with evaluating(net, seed, device):
        for number, (x, targets) in enumerate(map(pair, loader)):
            batch = batch_of(x.to(device), targets.to(device))  # by every worker: all draw what one alone would
            if number % world.size == world.rank:
                if task.has_classes and not are_classes(targets):
                    raise UserError(
                        f"evaluation counts right classes, and labels of {targets.dtype} and shape "
                        f"{list(targets.shape)} are none: trainer.predict(X, scores=True) gives the outputs, to be "
                        "judged by a measure of your own"
                    )

                def check(outputs: Tensor, targets: Tensor = targets, first: int = before) -> None:
                    if not targets.is_cuda:  # those on a CUDA device are not waited for
                        task.check(targets, outputs, first=first)

                judge, mean, outputs = _read_out(net, batch, task, chunk, check, loss)
                found = judge.sums()
                if loss is not None:
                    found["loss"] = _own_loss(loss, torch.cat(outputs), batch).double() * len(targets)
                sums = added(sums, found)
                output += float(mean) * len(targets)
            before += len(targets)
    sums = {name: value.cpu() for name, value in sums.items()}
    if world.size > 1:
        parts = world.gather((sums, output))
        sums, output = {}, sum(each for _, each in parts)
        for own, _ in parts:
            sums = added(sums, own)
    metrics = task.metrics(sums, scale)
    mean_loss = float(sums["loss"]) / before if "loss" in sums else None
    return Evaluation(metrics[task.score], mean_loss, metrics, output / before)


def _own_loss(loss: Callable[..., Tensor], outputs: Tensor, batch: Batch) -> Tensor:
    """Compute the loss of a method, a function of whole outputs."""
    if batch.mask is None or not takes(loss, "weights"):
        return loss(outputs, batch.targets)
    return loss(outputs, batch.targets, weights=step_weights(batch.mask[: len(outputs)], None, outputs.dtype))


def outputs_over(
    net: Module,
    loader: Iterable[Any],
    batch_of: Callable[[Any, Tensor], Batch],
    *,
    task: Task,
    seed: int,
    device: torch.device,
    chunk: int | None = None,
    scores: bool = True,
) -> Tensor:
    """Read the outputs for all samples, on the CPU; targets are ignored.

    The arguments are those of :func:`evaluate`; the ``loader`` may hand out inputs alone.

    Args:
        net: the network.
        loader: inputs, or pairs of samples and targets.
        batch_of: function that makes a :class:`Batch` of samples and targets on the device.
        task: task that reads the outputs.
        seed: seed of the random numbers.
        device: device of the network.
        chunk: steps that run at a time.
        scores: whether the reading itself is returned, ``[N, C]`` (``[N, T, C]`` where every step is read), and not the
            prediction.
    """
    found: list[Tensor] = []
    with evaluating(net, seed, device):
        for given in loader:
            x = checked_inputs(given[0] if isinstance(given, (tuple, list)) and len(given) else given, None)
            batch = batch_of(x.to(device), torch.zeros(len(x), dtype=torch.int64, device=device))
            judge = _read_out(net, batch, task, chunk, None)[0]
            found.append((judge.reading() if scores else judge.predictions()).cpu())
    longest = max(part.shape[1] if part.dim() > 1 else 0 for part in found)
    return torch.cat([_padded(part, longest, 0 if scores else NONE) for part in found])


def _padded(part: Tensor, longest: int, value: int) -> Tensor:
    """Pad ``part`` ``[B, T, …]`` to as many steps as the longest of all batches."""
    if part.dim() < 2 or part.shape[1] == longest:
        return part
    more = part.new_full((len(part), longest - part.shape[1], *part.shape[2:]), value)
    return torch.cat([part, more], 1)


def _read_out(
    net: Module,
    batch: Batch,
    task: Task,
    chunk: int | None,
    check: Callable[[Tensor], None] | None,
    loss: Callable[..., Tensor] | None = None,
) -> tuple[Judge, Tensor, list[Tensor]]:
    """Run a batch; return a judge of the outputs, their mean over the steps that count, and all of them for a ``loss``.

    ``check`` is called with outputs ``[T, B, C]``; without it there are no targets.
    """
    targets, (steps, samples) = None if check is None else batch.targets, batch.sequence.shape[:2]
    judge = task.judge(targets, batch.mask, steps, samples, loss=check is not None and loss is None)
    means: list[Tensor] = []
    kept: list[Tensor] = []
    start = 0
    for outputs, mask in outputs_in_chunks(net, batch, chunk):
        if check is not None and start == 0:
            check(outputs[:1].expand(steps, *outputs.shape[1:]))
        judge.add(outputs, start)
        means.append(mean_over_steps(outputs, mask, None if chunk is None else batch.counted))
        kept += [] if loss is None else [outputs]
        start += len(outputs)
    return judge, sum(means[1:], means[0]), kept


@dataclass(frozen=True)
class Decisions:
    """Outcome of deciding as soon as the leading class is ahead of the second by ``margin``.

    Attributes:
        margin: in units of the outputs, summed over the steps that count so far: spikes, for spikes.
        accuracy: accuracy of the decisions, between 0 and 1.
        mean_step: steps seen at the decision, on average: 1 for one after the first step.
        decided: share of the samples that reached the margin; the others were decided at the end of their sequence.
    """

    margin: float
    accuracy: float
    mean_step: float
    decided: float


@dataclass(frozen=True)
class EarlyReadout:
    """Accuracy over a data set before its sequences have ended.

    Attributes:
        steps: 1 to the length of the longest sequence.
        accuracy: accuracy after each of ``steps``, by the outputs accumulated over the steps that count so far;
            sequences that have ended keep their class, and those without a step that counts so far have none.
        decisions: decisions for each margin.
        samples: number of samples.
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
    """Measure the accuracy after each step, and the accuracy of decisions by margin; every batch starts from rest.

    Augmentation is left out; the network's mode and the random state are kept.

    Args:
        trained: a trainer, which says how samples become sequences, how many steps are read out and how many run at a
            time; or a network, for a data set of :class:`~spikelfp.data.loader.Sequences`.
        dataset: data as in :meth:`Trainer.fit <spikelfp.training.Trainer.fit>`, with class numbers as labels.
        margins: margins of the decisions, in units of the summed outputs.
        batch_size: samples of a batch; by default that of the trainer, else 128.
        chunk: steps that run at a time; by default those of the trainer, else whole sequences.

    Returns:
        Accuracies and decisions.

    Raises:
        UserError: for a margin that is negative or not finite, and static samples without a trainer.
        ShapeError: for a network with a single output, which is never ahead of a second one.
    """
    for margin in margins:
        if not (math.isfinite(margin) and margin >= 0):
            raise UserError(f"a margin is a finite number of 0 or more, got {margin}")
    if not isinstance(trained, Module) and not trained.task.has_classes:
        raise UserError(f"early readout is of classes, and the task of this trainer is {trained.task.name}")
    net, batch_of, device, size, chunk, seed = _settings(trained, batch_size, chunk)
    loader = source_of(dataset, size, 0, 0, "test").in_order()
    counts = _Counts(tuple(float(margin) for margin in margins), device)
    with evaluating(net, seed, device):
        for x, labels in map(pair, loader):
            counts.add(batch_of(x.to(device), labels.to(device)), net, chunk)
    return counts.result()


def so_far(net: torch.nn.Module, batch: Batch, chunk: int | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Accumulate the outputs of a batch from rest, ``chunk`` steps at a time (``None``: all).

    Yields:
        For each chunk of ``k`` steps the outputs summed over the steps that count so far, ``[k, B, C]``; whether a
        sample has had any such step, ``[k, B]``; and which steps count, ``[k, B]``, or ``None`` for all.
    """
    summed, read = torch.zeros(()), torch.zeros(len(batch.targets), dtype=torch.bool)
    for outputs, mask in outputs_in_chunks(net, batch, chunk):
        sums = (outputs if mask is None else masked(outputs, mask)).cumsum(0) + summed.to(outputs.device)
        answered = torch.ones(sums.shape[:2], dtype=torch.bool) if mask is None else mask.cumsum(0).bool()
        answered = answered.to(sums.device) | read.to(sums.device)
        summed, read = sums[-1], answered[-1]
        yield sums, answered, mask


class _Counts:
    """Sums over the batches so far."""

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
    """Return the number of the last step of each sample that counts, counted from 1, ``[B]``."""
    if batch.mask is None:
        return torch.full_like(batch.targets, steps)
    numbers = torch.arange(1, len(batch.mask) + 1, device=batch.mask.device).unsqueeze(1)
    return (batch.mask * numbers).amax(0)


def _settings(
    trained: Trainer | torch.nn.Module, batch_size: int | None, chunk: int | None
) -> tuple[torch.nn.Module, Callable[[Any, Tensor], Batch], torch.device, int, int | None, int]:
    """Return network, function that makes a batch, device, batch size, chunk and seed."""
    if not isinstance(trained, Module):
        size, chunk = batch_size or trained.batch_size, chunk or trained.read_chunk
        return trained.net, trained.batch, trained.device, size, chunk, trained.seed
    device = next((p.device for p in trained.parameters()), torch.device("cpu"))
    return trained, _sequences, device, batch_size or 128, chunk, 0


def _sequences(x: Any, labels: Tensor) -> Batch:
    if not isinstance(x, Sequences):
        raise UserError("a network alone takes a data set of sequences: hand in its trainer for static samples")
    return Batch(x.values, labels, counting_steps(x.values, x.lengths, None))
