"""Sources of a trainer: a data set, a ``DataLoader``, the parts of a data set, or arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from spikelfp.data import ArrayDataset, DataSplits, arrays, batches
from spikelfp.data.loader import Sequences, at_epoch
from spikelfp.data.samples import (
    TargetScale,
    fingerprint_of,
    labels_of,
    numbers_at,
    target_scale_of,
    unaugmented,
)
from spikelfp.errors import DataError, UserError
from spikelfp.training.parallel import SINGLE_WORKER, World
from spikelfp.training.update import Position

FORMS = "a data set, a DataLoader, a DataSplits or arrays (X, y)"


class SourceBatch(NamedTuple):
    """Batch of this worker.

    Attributes:
        inputs: inputs of the samples.
        labels: labels of the samples, ``[B, …]``.
        of: number of samples that all workers have of the batch.
        indices: int64 ``[B]``, numbers of the samples in the data set that the training set was taken from, where they
            are known.
    """

    inputs: Any
    labels: Tensor
    of: int
    indices: Tensor | None = None


class FromDataset:
    """Batches of a data set in the order of seed and epoch (:func:`spikelfp.data.batches`)."""

    def __init__(self, dataset: Dataset[Any], batch_size: int, seed: int, workers: int) -> None:
        self.dataset, self.batch_size, self.seed, self.workers = dataset, batch_size, seed, workers
        self.samples = len(dataset)  # type: ignore[arg-type]
        if self.samples == 0:
            raise DataError(f"{type(dataset).__name__} has no samples")

    @property
    def labels(self) -> Tensor | None:
        """Labels of the whole data set, where they are known without fetching it."""
        return labels_of(self.dataset)

    @property
    def target_scale(self) -> TargetScale | None:
        """Standardisation of real targets, where the data set knows it."""
        return target_scale_of(self.dataset)

    def fingerprint(self) -> str:
        """Hash the samples and their order; empty if they are not known."""
        return fingerprint_of(self.dataset)

    @property
    def drawn(self) -> bool:
        """Whether chance draws the inputs of a sample anew in every epoch."""
        return at_epoch(self.dataset, 0, 0) is not self.dataset

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.samples // self.batch_size)

    def epoch(self, position: Position, world: World) -> Iterator[SourceBatch]:
        """Yield the batches that are left of an epoch; with several workers, this one's share of each."""
        loader = batches(
            self.dataset, self.batch_size, seed=self.seed, epoch=position.epoch, start=position.batch,
            workers=self.workers, rank=world.rank, world_size=world.size,
        )  # fmt: skip
        order: Any = loader.batch_sampler  # gives the same each time it is gone through
        for number, (batch, chosen) in enumerate(zip(loader, order, strict=True), start=position.batch):
            x, labels = pair(batch)
            of = min(self.batch_size, self.samples - number * self.batch_size)
            yield SourceBatch(x, labels, of, numbers_at(self.dataset, torch.tensor(chosen, dtype=torch.int64)))

    def first(self, position: Position) -> SourceBatch:
        """Return the first batch that is left of an epoch, whole, loaded in this process."""
        here = FromDataset(self.dataset, self.batch_size, self.seed, workers=0)
        at = Position(position.epoch, min(position.batch, len(self) - 1), position.step)
        return next(here.epoch(at, SINGLE_WORKER))

    def in_order(self) -> DataLoader[Any]:
        """Return a loader of all samples in the order of the data, without augmentation."""
        return batches(unaugmented(self.dataset), self.batch_size, seed=0, epoch=0, shuffle=False, workers=self.workers)


class FromLoader:
    """Batches of a ``DataLoader``, in its own size and order."""

    labels: Tensor | None = None
    target_scale: TargetScale | None = None
    drawn = False

    def fingerprint(self) -> str:
        """Return an empty text, since a loader may draw its samples anew."""
        return ""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        try:
            count = len(loader)
        except TypeError:
            raise UserError(
                "this DataLoader has no length, so that an epoch has no end: give its data set a __len__, or hand in a "
                "data set with __getitem__ and __len__"
            ) from None
        if count == 0:
            raise DataError("this DataLoader has no batches: there are no samples, or drop_last leaves out all of them")
        if at_epoch(loader.dataset, 0, 0) is not loader.dataset:
            raise UserError(
                f"the augmentations of {type(loader.dataset).__name__} belong to an epoch, of which a DataLoader knows "
                "nothing: hand in the data set itself"
            )
        if not isinstance(loader.dataset, IterableDataset):
            self.labels = labels_of(loader.dataset)
            self.target_scale = target_scale_of(loader.dataset)

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return len(self.loader)

    def epoch(self, position: Position, world: World) -> Iterator[SourceBatch]:
        """Yield the batches of an epoch, which begins at its beginning.

        Raises:
            UserError: in the middle of an epoch, and for several workers.
        """
        self.check(position, world)
        for batch in self.loader if position.batch == 0 else ():
            x, labels = pair(batch)
            yield SourceBatch(x, labels, len(labels))

    def check(self, position: Position, world: World) -> None:
        """Refuse to go on in the middle of an epoch, and several workers, since the loader has an order of its own."""
        if world.size > 1:
            raise UserError("several workers share the batches of a data set: hand in the data set, not a DataLoader")
        if 0 < position.batch < len(self):
            raise UserError(
                f"a DataLoader begins with its first batch, and training stands after batch {position.batch} of an "
                "epoch: go on from a checkpoint of an epoch's end, or train with the data set itself, whose order the "
                "trainer knows"
            )

    def first(self, position: Position) -> SourceBatch:
        """Return the first batch, and leave the loader as if it had not been asked."""
        generator = self.loader.generator
        state = None if generator is None else generator.get_state()
        with torch.random.fork_rng(devices=[]):
            x, labels = pair(next(iter(self.loader)))
        if generator is not None and state is not None:
            generator.set_state(state)
        return SourceBatch(x, labels, len(labels))

    def in_order(self) -> DataLoader[Any]:
        """Return the loader, whatever its order."""
        return self.loader


Source = FromDataset | FromLoader


def source_of(data: Any, batch_size: int, seed: int, workers: int, part: str = "train") -> Source:
    """Make a source of the data that a trainer was handed.

    Args:
        data: a map-style data set of pairs, a ``DataLoader`` of them, a :class:`~spikelfp.data.DataSplits`, or a pair
            of arrays.
        batch_size: samples of a batch; a loader has its own.
        seed: seed of the order of the samples; a loader has its own order.
        workers: processes that load data; a loader has its own.
        part: part of a ``DataSplits``.

    Raises:
        UserError: for anything else, and for data without samples.
    """
    if isinstance(data, (FromDataset, FromLoader)):
        return data
    if isinstance(data, DataLoader):
        return FromLoader(data)
    if isinstance(data, DataSplits):
        data = getattr(data, part)
    elif is_pair(data):
        data = _of_pair(*data)
    elif isinstance(data, (Tensor, np.ndarray, Sequences)):
        raise UserError(
            f"{type(data).__name__} of shape {list(getattr(data, 'shape', []))} has no labels: hand in {FORMS}"
        )
    elif isinstance(data, IterableDataset):
        raise UserError(
            "a data set that is only iterated has no order to shuffle and resume: put a DataLoader around it"
        )
    elif not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(data, (str, dict, bytes)):
        raise UserError(f"training data is {FORMS}, got {type(data).__name__}")
    return FromDataset(data, batch_size, seed, workers)


def unshuffled(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return the loader, unless it shuffles, so that nobody could tell which output belongs to which sample.

    Raises:
        UserError: for a loader that shuffles.
    """
    if isinstance(getattr(loader.batch_sampler, "sampler", loader.sampler), RandomSampler):
        raise UserError(
            "predictions of a DataLoader that shuffles are in an order of chance: make it with shuffle=False"
        )
    return loader


def pair(batch: Any) -> tuple[Any, Tensor]:
    """Split a batch into inputs and labels, checked to belong together.

    Raises:
        DataError: for anything but a pair of tensors (or sequences and a tensor) of as many samples.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        found = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise DataError(f"a batch is a pair (inputs, labels), got {found}: let the data set return (x, y)")
    x, labels = batch
    if not isinstance(labels, Tensor):
        raise DataError(f"the labels of a batch are a tensor, got {type(labels).__name__}: number the classes from 0")
    if labels.dim() == 0:
        raise DataError(
            "a batch has a label for each of its samples, [B, …], and this one has a single number: give the "
            "DataLoader a batch_size, or let the data set return whole batches"
        )
    return checked_inputs(x, len(labels)), _integers(labels)


def checked_inputs(x: Any, count: int | None) -> Any:
    """Check the inputs of a batch.

    Args:
        x: sequences, or a dense floating-point or boolean tensor ``[B, …]``.
        count: number of samples; ``None``: any.

    Returns:
        The inputs, floating-point.

    Raises:
        DataError: for anything else, another number of samples, and values that are not finite.
    """
    if isinstance(x, Sequences):
        samples = len(x)
    elif isinstance(x, Tensor) and x.layout is torch.strided and x.dim() > 0:
        samples = len(x)
        if not x.is_floating_point() and x.dtype != torch.bool:
            raise DataError(f"inputs are floating-point, got {x.dtype}: scale them to [0, 1], such as x.float() / 255")
        x = x.float() if x.dtype == torch.bool else x
    else:
        kind = f"tensor of layout {x.layout}" if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"the inputs of a batch are a dense tensor [B, …] or data.Sequences, got {kind}")
    if count is not None and samples != count:
        first = isinstance(x, Tensor) and x.dim() > 1 and x.shape[1] == count
        hint = ": time first? hand them over as data.Sequences(x), or samples first" if first else ""
        raise DataError(f"{samples} samples but {count} labels in a batch: each sample needs exactly one{hint}")
    _check_finite(x)
    return x


def _check_finite(x: Tensor | Sequences) -> None:
    """Refuse NaN and infinity, which spikes would hide: a membrane that is NaN does not fire. CUDA is not waited for.

    Raises:
        DataError: naming the first such sample of the batch, and the place in it.
    """
    values = x.values if isinstance(x, Sequences) else x
    inside = values._values() if values.is_sparse else values
    # the sum of large numbers may overflow, but that of numbers with a NaN or infinity is always one
    if inside.is_cuda or bool(torch.isfinite(inside.sum())) or bool(torch.isfinite(inside).all()):
        return
    wrong = (~torch.isfinite(inside)).nonzero()[0]
    place = (values._indices()[:, int(wrong[0])] if values.is_sparse else wrong).tolist()
    sample = place.pop(1 if isinstance(x, Sequences) else 0)
    what = float(inside[tuple(wrong.tolist())])
    where = f" at step {place[0]}, place {place[1:]}" if isinstance(x, Sequences) else f" at place {place}"
    raise DataError(f"sample {sample} of a batch holds {what}{where}: inputs are finite numbers")


def _integers(labels: Tensor) -> Tensor:
    """Cast integer labels to int64, which losses need."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.int64:
        return labels
    return labels.long()


def are_labelled(data: Any) -> bool:
    """Whether data is arrays ``(X, y)`` or a list of samples ``(x, y)``, and not inputs alone."""
    samples = isinstance(data, (tuple, list)) and len(data) > 0 and isinstance(data[0], tuple) and len(data[0]) == 2
    return samples or is_pair(data)


def is_pair(data: Any) -> bool:
    """Whether data is a pair ``(X, y)``, and not a list of samples."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    first = data[0]
    return not isinstance(first, (tuple, str)) or isinstance(data, tuple)


def _array(labels: Any) -> Any:
    """Read labels as a numpy array."""
    try:
        return np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    except ValueError:
        raise DataError(
            "the labels have unequal lengths, and the inputs are one array: hand in a list of sequences with them, or "
            "data.arrays(X, y, lengths=…)"
        ) from None


def _of_pair(inputs: Any, labels: Any) -> Dataset[Any]:
    """Make a data set of arrays, with classes or targets of any kind."""
    if isinstance(inputs, Sequences):
        raise UserError("sequences with labels: data.arrays(X, y, sequences=True, lengths=…), samples first")
    if isinstance(inputs, (list, tuple)) and isinstance(labels, (list, tuple)):
        return arrays(inputs, labels)  # of unequal lengths, it may be
    numbers = labels if isinstance(labels, Tensor) else _array(labels)
    shape = tuple(numbers.shape)
    real = numbers.is_floating_point() if isinstance(numbers, Tensor) else numbers.dtype.kind == "f"
    binary = len(shape) == 2 and shape[1] > 1 and bool(((numbers == 0) | (numbers == 1)).all())
    if len(shape) == 1 or (len(shape) == 2 and (real or binary)) or not isinstance(inputs, (Tensor, np.ndarray)):
        return arrays(inputs, labels)
    count = len(inputs)
    if not shape or shape[0] != count:
        raise DataError(f"{count} samples but labels of shape {list(shape)}: each sample needs exactly one")
    known = arrays(inputs, np.zeros(count, np.int64))  # checks the inputs
    if not isinstance(known, ArrayDataset):
        return arrays(inputs, labels)
    ys = torch.as_tensor(numbers).detach()  # of a reward with targets of its own
    ys = ys.float() if ys.is_floating_point() else _integers(ys)
    if ys.is_floating_point() and not torch.isfinite(ys).all():
        raise DataError("the targets hold NaN or infinity")
    return TensorDataset(known.values(known.images), ys)
