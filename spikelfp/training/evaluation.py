"""Score and loss over a data set, and the outputs for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.data.samples import TargetScale
from spikelfp.errors import UserError
from spikelfp.methods import Batch
from spikelfp.methods.base import mean_over_steps, step_weights
from spikelfp.rewards.base import takes
from spikelfp.tasks import Judge, Task
from spikelfp.tasks.classification import are_classes
from spikelfp.tasks.sequence_labels import NONE
from spikelfp.training.chunks import outputs_of
from spikelfp.training.parallel import World
from spikelfp.training.sources import checked_inputs, pair
from spikelfp.training.update import added


class Evaluation(NamedTuple):
    """Worth of a network over a data set.

    Attributes:
        score: of its task: the accuracy, between 0 and 1, for classes.
        loss: mean over the samples, of the targets as they are given; ``None`` where outputs have none, as a single one
            whose sign names a class.
        metrics: the score and all else that the task tells, by name.
        mean_output: of the steps that count, for spikes the rate.
    """

    score: float
    loss: float | None
    metrics: dict[str, float]
    mean_output: float

    def row(self, part: str, task: Task) -> dict[str, float]:
        """The columns of ``metrics.csv`` for a part of the data, ``train``, ``validation`` or ``test``."""
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
    """Within the block the network is in evaluation mode and makes no graphs, and random numbers are those of ``seed``.

    Its mode and the random state of training are as before behind the block.
    """
    training = net.training
    net.eval()
    try:
        # Random encodings draw the same numbers at every evaluation and leave those of training alone.
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        net.train(training)


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
    """Score by what is read of the steps that count; from rest for every batch, the network's mode and random state
    kept.

    Several workers take turns at the batches of the ``loader``, the same for all, and all of them get the result of the
    whole.

    Args:
        net: the network.
        loader: pairs of samples and targets.
        batch_of: makes a :class:`Batch` of samples and targets on the device.
        task: says how outputs are read and judged.
        seed: of the random numbers.
        device: of the network.
        world: the workers.
        loss: of the method, where it is not that of the task.
        chunk: steps that run at a time, each chunk from the state that the one before left; by default the whole
            sequence. A ``loss`` of its own needs the outputs of a batch in memory even then.
        scale: of the targets.

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
    """The loss of a method, a function of whole outputs."""
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
    """Reads the outputs for all samples, on the CPU; targets are left out of account.

    The arguments are those of :func:`evaluate`; the ``loader`` may hand out inputs alone.

    Args:
        scores: the reading itself, ``[N, C]`` (``[N, T, C]`` where every step is read), in place of what it stands for.
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
    """``part`` ``[B, T, …]`` of as many steps as the longest of all batches."""
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
    """A judge of the outputs, their mean over the steps that count, and all of them where a ``loss`` needs them.

    check: is shown outputs of the form ``[T, B, C]``; without it there are no targets.
    """
    targets, (steps, samples) = None if check is None else batch.targets, batch.sequence.shape[:2]
    judge = task.judge(targets, batch.mask, steps, samples, loss=check is not None and loss is None)
    means: list[Tensor] = []
    kept: list[Tensor] = []
    start = 0
    for outputs, mask in outputs_of(net, batch, chunk):
        if check is not None and start == 0:
            check(outputs[:1].expand(steps, *outputs.shape[1:]))
        judge.add(outputs, start)
        means.append(mean_over_steps(outputs, mask, None if chunk is None else batch.counted))
        kept += [] if loss is None else [outputs]
        start += len(outputs)
    return judge, sum(means[1:], means[0]), kept
