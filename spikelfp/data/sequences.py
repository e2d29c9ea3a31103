"""A batch of sequences of unequal lengths, and how samples become batches in any ``torch.utils.data.DataLoader``.

Static samples become ``[B, …]``, sequences ``[T, B, …]``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from spikelfp.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences ``[T, B, …]``, time first, padded with zeros behind their ends to the longest of them.

    Attributes:
        values: float32 ``[T, B, …]``, dense or as a coalesced sparse COO tensor.
        lengths: int64 ``[B]``, the steps of each, 1 to ``T``; ``None``: all have ``T``.

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
        """Samples of the batch."""
        return self.values.shape[1]

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        return Sequences(self.values.to(device), None if self.lengths is None else self.lengths.to(device))

    def pin_memory(self) -> Sequences:
        """The same in pinned memory; asked for by torch's ``DataLoader``."""
        return Sequences(self.values.pin_memory(), None if self.lengths is None else self.lengths.pin_memory())

    @property
    def mask(self) -> Tensor | None:
        """Boolean ``[T, B]``, true for the steps of a sequence and false for its padding; ``None`` without padding."""
        if self.lengths is None:
            return None
        return torch.arange(len(self.values), device=self.lengths.device).unsqueeze(1) < self.lengths


def mask_of(x: Tensor | Sequences) -> Tensor | None:
    """Boolean ``[T, B]``, false for padding; ``None`` without any."""
    return x.mask if isinstance(x, Sequences) else None


class _Marked(Tensor):
    """A tensor whose type tells how it is collated; in every operation, and in files, a plain tensor."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self.as_subclass(Tensor), memo)


class Whole(_Marked):
    """Inputs ``[B, …]`` of a batch that is whole already."""


class Frames(_Marked):
    """One sequence ``[T, …]``, a sample."""


class Fetched(tuple[Any, Tensor]):
    """A whole batch ``(inputs, labels)``: what ``__getitems__`` of this package's data sets returns."""

    def plain(self) -> tuple[Any, Tensor]:
        """The pair with inputs of an ordinary type."""
        x, labels = self
        return x.as_subclass(Tensor) if isinstance(x, Whole) else x, labels


def fetched(x: Any, labels: Tensor) -> Fetched:
    """Make a whole batch of inputs (a tensor ``[B, …]``, or what stands for sequences) and labels ``[B]``."""
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
    """Put sequences ``[T_i, …]`` side by side, ``[T, B, …]`` with zeros behind their ends.

    Raises:
        ShapeError: for none, sequences without steps, or steps of different shapes.
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
    """Make torch's default leave batches alone whose inputs are of these types."""
    default_collate_fn_map.update(dict.fromkeys(types, _whole))


whole_batches(Whole, Sequences)
default_collate_fn_map[Frames] = _sequences
