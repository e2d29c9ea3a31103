"""Batches whose order is a pure function of (seed, epoch): repeatable, resumable, shardable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from spikelfp.data.samples import innermost
from spikelfp.data.sequences import Fetched
from spikelfp.errors import DataError, ShapeError, UserError


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on every part of ``key`` and on their order.

    The key is hashed, because sums and products of seeds collide: ``(seed=0, epoch=1)`` and ``(1, 0)`` must
    not give the same order. The same key gives the same stream in every process and Python version.
    """
    parts = [part if isinstance(part, str) else int(part) for part in key]  # numpy integers print otherwise
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


MOST_WORKERS = 256
"""Processes that load data; the same on every machine, for a run folder goes from one to another."""


class EpochSampler(Sampler[list[int]]):
    """The index lists of one epoch, for ``DataLoader(batch_sampler=...)``.

    Args:
        n: number of samples.
        batch_size: samples of a global batch, over all ranks; the last batch of an epoch may be smaller.
        seed, epoch: together they fix the order; torch's global generator is neither read nor changed.
        start: batches of this epoch that were consumed already; iteration goes on behind them.
        shuffle: ``False`` keeps the order of the data.
        rank, world_size: each global batch of ``m`` samples is cut into ``world_size`` contiguous slices and
            this sampler gives slice ``rank``, ``[m * rank // world_size, m * (rank + 1) // world_size)``. The
            slices together are exactly the batch of a single process. Every rank sees the same number of
            batches; in a last batch with fewer samples than ranks some slices are empty, and slices can
            differ by one sample, so weigh averages by their lengths (or use ``drop_last`` and a multiple of
            ``world_size``).
        drop_last: leave out a last batch that is not full.

    Raises:
        UserError: for a number out of range, which the text names.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        epoch: int,
        start: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        _require(n >= 1, f"there must be at least one sample, got {n}")
        _require(batch_size >= 1, f"batch size must be at least 1, got {batch_size}")
        _require(epoch >= 0, f"epoch must be 0 or more, got {epoch}")
        _require(world_size >= 1, f"world size must be at least 1, got {world_size}")
        _require(0 <= rank < world_size, f"rank must be 0 to {world_size - 1}, got {rank}")
        _require(
            batch_size >= world_size,
            f"batch size {batch_size} is below the world size {world_size}: some ranks would get nothing",
        )
        self.total = n // batch_size if drop_last else -(-n // batch_size)
        _require(self.total >= 1, f"{n} samples make no full batch of {batch_size}: lower it or keep the last one")
        _require(0 <= start <= self.total, f"start must be 0 to {self.total} batches, got {start}")
        self.n, self.batch_size, self.seed, self.epoch, self.start = n, batch_size, seed, epoch, start
        self.shuffle, self.rank, self.world_size = shuffle, rank, world_size

    def __len__(self) -> int:
        """Batches that are left in this epoch."""
        return self.total - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        for batch in range(self.start, self.total):
            first = batch * self.batch_size
            size = min(self.batch_size, self.n - first)
            begin = first + size * self.rank // self.world_size
            end = first + size * (self.rank + 1) // self.world_size
            yield order[begin:end].tolist()

    def _order(self) -> torch.Tensor:
        if not self.shuffle:
            return torch.arange(self.n)
        return torch.randperm(self.n, generator=generator("epoch", self.seed, self.epoch))


@runtime_checkable
class EpochDataset(Protocol):
    """A data set whose samples differ from epoch to epoch, such as :class:`~spikelfp.data.Augmented`."""

    def at_epoch(self, seed: int, epoch: int) -> Dataset[Any]:
        """The samples of ``epoch``, a function of the two numbers alone."""


def batches(
    dataset: Dataset[Any],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    shuffle: bool = True,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """The batches of one epoch of a sized, indexable ``dataset``, in the order of :class:`EpochSampler`.

    A data set whose ``__getitems__`` gives a tuple has built the batch itself, such as
    :class:`~spikelfp.data.ArrayDataset` (float32 ``[B, ...]``, int64 ``[B]``) and
    :class:`~spikelfp.data.events.EventDataset` (:class:`~spikelfp.data.sequences.Sequences` ``[T, B, ...]``, int64
    ``[B]``). Samples of any other are put together by torch's default. The number of ``workers`` (processes) changes
    nothing but the speed, and iterating again gives the same batches. An :class:`EpochDataset` is asked for the
    samples of ``(seed, epoch)`` first.

    Raises:
        UserError: for a number out of range, which the text names.
    """
    check_workers(workers)
    size = len(dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(size, batch_size, seed, epoch, start, shuffle, rank, world_size, drop_last)
    dataset = at_epoch(dataset, seed, epoch)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=min(workers, len(sampler)),
        collate_fn=_collate,
        pin_memory=pin_memory,
        # without one of its own, the loader draws the workers' seed from torch's global generator
        generator=generator("workers", seed, epoch),
    )


def check_workers(workers: int) -> None:
    """Refuse a number of processes that load data which would bring a machine down.

    Raises:
        UserError: with the most there may be.
    """
    _require(workers >= 0, f"workers must be 0 or more, got {workers}")
    _require(workers <= MOST_WORKERS, f"workers must be at most {MOST_WORKERS}, got {workers}")


def at_epoch(dataset: Dataset[Any], seed: int, epoch: int) -> Dataset[Any]:
    """The data set with the samples of ``epoch``, also behind ``Subset`` and ``random_split``."""
    return innermost(dataset, lambda own: own.at_epoch(seed, epoch) if isinstance(own, EpochDataset) else own)


def _collate(fetched: Any) -> Any:
    if isinstance(fetched, Fetched):
        return fetched.plain()
    if isinstance(fetched, tuple):
        return fetched
    if len(fetched) == 0:
        raise ShapeError("a rank got an empty slice of the last batch, which this data set cannot build: drop it")
    try:
        return default_collate(fetched)
    except (TypeError, RuntimeError) as error:
        sample = fetched[0]
        kinds = ", ".join(map(_kind, sample)) if isinstance(sample, (tuple, list)) else _kind(sample)
        raise DataError(
            f"these samples ({kinds}) cannot be put together into a batch: {str(error).splitlines()[0]}; samples are "
            "pairs of a tensor, the same shape for all, and a label (sequences of unequal lengths: data.arrays, or a "
            "DataLoader with collate_fn=data.collate)"
        ) from None


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)
