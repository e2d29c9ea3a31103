"""Sizes of a convolution, as plain numbers for its kernels."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from spikelfp.kernels.events.conv_vectors import VECTOR, WIDE

_BAND = 131_072  # bytes of output worked on at once: it stays in the L2 cache beside the weights


class Geometry(NamedTuple):
    """Input ``[channels, height, width]``, output ``[outputs, out_height, out_width]``, then max-pooling in squares.

    pool: their side, 1 for no pooling. ``used_height, used_width``: the part of the output that pooling looks at.
    padded: outputs rounded up to whole vectors. band: rows of output worked on at once.
    """

    channels: int
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    pad_height: int
    pad_width: int
    outputs: int
    out_height: int
    out_width: int
    pool: int
    used_height: int
    used_width: int
    padded: int
    band: int

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width behind the pooling."""
        return self.out_height // self.pool, self.out_width // self.pool


class Steps(NamedTuple):
    """How a convolution goes over its input, down and across; as in ``torch.nn.functional.conv2d``."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def geometry(x: Tensor, weight: Tensor, steps: Steps, pool: int) -> Geometry:
    """Of images ``x [N, C, H, W]`` and ``weight [O, C / groups, kernel height, kernel width]``."""
    (_, channels, height, width), (outputs, _, kernel_height, kernel_width) = x.shape, weight.shape
    down, across = (
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1  # the formula of torch.nn.Conv2d
        for size, kernel, stride, padding, dilation in zip(
            (height, width), (kernel_height, kernel_width), *steps[:3], strict=True
        )
    )
    lanes = VECTOR // weight.element_size()
    return Geometry(
        channels, height, width, kernel_height, kernel_width, *steps.stride, *steps.padding,
        outputs=outputs,
        out_height=down,
        out_width=across,
        pool=pool,
        used_height=down // pool * pool,
        used_width=across // pool * pool,
        padded=-(-outputs // lanes) * lanes,
        band=max(1, _BAND // (WIDE * VECTOR * pool * max(across, 1))) * pool,
    )  # fmt: skip
