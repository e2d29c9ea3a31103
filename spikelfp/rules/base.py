"""What a rule decides: how each kind of layer sends credit back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from spikelfp.functional.lif import LIFParameters

LinearMap = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
"""A map ``(input, weight, bias) → output`` that is linear in the input and affine in the parameters."""


class Rule(ABC):
    """Forward passes are the same under every rule; the backward pass is the rule's.

    A layer calls the method of its kind in ``forward``. Rules hold options only, never tensors of a pass, so
    one rule serves many layers.
    """

    @abstractmethod
    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of a linear layer: ``op(x, weight, bias)``."""

    @abstractmethod
    def activation(self, phi: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """Output of an activation function: ``phi(z)``."""

    @abstractmethod
    def spike(self, z: Tensor) -> Tensor:
        """Heaviside step: 1 where ``z > 0``, else 0."""

    @abstractmethod
    def lif(self, current: Tensor, start: Tensor, p: LIFParameters) -> tuple[Tensor, Tensor]:
        """LIF neurons: ``current`` ``[T, …]`` from membrane ``start`` ``[…]`` to spikes and last membrane."""


def heaviside(z: Tensor) -> Tensor:
    """1 where ``z > 0``, else 0, in the dtype of ``z`` (A.2)."""
    return (z > 0).to(z.dtype)
