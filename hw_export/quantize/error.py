"""What a scale costs: the squared error of the weights, or of the sums they make of given inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spikelfp import nn
from spikelfp.functional.grid import Grid
from spikelfp.functional.sequence import is_constant

_AT_ONCE = 256
"""Images whose patches are written out at the same time."""


@dataclass(frozen=True, eq=False)
class Error:
    """Squared error of the weights ``[C, …]`` on a grid of ``bits``, for each output channel.

    moment: ``E[x xᵀ]`` of the inputs of one sum, ``[groups, K, K]`` (:func:`second_moment`): the error is then that
    of the sums, ``E[((w − s q)·x)²] = (w − s q)ᵀ E[x xᵀ] (w − s q)``; without it ``Σ (w − s q)²``.
    """

    weight: Tensor
    bits: int
    moment: Tensor | None = None

    def __call__(self, scales: Tensor) -> Tensor:
        """Errors ``[C]``, float64, for ``scales`` ``[C]`` or ``[1]``."""
        lost = self.weight - self.grid(scales).to_real(self.integers(scales))
        if self.moment is None:
            return lost.flatten(1).square().sum(1, dtype=torch.float64)
        rows = lost.reshape(len(self.moment), -1, self.moment.shape[-1])
        return (rows @ self.moment.to(rows)).mul_(rows).sum(2, dtype=torch.float64).flatten()

    def integers(self, scales: Tensor) -> Tensor:
        """The weights on the grid, whole numbers of ``bits``."""
        return self.grid(scales).to_integers(self.weight)

    def grid(self, scales: Tensor) -> Grid:
        """The grid with ``scales`` ``[C]`` or ``[1]``."""
        if len(scales) == 1:
            return Grid.symmetric(scales.item(), self.bits)
        return Grid.symmetric(scales.to(self.weight).reshape(-1, *[1] * (self.weight.dim() - 1)), self.bits)


@torch.no_grad()
def second_moment(layer: nn.Linear | nn.Conv2d, x: Tensor) -> Tensor:
    """``E[x xᵀ]`` of the inputs of one sum of ``layer``, over steps, samples (and places), float64 ``[groups, K, K]``.

    x: inputs of the layer, ``[T, B, …]``. A dense layer is one group of ``K`` inputs; in a convolution ``K`` are the
    inputs of a patch of the channels of a group, in the order of the weights.
    """
    steps = x[:1] if is_constant(x) else x
    if isinstance(layer, nn.Linear):
        rows = steps.reshape(-1, layer.in_features).double()
        return (rows.T @ rows / len(rows)).unsqueeze(0)
    total, count = torch.zeros((), dtype=torch.float64), 0
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    for images in steps.flatten(0, 1).split(_AT_ONCE):
        padded = F.pad(images, layer._reversed_padding_repeated_twice, mode)
        patches = F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        rows = patches.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2).double()
        total = total + rows.mT @ rows
        count += rows.shape[1]
    return total / count
