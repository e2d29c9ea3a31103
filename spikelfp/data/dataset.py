"""Labelled arrays as a torch data set that hands out whole batches at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from spikelfp.errors import DataError


def check_labels(labels: Tensor, classes: int | None, what: str = "labels") -> None:
    """Raise :class:`DataError` for the first label outside ``0 .. classes-1`` (``classes=None``: below 0).

    ``labels`` is int64 ``[N]``; ``what`` opens the message, so that it can name a file.
    """
    bad = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        valid = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise DataError(f"{what}: label {int(labels[first])} at index {first} is outside {valid}")


@dataclass(frozen=True, eq=False)
class ArrayDataset(Dataset[tuple[Tensor, Tensor]]):
    """``N`` samples held in memory, converted to float32 only when they are fetched.

    Attributes:
        images: ``[N, ...]``, uint8 or floating point, at least one sample, all finite.
        labels: int64 ``[N]``, the class of each sample.
        scale: multiplied with the images when they are fetched, chosen so that the values lie in [0, 1]
            (1/255 for 8-bit pixels).
        classes: number of classes that the labels are checked against; ``None`` only refuses negative labels.

    Raises:
        DataError: for wrong types or lengths, no samples, a label outside the classes, or a NaN or infinity;
            it names the first offending sample.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0
    classes: int | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if not isinstance(images, Tensor) or not (images.is_floating_point() or images.dtype == torch.uint8):
            raise DataError(f"images must be a uint8 or floating point tensor, got {_kind(images)}")
        if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 1:
            raise DataError(f"labels must be an int64 tensor of shape [N], got {_kind(labels)}")
        if images.ndim == 0 or len(images) == 0 or images.numel() == 0:
            raise DataError(f"images hold no sample: their shape is {list(images.shape)}")
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels: each image needs exactly one")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"scale must be positive and finite, got {self.scale}")
        check_labels(labels, self.classes)
        if images.is_floating_point():
            _check_finite(images)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample ``index`` as (float32 ``[...]``, int64 ``[]``)."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The samples ``indices`` as one batch (float32 ``[B, ...]``, int64 ``[B]``), ``B`` may be 0.

        torch's ``DataLoader`` calls this once a batch. The tensors are copies: changing them changes no data.
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        images = self.images[index].to(torch.float32)
        return images.mul_(self.scale), self.labels[index.to(self.labels.device)]

    def subset(self, indices: Tensor) -> ArrayDataset:
        """A data set of the samples ``indices`` (int64 ``[M]``) with the same scale and classes."""
        return ArrayDataset(self.images[indices], self.labels[indices], self.scale, self.classes)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {list(value.shape)}"
    return type(value).__name__


def _check_finite(images: Tensor) -> None:
    bad = ~torch.isfinite(images).reshape(len(images), -1).all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise DataError(f"sample {first} holds NaN or infinity ({int(bad.sum())} of {len(images)} samples do)")
