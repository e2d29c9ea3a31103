"""Base class of labelled samples, in memory or on disk, and what is known of a data set without fetching samples."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

KINDS = ("classes", "values", "labels", "steps")
"""Kinds of targets: a class of each sample ``[N]``, real values ``[N, K]``, sets of labels as 0 or 1 ``[N, K]``, a
class of every step ``[N, T]``."""


class TargetScale(NamedTuple):
    """Scale of standardised real targets: a target is ``(y − mean) / std`` of the value ``y`` in its own units.

    Attributes:
        mean: of each output, in its own units.
        std: of each output, in its own units, above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def values(self, targets: Tensor) -> Tensor:
        """Compute targets or predictions ``[…, K]`` in their own units, ``std · y + mean``."""
        return targets * targets.new_tensor(self.std) + targets.new_tensor(self.mean)


class Samples(Dataset[tuple[Any, Tensor]], ABC):
    """``N`` labelled samples, fetched in whole batches.

    Attributes:
        labels: the targets: int64 ``[N]``, the class of each sample, or as :data:`KINDS` says.
        kind: of the targets, one of :data:`KINDS`.
        target_scale: scale of standardised real targets; ``None``: they are in their own units.
        numbers: int64 ``[N]``, numbers of the samples in the data set that they were taken from; ``None``: 0 to ``N −
            1``.
        groups: int64 ``[N]``, samples that stay on one side of a split, such as slices of one recording; ``None``:
            each stands for itself.
    """

    labels: Tensor
    groups: Tensor | None = None
    kind: str = "classes"
    target_scale: TargetScale | None = None
    numbers: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, or of one step of it where it is a sequence."""

    @property
    @abstractmethod
    def levels(self) -> int | None:
        """Number ``n`` such that all values are whole multiples of ``1/n``; ``None`` where that is not known."""

    @property
    def longest(self) -> int:
        """Number of steps of the longest sequence; 1 where samples have no time of their own."""
        return 1

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Fetch sample ``index``: float32 ``[…]``, or ``[T, …]`` of a sequence, and int64 ``[]``."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> tuple[Any, Tensor]:
        """Fetch samples as one batch.

        torch's ``DataLoader`` calls this once a batch, and its default collation leaves the batch as it is
        (:func:`spikelfp.data.loader.fetched` marks it).

        Args:
            indices: of the samples; there may be none.

        Returns:
            Inputs, float32 ``[B, …]`` or :class:`~spikelfp.data.Sequences` ``[T, B, …]``, and labels, int64 ``[B]``.
        """

    @abstractmethod
    def subset(self, indices: Tensor) -> Samples:
        """Take some of the samples, everything else unchanged.

        Args:
            indices: int64 ``[M]``.
        """

    def numbers_at(self, indices: Tensor) -> Tensor:
        """Find the numbers (int64 ``[M]``) of samples in the data set that they were taken from.

        Args:
            indices: of the samples here, int64 ``[M]``.
        """
        own = indices.cpu() if isinstance(indices, Tensor) else indices
        indices = torch.arange(len(self))[own]  # also of a mask, a range, and numbers from the end
        return indices if self.numbers is None else self.numbers[indices]

    def plain(self) -> Samples:
        """Return the samples without augmentation."""
        return self

    def fingerprint(self) -> str:
        """Compute a digest of samples, order and labels, without augmentation; empty if it is not known."""
        return ""


def unaugmented(dataset: Dataset[Any]) -> Dataset[Any]:
    """Take a data set for evaluation: :class:`Samples`, also inside subsets, lose their augmentation."""
    return innermost(dataset, lambda own: own.plain() if isinstance(own, Samples) else own)


def innermost(dataset: Dataset[Any], change: Callable[[Dataset[Any]], Dataset[Any]]) -> Dataset[Any]:
    """Apply ``change`` to a data set, or to the one inside of ``torch.utils.data.Subset`` (of a subset, …)."""
    if type(dataset) is not Subset:
        return change(dataset)
    inner = innermost(dataset.dataset, change)
    return dataset if inner is dataset.dataset else Subset(inner, dataset.indices)


def labels_of(dataset: Dataset[Any]) -> Tensor | None:
    """Find the labels ``[N, …]`` of a data set that keeps them in memory, without fetching samples; else ``None``."""
    if isinstance(dataset, Subset):
        labels = labels_of(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[1]
    if isinstance(getattr(dataset, "data", None), Samples):  # augmented images
        dataset = dataset.data  # type: ignore[attr-defined]
    return dataset.labels if isinstance(dataset, Samples) else None


def numbers_at(dataset: Any, indices: Tensor) -> Tensor:
    """Find the numbers of samples in the data set that a part, or an augmented form of it, was taken from.

    Args:
        dataset: the part; a data set of any other kind is a whole of its own.
        indices: of the samples in the part, int64 ``[M]``.

    Returns:
        int64 ``[M]``.
    """
    if isinstance(dataset, Subset):
        return numbers_at(dataset.dataset, torch.as_tensor(dataset.indices, dtype=torch.int64)[indices])
    if isinstance(getattr(dataset, "data", None), Samples):  # augmented images
        dataset = dataset.data
    return dataset.numbers_at(indices) if isinstance(dataset, Samples) else indices


def target_scale_of(dataset: Any) -> TargetScale | None:
    """Find the scale of the targets of a data set that knows it."""
    if isinstance(dataset, Subset):
        return target_scale_of(dataset.dataset)
    if isinstance(getattr(dataset, "data", None), Samples):  # augmented images
        dataset = dataset.data
    return dataset.target_scale if isinstance(dataset, Samples) else None


def fingerprint_of(dataset: Any) -> str:
    """Compute a digest of what a data set holds, as far as that is possible without fetching samples; else empty."""
    if isinstance(dataset, Subset):
        inner, indices = fingerprint_of(dataset.dataset), torch.as_tensor(dataset.indices, dtype=torch.int64)
        return inner and hash_tensors("subset", inner, indices)
    if isinstance(dataset, TensorDataset):
        return hash_tensors("tensors", *dataset.tensors)
    if isinstance(getattr(dataset, "data", None), Samples):  # augmented images
        dataset = dataset.data
    return dataset.fingerprint() if isinstance(dataset, Samples) else ""


def hash_tensors(*values: Any) -> str:
    """Hash the contents of tensors, and the text of anything else (SHA-256, 32 digits)."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{list(value.shape)}".encode())
            content = value.detach().cpu().contiguous().reshape(-1)
            digest.update(content.view(torch.uint8).numpy().data if len(content) else b"")
        else:
            digest.update(f"{value!r};".encode())
    return digest.hexdigest()[:32]


def representative(samples: Samples, count: int) -> Tensor:
    """Choose samples that hold every class: the first ones, or evenly spread ones where data are sorted by class.

    Args:
        samples: to choose from.
        count: number of samples, at most all.

    Returns:
        Their indices, int64.
    """
    count = min(count, len(samples))
    if samples.kind != "classes":
        return torch.arange(count)
    if len(samples.labels[:count].unique()) == len(samples.labels.unique()):
        return torch.arange(count)
    return torch.linspace(0, len(samples) - 1, count).round().long()
