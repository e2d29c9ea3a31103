"""Layers that change the shape of a sample: flattening, pooling, dropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import compact, is_constant, is_sparse, over_time, repeat, replaced
from spikelfp.kernels.choice import can_run, chosen_events
from spikelfp.kernels.events.sparse import merge, sparse_average
from spikelfp.nn.layer import Layer, check_dense, check_kind, sparse_input


class MaxPool2d(torch.nn.MaxPool2d, Layer):
    """Max-pooling of every step, ``[T, B, C, H, W]``: sends each message to the input that won its window.

    Right after a convolution in a :class:`~spikelfp.nn.Sequential` both run as one operation, with the same results.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)

    @property
    def side(self) -> int | None:
        """Side of the windows where they are squares that touch without padding; else ``None``."""
        sizes, strides = (v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride))
        plain = self.padding in (0, (0, 0)) and self.dilation in (1, (1, 1))
        if not plain or self.ceil_mode or self.return_indices or {*sizes, *strides} != {sizes[0]}:
            return None
        return int(sizes[0])


class AvgPool2d(torch.nn.AvgPool2d, Layer):
    """Average-pooling of every step, ``[T, B, C, H, W]``: reward in proportion to contribution.

    A sparse sequence (:mod:`spikelfp.functional.sequence`) is pooled event by event, by windows that touch, and stays
    sparse; other windows raise :class:`~spikelfp.errors.ShapeError`. Where event-driven kernels do not run (as for
    :class:`~spikelfp.nn.Linear`) it is made dense.
    """

    passes_scale = True
    arguments = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

    def forward(self, x: Tensor) -> Tensor:
        check_kind(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return self._of_events(x) if is_sparse(x) else over_time(super().forward, x)

    def _of_events(self, x: Tensor) -> Tensor:
        x = sparse_input(self, x)
        sizes, strides = (v if isinstance(v, tuple) else (v, v) for v in (self.kernel_size, self.stride))
        if sizes != strides or self.padding not in (0, (0, 0)) or self.ceil_mode:
            raise ShapeError(
                "AvgPool2d pools sparse sequences by windows that touch (stride the kernel size, no padding, no "
                f"ceil_mode), this one has {self.extra_repr()}; hand it x.to_dense()"
            )
        if min(x.shape[3] // sizes[0], x.shape[4] // sizes[1]) < 1:
            raise ShapeError(f"AvgPool2d of windows {sizes} does not fit images of shape {tuple(x.shape[2:])}")
        if not can_run(x, x) or chosen_events() == "never":
            return over_time(super().forward, x.to_dense())
        return sparse_average(x, sizes, self.divisor_override or sizes[0] * sizes[1])


class AdaptiveAvgPool2d(torch.nn.AdaptiveAvgPool2d, Layer):
    """Average-pooling of every step to a given size, ``[T, B, C, H, W]``: reward in proportion to contribution."""

    passes_scale = True
    arguments = ("output_size",)

    def forward(self, x: Tensor) -> Tensor:
        check_dense(self, x)
        self._expect(x, 5, "[T, B, channels, height, width]")
        return over_time(super().forward, x)


class Flatten(Layer):
    """``[T, B, …]`` to ``[T, B, features]``; a sparse sequence stays sparse."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        if is_sparse(x):
            if x.dim() < 3:
                self._expect(x, 3, "[T, B, …]")
            return merge(sparse_input(self, x), 2, x.dim() - 1)
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, …]")
        return over_time(lambda step: step.flatten(1), x)


class Dropout(Layer):
    """Silences each element with probability ``p`` in training, the same ones at every step of a sequence.

    A sparse sequence stays sparse, and loses the same elements as a dense one.

    Args:
        p: probability, from 0 to 1.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("p",)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = torch.nn.Dropout(p).p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if is_sparse(x):
            return self._of_events(x)
        check_kind(self, x)
        mask = F.dropout(torch.ones_like(x[0]), self.p)
        return repeat(x[0] * mask, len(x)) if is_constant(x) else x * mask

    def _of_events(self, x: Tensor) -> Tensor:
        x = sparse_input(self, x)
        mask = F.dropout(torch.ones(x.shape[1:], dtype=x.dtype, device=x.device), self.p)
        return compact(replaced(x, values=x.values() * mask[tuple(x.indices()[1:])]))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class FlattenAxes(Layer):
    """Joins axes ``start`` to ``end`` of every step into one; time and batch are not counted.

    ``FlattenAxes(1, 2)`` makes ``[T, B, C, H·W]`` of ``[T, B, C, H, W]``; :class:`~spikelfp.nn.Flatten` joins all axes.
    A sparse sequence stays sparse.

    Args:
        start: first axis to join, 0 for the one after the batch.
        end: last axis to join.

    Raises:
        UserError: for negative axes or ``end < start``.
    """

    passes_scale = True
    passes_spikes = True
    arguments = ("start", "end")

    def __init__(self, start: int, end: int) -> None:
        super().__init__()
        if not 0 <= start <= end:
            raise UserError(f"axes to flatten run from 0 upwards, got {start} to {end}")
        self.start, self.end = start, end

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() - 2 <= self.end:
            raise ShapeError(f"FlattenAxes({self.start}, {self.end}) does not fit a sequence of shape {tuple(x.shape)}")
        if is_sparse(x):
            return merge(sparse_input(self, x), self.start + 2, self.end + 2)
        return over_time(lambda step: step.flatten(self.start + 1, self.end + 1), x)

    def extra_repr(self) -> str:
        return f"{self.start}, {self.end}"
