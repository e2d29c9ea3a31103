"""Some axes of a sample as one."""

from __future__ import annotations

from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import is_sparse, over_time
from spikelfp.kernels.events.sparse import merge
from spikelfp.nn.layer import Layer, sparse_input


class FlattenAxes(Layer):
    """Axes ``start`` to ``end`` of every step of a sample as one; time and batch are not counted.

    ``FlattenAxes(1, 2)`` makes ``[T, B, C, H, W]`` ``[T, B, C, H·W]``; :class:`~spikelfp.nn.Flatten` joins them all.
    A sparse sequence stays sparse.
    Raises :class:`~spikelfp.errors.UserError` for negative axes or ``end < start``.
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
