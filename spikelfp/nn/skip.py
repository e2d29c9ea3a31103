"""Skip connections (v3, eq. 11): a sum shares its reward by contribution, a concatenation hands it through.

In messages both are autograd's own backward: each summand ``a_i`` of ``a_j`` gets ``m_j``, its reward ``a_i m_j``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.credit import LayerOutput
from spikelfp.functional.sequence import is_constant, repeat
from spikelfp.nn.layer import Layer, check_dense, run_layer

if TYPE_CHECKING:
    from spikelfp.nn.graph import Flow, Sources


class _Branches(Layer, ABC):
    """Layers side by side on the same input."""

    def __init__(self, *branches: torch.nn.Module) -> None:
        super().__init__()
        if not branches:
            raise UserError(f"{type(self).__name__} needs at least one branch")
        self.branches = torch.nn.ModuleList(branches)

    @abstractmethod
    def merge(self, outputs: list[Tensor]) -> Tensor:
        """One output from those of the branches."""

    def forward(self, x: Tensor) -> Tensor:
        return self._merged([branch(x) for branch in self.branches])

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Output and the states to go on from, one entry a branch."""
        before = state or (None,) * len(self.branches)
        pairs = [run_layer(branch, x, own) for branch, own in zip(self.branches, before, strict=True)]
        return self._merged([out for out, _ in pairs]), tuple(after for _, after in pairs)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Each branch takes the input; a function brings them together."""
        return flow.function(type(self).__name__.lower(), *(flow.through(branch, given) for branch in self.branches))

    def _merged(self, outputs: list[Tensor]) -> Tensor:
        for out in outputs:
            check_dense(self, out)
        if all(is_constant(out) for out in outputs):
            return repeat(self.merge([out[:1] for out in outputs])[0], len(outputs[0]))
        return self.merge(outputs)


class Sum(_Branches):
    """Sum of the outputs of several branches, all of one shape: ``Sum(block, Identity())`` is a residual block."""

    def merge(self, outputs: list[Tensor]) -> Tensor:
        total = outputs[0]
        for out in outputs[1:]:
            if out.shape != total.shape:
                raise ShapeError(
                    f"branches of a sum differ in shape, {tuple(total.shape)} and {tuple(out.shape)}: "
                    "a 1×1 convolution in the shortcut makes them equal"
                )
            total = total + out
        return LayerOutput.apply(total) if total.requires_grad else total


class Concat(_Branches):
    """Outputs of several branches side by side along ``dim``, counted from ``[T, B, …]``: 2 for channels, features."""

    def __init__(self, *branches: torch.nn.Module, dim: int = 2) -> None:
        super().__init__(*branches)
        self.dim = dim
        self._check(dim)

    def merge(self, outputs: list[Tensor]) -> Tensor:
        self._check(self.dim if self.dim >= 0 else self.dim + outputs[0].dim())
        return torch.cat(outputs, self.dim)

    def _check(self, counted: int) -> None:
        if counted in (0, 1):
            raise UserError(f"dim {self.dim} is time or batch: concatenate along 2 (channels or features) or later")


class Identity(Layer):
    """The input itself: the shortcut of a residual block."""

    passes_scale = True
    passes_spikes = True
    arguments = ()

    def forward(self, x: Tensor) -> Tensor:
        return x
