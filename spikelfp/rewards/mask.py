"""Sequences of unequal lengths: masks ``[T, B]`` that say which steps of outputs ``[T, B, C]`` count."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError


def check_mask(outputs: Tensor, mask: Tensor) -> None:
    """Raise :class:`~spikelfp.errors.ShapeError` unless outputs are ``[T, B, C]`` and the mask boolean ``[T, B]``."""
    if mask.dtype != torch.bool or outputs.dim() != 3 or mask.shape != outputs.shape[:2]:
        raise ShapeError(
            f"a mask is boolean [T, B] for outputs [T, B, C], got {mask.dtype} of shape {tuple(mask.shape)} for "
            f"outputs of shape {tuple(outputs.shape)}"
        )


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` ``[T, B, C]``, 0 at the steps that do not count."""
    return values.masked_fill(~mask.unsqueeze(-1), 0)


def counted(mask: Tensor, like: Tensor) -> Tensor:
    """Steps of each sample that count, ``[B, 1]``, in the dtype of ``like``."""
    return mask.sum(0).unsqueeze(-1).to(like.dtype)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function, which may be a user's, has an argument of that name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins do not tell
        return False


def to_front(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``values`` ``[T, B, C]`` with the steps that count before the others, and where each came from, int64 ``[T, B]``.

    Both kinds keep their order; :func:`from_front` undoes it.
    """
    origin = (~mask).to(torch.uint8).argsort(dim=0, stable=True)
    return values.gather(0, origin.unsqueeze(-1).expand_as(values)), origin


def from_front(values: Tensor, origin: Tensor) -> Tensor:
    """``values`` ``[S, B, C]`` of the first ``S`` steps of :func:`to_front`, back in their places: ``[T, B, C]``, 0 at
    the others."""
    places = origin[: len(values)].unsqueeze(-1).expand_as(values)
    return values.new_zeros(len(origin), *values.shape[1:]).scatter_(0, places, values)
