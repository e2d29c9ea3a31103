"""Checks of what users hand to functions: whole numbers, shares, networks, tensors, labels and masks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from spikelfp.errors import ShapeError, UserError
from spikelfp.scalars import as_number, as_whole
from spikelfp.terminal import brief


def whole(name: str, value: Any, least: int | None = 0) -> int:
    """Return a whole number, of Python or numpy, as an int.

    Args:
        name: of the argument, for the error.
        value: the number.
        least: smallest number that fits; ``None``: any does.

    Raises:
        UserError: for anything else, true and false among them.
    """
    number = as_whole(value)
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f" of at least {least}"
        raise UserError(f"{name} is a whole number{bound}, got {value!r:.80}")
    return number


LARGEST = 2**31 - 1
"""Largest number of things that is taken; shapes are products of a few of them, in 64 bits."""


def count(name: str, value: Any) -> int:
    """Return a number of things, 1 or more.

    Args:
        name: of the argument, for the error.
        value: a whole number of Python or numpy.

    Raises:
        UserError: for anything else, true and false among them, and for numbers beyond :data:`LARGEST`.
    """
    number = as_whole(value) or 0
    if number < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {brief(value)}")
    if number > LARGEST:
        raise UserError(f"{name} must be at most {LARGEST}, got {brief(value)}")
    return number


def number(name: str, value: Any) -> float:
    """Return one finite real number as a float.

    Args:
        name: of the argument, for the error.
        value: the number; true and false are none, and texts neither.

    Raises:
        UserError: for anything else.
    """
    found = as_number(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value)
    if found is None or not math.isfinite(found):
        raise UserError(f"{name} is a finite number, got {brief(value)}")
    return found


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """Return the sizes of the axes of a shape.

    Args:
        name: of the argument, for the error.
        value: a sequence of whole numbers of at least 1, or an array or tensor of them.

    Raises:
        UserError: for anything else, one number alone among them.
    """
    found = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(found, (str, bytes)) or not isinstance(found, Sequence) or not found:
        raise UserError(f"{name} is a tuple of sizes, such as (2, 34, 34) or (700,), got {brief(value)}")
    return tuple(count(f"each size of {name}", size) for size in found)


def path(name: str, value: Any) -> Path:
    """Return the path of a file or folder.

    Args:
        name: of the argument, for the error.
        value: text, or an object such as ``pathlib.Path``.

    Raises:
        UserError: for anything else, bytes and an empty text among them.
    """
    try:
        text = os.fspath(value)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text:
        raise UserError(f"{name} is a path, a text or a pathlib.Path, got {brief(value)}")
    return Path(value)


def truth(name: str, value: Any) -> bool:
    """Return true or false.

    Args:
        name: of the argument, for the error.
        value: the truth value.

    Raises:
        UserError: for anything else.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} is true or false, got {brief(value)}")
    return value


def share(name: str, value: Any) -> float:
    """Return a share in [0, 1] as a float.

    Args:
        name: of the argument, for the error.
        value: the number; true and false are none.

    Raises:
        UserError: for anything else; what lies between 1 and 100 may be meant as percents.
    """
    number = as_number(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value)
    if number is None or not 0 <= number <= 1:
        hint = f"; {number:g} percent are {number / 100:g}" if number is not None and 1 < number <= 100 else ""
        raise UserError(f"{name} is a share in [0, 1], got {value!r:.80}{hint}")
    return number


def shares(name: str, values: Any) -> tuple[float, ...]:
    """Return shares in [0, 1], of a sequence, an array or a tensor.

    Args:
        name: of one of them, for the error.
        values: the numbers, one at least.

    Raises:
        UserError: for anything else.
    """
    found = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(found, (str, bytes)) or not isinstance(found, Iterable):
        raise UserError(
            f"shares are a sequence of numbers, ({values!r:.80},) for one alone, got {type(values).__name__}"
        )
    numbers = tuple(share(name, each) for each in found)
    if not numbers:
        raise UserError(f"{name} is missing: there is no number in {values!r:.80}")
    return numbers


def network(value: Any) -> Module:
    """Return a network.

    Args:
        value: a module of torch.

    Raises:
        UserError: for anything else, such as a trainer or a state dict, and a network whose lazy layers have not run.
    """
    if not isinstance(value, Module):
        hint = ": hand in its net" if isinstance(getattr(value, "net", None), Module) else ""
        raise UserError(f"a network is a module of torch, got {type(value).__name__}{hint}")
    if any(map(is_lazy, (*value.parameters(), *value.buffers()))):
        raise UserError("the network has lazy layers, whose weights are made in their first run: run it once")
    return value


def graph_of(value: Any) -> Module:
    """Return a network through which credit can be handed back.

    Args:
        value: a module of torch.

    Raises:
        UserError: for anything else, and a network that was made in ``torch.inference_mode``.
    """
    net = network(value)
    if any(p.is_inference() for p in net.parameters()):
        raise UserError(
            "the network was made in torch.inference_mode, whose tensors hand nothing back: make it outside, or copy "
            "it there, copy.deepcopy(net)"
        )
    return net


def tensor(name: str, value: Any) -> Tensor:
    """Return a dense tensor of real numbers or truth values.

    Args:
        name: of the argument, for the error.
        value: the tensor.

    Raises:
        UserError: for anything else, such as lists, arrays of numpy, and sparse or complex tensors.
    """
    if not isinstance(value, Tensor):
        raise UserError(f"{name} is a tensor, got {type(value).__name__}: torch.as_tensor makes one")
    if value.layout is not torch.strided:
        raise UserError(f"{name} is a dense tensor, got {value.layout}: x.to_dense() makes one")
    if value.is_complex():
        raise UserError(f"{name} is a tensor of real numbers, got {value.dtype}")
    return value


def finite(name: str, value: Any) -> Tensor:
    """Return a dense tensor without NaN and infinity.

    Args:
        name: of the argument, for the error.
        value: the tensor.

    Raises:
        UserError: for anything else.
    """
    found = tensor(name, value)
    if not torch.isfinite(found).all():
        raise UserError(f"{name} holds NaN or infinity: look for them with torch.isfinite")
    return found


def class_labels(labels: Any, x: Tensor) -> Tensor:
    """Return labels ``[B]`` that fit inputs ``[T, B, …]``.

    Args:
        labels: classes.
        x: inputs of one sample at least.

    Raises:
        ShapeError: for labels of another shape or kind.
        UserError: for negative ones.
    """
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        kind = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ShapeError(f"labels are classes, whole numbers in a tensor [B], got {kind}")
    if x.ndim < 3 or x.shape[1] != len(labels) or not len(labels):
        raise ShapeError(
            f"labels are classes [B], and {len(labels)} labels do not fit inputs of shape {list(x.shape)}, [T, B, …]"
        )
    if bool((labels < 0).any()):
        raise UserError(f"classes are counted from 0, got the label {int(labels.min())}")
    return labels


def labels_within(labels: Tensor, classes: int) -> None:
    """Refuse labels of classes that a network does not have.

    Args:
        labels: classes ``[B]``.
        classes: number of outputs.

    Raises:
        UserError: naming the largest label.
    """
    if len(labels) and int(labels.max()) >= classes:
        raise UserError(f"there is no class {int(labels.max())}: the network has {classes} outputs, counted from 0")


def step_mask(mask: Any, x: Tensor) -> Tensor | None:
    """Return a mask ``[T, B]`` that fits sequences ``[T, B, …]``; ``None`` stays.

    Args:
        mask: boolean, the steps that count.
        x: the sequences.

    Raises:
        ShapeError: for anything else.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != x.shape[:2]:
        kind = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ShapeError(f"a mask is boolean and has shape {list(x.shape[:2])} here, got {kind}")
    return mask
