"""Checks and parts the models share."""

from __future__ import annotations

from collections.abc import Sequence

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.registry import check_name


def check_sizes(sizes: Sequence[int]) -> None:
    """At least an input and an output size, all of them above 0."""
    if len(sizes) < 2 or any(size < 1 for size in sizes):
        raise UserError(f"sizes need an input and an output, all at least 1, got {list(sizes)}")


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """``(channels, height, width)``."""
    if len(shape) != 3 or any(size < 1 for size in shape):
        raise ShapeError(
            f"an image shape is (channels, height, width), got {tuple(shape)}: networks of dense layers (mlp, lif-mlp, "
            "lif-rnn) take any"
        )
    channels, height, width = shape
    return channels, height, width


def check_image(shape: Sequence[int], least: int, model: str) -> tuple[int, int, int]:
    """``(channels, height, width)`` of an image whose sides are at least ``least`` pixels."""
    channels, height, width = check_shape(shape)
    if min(height, width) < least:
        raise ShapeError(f"{model} needs images of at least {least}×{least}, got {height}×{width}")
    return channels, height, width


def check_width(width: int) -> int:
    """``width``, which is at least 1."""
    if width < 1:
        raise UserError(f"the width of a network must be at least 1, got {width}")
    return width


def spatial(side: int, model: str) -> int:
    """Side of the feature map behind two rounds of 5×5 convolution and 2×2 pooling."""
    left = ((side - 4) // 2 - 4) // 2
    if left < 1:
        raise ShapeError(f"{model} needs images of at least 16×16, got a side of {side}; use an MLP for smaller ones")
    return left


def pooling(kind: str) -> nn.Layer:
    """2×2 pooling, ``max`` or ``avg``."""
    return {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[check_name("pool", kind, ("max", "avg"))](2)
