"""Accuracy over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp.errors import ShapeError, UserError
from spikelfp.methods import Batch, Method
from spikelfp.methods.batch import mean_over_steps
from spikelfp.training.chunks import outputs_of
from spikelfp.training.credit import are_classes, classes_by
from spikelfp.training.parallel import World
from spikelfp.training.sources import checked_inputs, pair
from spikelfp.training.state import scores


class Evaluation(NamedTuple):
    """Accuracy over a data set, between 0 and 1, and the mean output per step that counts (the rate, for spikes)."""

    accuracy: float
    mean_output: float


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
    seed: int,
    device: torch.device,
    world: World,
    method: Method | None = None,
    chunk: int | None = None,
) -> Evaluation:
    """Accuracy by outputs accumulated over the steps that count; from rest for every batch, the network's mode and
    random state kept.

    Several workers take turns at the batches of the ``loader``, the same for all, and all of them get the result of the
    whole.

    Args:
        net: the network.
        loader: pairs of samples and labels.
        batch_of: makes a :class:`Batch` of samples and labels on the device.
        seed: of the random numbers.
        device: of the network.
        world: the workers.
        method: says which class outputs stand for; ``None``: the one with the largest output.
        chunk: steps that run at a time, each chunk from the state that the one before left; by default the whole
            sequence.

    Raises:
        UserError: for labels or outputs that are no classes: there is no accuracy then.
    """
    world.copy(net.buffers())  # running statistics are each worker's own
    correct, total, output = torch.zeros((), dtype=torch.int64, device=device), 0, 0.0
    with evaluating(net, seed, device):
        for number, (x, labels) in enumerate(map(pair, loader)):
            if not are_classes(labels):
                raise UserError(
                    f"evaluation counts right classes, and labels of {labels.dtype} and shape {list(labels.shape)} are "
                    "none: trainer.predict(X, scores=True) gives the outputs, to be judged by a measure of your own"
                )
            batch = batch_of(x.to(device), labels.to(device))  # by every worker: all draw what one alone would
            if number % world.size == world.rank:
                summed, mean = _read_out(net, batch, chunk)
                found = classes_by(method, summed)
                check_within_outputs(labels, max(summed.shape[-1], 2), total)
                correct += (found == batch.targets).sum()
                total += len(labels)
                output += float(mean) * len(labels)
    right, of, mean_output = (float(value) for value in world.sum([correct, total, output], device))
    return Evaluation(right / of, mean_output / of)


def check_within_outputs(labels: Tensor, count: int, before: int = 0) -> None:
    """Refuse labels that no output stands for: all of these samples would count as wrong.

    Args:
        labels: ``[B]``; those on a CUDA device are not waited for, and pass.
        count: of the classes.
        before: samples of the data set before these.

    Raises:
        ShapeError: naming the first of them.
    """
    outside = (labels < 0) | (labels >= count)
    if not labels.is_cuda and outside.any():
        first = int(outside.nonzero()[0])
        raise ShapeError(
            f"label {int(labels[first])} of sample {before + first} is outside 0 to {count - 1}: the network tells "
            f"{count} classes apart"
        )


def outputs_over(
    net: Module,
    loader: Iterable[Any],
    batch_of: Callable[[Any, Tensor], Batch],
    *,
    seed: int,
    device: torch.device,
    chunk: int | None = None,
) -> Tensor:
    """Outputs of all samples summed over the steps that count, ``[N, C]`` on the CPU; labels are left out of account.

    The arguments are those of :func:`evaluate`; the ``loader`` may hand out inputs alone.
    """
    found: list[Tensor] = []
    with evaluating(net, seed, device):
        for given in loader:
            x = checked_inputs(given[0] if isinstance(given, (tuple, list)) and len(given) else given, None)
            batch = batch_of(x.to(device), torch.zeros(len(x), dtype=torch.int64, device=device))
            found.append(_read_out(net, batch, chunk)[0].cpu())
    return torch.cat(found)


def _read_out(net: Module, batch: Batch, chunk: int | None) -> tuple[Tensor, Tensor]:
    """Outputs summed over the steps that count, ``[B, C]``, and their mean."""
    parts = [
        (scores(outputs, mask), mean_over_steps(outputs, mask, None if chunk is None else batch.counted))
        for outputs, mask in outputs_of(net, batch, chunk)
    ]
    summed, means = zip(*parts, strict=True)
    return sum(summed[1:], summed[0]), sum(means[1:], means[0])
