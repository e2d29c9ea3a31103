"""Surrogate gradients, for comparison: a smooth stand-in for the derivative of a spike, taken from snnTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snntorch import surrogate
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.registry import Registry
from spikelfp.rules.gradient import Gradient

SpikeGradient = Callable[[Tensor], Tensor]

surrogates: Registry[Callable[[float], SpikeGradient]] = Registry("surrogate")
surrogates.register("fast-sigmoid")(lambda slope: surrogate.fast_sigmoid(slope=slope))
surrogates.register("atan")(lambda slope: surrogate.atan(alpha=slope))
surrogates.register("sigmoid")(lambda slope: surrogate.sigmoid(slope=slope))


@dataclass(frozen=True)
class Surrogate(Gradient):
    """Backpropagation through time with snnTorch's surrogate derivatives.

    shape: ``fast-sigmoid``, ``x / (1 + k |x|)`` (A.6.4); ``atan`` or ``sigmoid``.
    slope: its steepness ``k``; 25 in the paper.
    """

    shape: str = "fast-sigmoid"
    slope: float = 25.0

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise UserError(f"the slope of a surrogate must be above 0, got {self.slope}")
        object.__setattr__(self, "_spike", surrogates[self.shape](self.slope))

    def spike(self, z: Tensor) -> Tensor:
        return self._spike(z)  # type: ignore[attr-defined]
