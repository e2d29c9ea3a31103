"""Sequences of equal or different lengths, how samples become batches, and the order of the batches of an epoch.

Static samples become ``[B, …]``, sequences ``[T, B, …]``, in any ``torch.utils.data.DataLoader``. The order is a pure
function of seed and epoch: it can be repeated, resumed within an epoch, and cut into slices for several processes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from spikelfp.data.samples import innermost
from spikelfp.errors import DataError, ShapeError, UserError


@dataclass(frozen=True, eq=False)
class Sequences:
    """Batch of sequences ``[T, B, …]``, time first, padded with zeros after their ends to the longest of them.

    Attributes:
        values: float32 ``[T, B, …]``, dense or as a coalesced sparse COO tensor.
        lengths: int64 ``[B]``, steps of each sequence, 1 to ``T``; ``None``: all have ``T``.

    Raises:
        ShapeError: for lengths that do not fit the values.
    """

    values: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values.dim() < 2:
            raise ShapeError(f"sequences are [T, B, …], got shape {tuple(self.values.shape)}")
        if self.lengths is None:
            return
        steps, samples = self.values.shape[:2]
        if self.lengths.shape != (samples,):
            raise ShapeError(f"{samples} sequences need as many lengths, got shape {tuple(self.lengths.shape)}")
        if samples and not 1 <= int(self.lengths.min()) <= int(self.lengths.max()) <= steps:
            raise ShapeError(
                f"lengths must be 1 to {steps}, got {int(self.lengths.min())} to {int(self.lengths.max())}"
            )

    def __repr__(self) -> str:
        steps, samples, *shape = self.values.shape
        kind = str(self.values.dtype).removeprefix("torch.") + (", sparse" if self.values.is_sparse else "")
        lengths = ""
        if self.lengths is not None and samples:
            lengths = f", lengths {int(self.lengths.min())} to {int(self.lengths.max())}"
        return f"Sequences({steps} steps of {samples} samples of {tuple(shape)}{lengths}, {kind}, {self.values.device})"

    def __len__(self) -> int:
        """Number of samples of the batch."""
        return self.values.shape[1]

    def to(self, device: torch.device) -> Sequences:
        """Move the batch to another device.

        Args:
            device: where to.
        """
        return Sequences(self.values.to(device), None if self.lengths is None else self.lengths.to(device))

    def pin_memory(self) -> Sequences:
        """Copy the batch to pinned memory; torch's ``DataLoader`` asks for it."""
        return Sequences(self.values.pin_memory(), None if self.lengths is None else self.lengths.pin_memory())

    @property
    def mask(self) -> Tensor | None:
        """Boolean ``[T, B]``, true for the steps of a sequence and false for its padding; ``None`` without padding."""
        if self.lengths is None:
            return None
        return torch.arange(len(self.values), device=self.lengths.device).unsqueeze(1) < self.lengths


def mask_of(x: Tensor | Sequences) -> Tensor | None:
    """Make the mask of a batch, boolean ``[T, B]``, false for padding; ``None`` without padding."""
    return x.mask if isinstance(x, Sequences) else None


class _Marked(Tensor):
    """Tensor whose type tells how it is collated; every operation on it, and every file, gives a plain tensor."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.as_subclass(Tensor), memo)


class Whole(_Marked):
    """Inputs ``[B, …]`` of a batch that is put together already."""


class Frames(_Marked):
    """One sequence ``[T, …]``, a sample."""


class Fetched(tuple[Any, Tensor]):
    """Batch ``(inputs, labels)`` that ``__getitems__`` of this package's data sets has put together."""

    def plain(self) -> tuple[Any, Tensor]:
        """Return the pair, with inputs of an ordinary type."""
        x, labels = self
        return x.as_subclass(Tensor) if isinstance(x, Whole) else x, labels


def fetched(x: Any, labels: Tensor) -> Fetched:
    """Mark inputs and labels as a batch that is put together.

    Args:
        x: tensor ``[B, …]``, or :class:`Sequences` or another object that holds sequences.
        labels: ``[B]``.
    """
    return Fetched((x.as_subclass(Whole) if isinstance(x, Tensor) else x, labels))


def collate(samples: Any) -> tuple[Any, Any]:
    """Put samples ``([T, …], label)`` together as sequences: for ``DataLoader(…, collate_fn=data.collate)``.

    Args:
        samples: pairs of a sequence, time first and of any length, and its label; or a batch that a data set of this
            package has put together.

    Returns:
        :class:`~spikelfp.data.Sequences` ``[T, B, …]``, padded with zeros to the longest, and the labels ``[B]``.

    Raises:
        ShapeError: for samples that are no such pairs, or whose steps have different shapes.
    """
    if isinstance(samples, Fetched):
        return samples.plain()
    if not all(isinstance(sample, (tuple, list)) and len(sample) == 2 for sample in samples):
        raise ShapeError("a sample to collate is a pair ([T, …], label), one of these is not")
    frames, labels = zip(*samples, strict=True)
    return joined([torch.as_tensor(each) for each in frames]), default_collate(list(labels))


def joined(frames: Sequence[Tensor]) -> Sequences:
    """Put sequences ``[T_i, …]`` side by side: ``[T, B, …]`` with zeros after their ends.

    Raises:
        ShapeError: for no sequence, sequences without steps, or steps of different shapes.
    """
    shapes = {tuple(each.shape[1:]) for each in frames}
    if len(shapes) != 1 or any(each.dim() < 1 or len(each) == 0 for each in frames):
        found = sorted({str(tuple(each.shape)) for each in frames})
        raise ShapeError(f"sequences [T, …] of one batch have steps of one shape and at least one, got {found}")
    plain = [each.as_subclass(Tensor) for each in frames]
    steps = torch.tensor([len(each) for each in plain])
    length = int(steps.max())
    if plain[0].is_sparse:
        whole = [torch.sparse_coo_tensor(s._indices(), s._values(), (length, *s.shape[1:])) for s in plain]
        values = torch.stack(whole, 1).coalesce()
    else:
        values = plain[0].new_zeros(length, len(plain), *plain[0].shape[1:])
        for column, each in enumerate(plain):
            values[: len(each), column] = each
    return Sequences(values, None if bool((steps == length).all()) else steps)


def _whole(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """Unpack a whole batch, for torch's default collation, which meets its inputs first."""
    if isinstance(batch, Fetched):
        return batch.plain()
    if all(isinstance(each, Tensor) for each in batch):
        return torch.stack([each.as_subclass(Tensor) for each in batch])
    raise ShapeError(
        "a sample of this data set is a whole batch of sequences, and those are not put together again: let "
        "__getitem__ return ([T, …], label), or __getitems__ the batch"
    )


def _sequences(batch: Any, *, collate_fn_map: Any = None) -> Sequences:
    return joined(batch)


def whole_batches(*types: type) -> None:
    """Make torch's default collation leave batches alone whose inputs are of these types."""
    default_collate_fn_map.update(dict.fromkeys(types, _whole))


whole_batches(Whole, Sequences)
default_collate_fn_map[Frames] = _sequences


def generator(*key: int | str) -> torch.Generator:
    """Make a CPU generator whose stream depends on every part of ``key`` and on their order.

    The key is hashed, because sums and products of seeds collide: ``(seed=0, epoch=1)`` and ``(1, 0)`` must not give
    one order. A key gives one stream in every process and Python version.
    """
    parts = [part if isinstance(part, str) else int(part) for part in key]  # numpy integers print otherwise
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


MOST_WORKERS = 256
"""Largest number of processes that load data, fixed because a run folder is moved between machines."""


class EpochSampler(Sampler[list[int]]):
    """Index lists of one epoch, for ``DataLoader(batch_sampler=...)``.

    Args:
        n: number of samples.
        batch_size: samples of a global batch, over all ranks; the last batch of an epoch may be smaller.
        seed: with ``epoch`` it fixes the order; torch's global generator is neither read nor changed.
        epoch: number of the epoch.
        start: batches of this epoch that were used already; iteration continues after them.
        shuffle: ``False`` keeps the order of the data.
        rank: number of this process. Each global batch of ``m`` samples is cut into ``world_size`` contiguous slices,
            and this sampler gives slice ``rank``, ``[m * rank // world_size, m * (rank + 1) // world_size)``. The
            slices together are exactly the batch of a single process.
        world_size: number of processes. Each of them gets an equal number of batches. Slices can differ by one sample,
            and some are empty in a last batch with fewer samples than processes: weigh averages by their lengths, or
            use ``drop_last`` and a batch size that is a multiple of ``world_size``.
        drop_last: leave out a last batch that is not full.

    Raises:
        UserError: for a number out of range.
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
        """Number of batches that are left in this epoch."""
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
    """Data set whose samples differ from epoch to epoch, such as :class:`~spikelfp.data.Augmented`."""

    def at_epoch(self, seed: int, epoch: int) -> Dataset[Any]:
        """Return the samples of ``epoch``, a function of these two numbers only."""


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
    """Make the batches of one epoch, in the order of :class:`EpochSampler`.

    A data set whose ``__getitems__`` returns a tuple has put the batch together, such as
    :class:`~spikelfp.data.ArrayDataset` (float32 ``[B, …]``, int64 ``[B]``) and
    :class:`~spikelfp.data.events.dataset.EventDataset` (:class:`~spikelfp.data.Sequences` ``[T, B, …]``, int64
    ``[B]``). Samples of any other data set are put together by torch's default. An :class:`EpochDataset` is asked for
    the samples of ``(seed, epoch)`` first. Iterating again gives equal batches.

    Args:
        dataset: with a length and indices.
        batch_size: samples of a global batch, over all ranks.
        seed: with ``epoch`` it fixes the order.
        epoch: number of the epoch.
        start: batches of this epoch that were used already.
        shuffle: ``False`` keeps the order of the data.
        workers: processes that load data; they change nothing but the speed.
        rank: number of this process.
        world_size: number of processes.
        drop_last: leave out a last batch that is not full.
        pin_memory: copy batches to pinned memory.

    Raises:
        UserError: for a number out of range.
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
    """Check the number of processes that load data; too many would bring a machine down.

    Raises:
        UserError: for a negative number, or more than :data:`MOST_WORKERS`.
    """
    _require(workers >= 0, f"workers must be 0 or more, got {workers}")
    _require(workers <= MOST_WORKERS, f"workers must be at most {MOST_WORKERS}, got {workers}")


def at_epoch(dataset: Dataset[Any], seed: int, epoch: int) -> Dataset[Any]:
    """Take the samples of an epoch of a data set, also inside ``Subset`` and ``random_split``."""
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
