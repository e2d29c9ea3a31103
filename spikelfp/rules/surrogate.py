"""Surrogate gradients, for comparison: a smooth stand-in for the derivative of a spike.

The shapes are those of snnTorch. They are written so that no membrane, however far from the threshold, gives anything
but a finite derivative, in every kind of floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp.errors import UserError
from spikelfp.functional.lif import check_number
from spikelfp.registry import Registry
from spikelfp.rules.base import heaviside
from spikelfp.rules.gradient import Gradient

Derivative = Callable[[Tensor, float], Tensor]
"""From the distance ``z`` of membranes to their threshold and a slope ``k`` to a stand-in for ``dS/dz``."""

surrogates: Registry[Derivative] = Registry("surrogate")
"""Shapes by name; one of your own is a function ``(z, k) → dS/dz``."""


@surrogates.register("fast-sigmoid")
def fast_sigmoid(z: Tensor, slope: float) -> Tensor:
    """Return ``1 / (1 + k |z|)²``, the derivative of ``z / (1 + k |z|)`` (v3, A.6.4)."""
    return (slope * z.abs() + 1).reciprocal().square()


@surrogates.register("atan")
def atan(z: Tensor, slope: float) -> Tensor:
    """Return ``k/2 / (1 + (π/2 k z)²)``, the derivative of ``arctan(π/2 k z) / π``."""
    return slope / 2 / (1 + (math.pi / 2 * slope * z).square())


@surrogates.register("sigmoid")
def sigmoid(z: Tensor, slope: float) -> Tensor:
    """Return ``k σ(k z) σ(−k z)``, the derivative of ``σ(k z)``; no exponential in it overflows."""
    return slope * (slope * z).sigmoid() * (-slope * z).sigmoid()


@dataclass(frozen=True)
class Surrogate(Gradient):
    """Backpropagation through time, in which a spike has the derivative of a smooth function.

    shape: ``fast-sigmoid``, ``z / (1 + k |z|)`` (A.6.4); ``atan`` or ``sigmoid``.
    slope: its steepness ``k``; 25 in the paper.

    Raises :class:`~spikelfp.errors.UserError` for a shape that there is not, and a slope that is no finite number above
    0.
    """

    shape: str = "fast-sigmoid"
    slope: float = 25.0

    def __post_init__(self) -> None:
        slope = check_number("slope", self.slope)
        if not 0 < slope < math.inf:
            raise UserError(f"the slope of a surrogate must be a finite number above 0, got {self.slope}")
        object.__setattr__(self, "slope", slope)
        surrogates[self.shape]  # names the nearest

    def spike(self, z: Tensor) -> Tensor:
        return SmoothSpike.apply(z, surrogates[self.shape], self.slope)


class SmoothSpike(Function):
    """Heaviside step in the dtype of ``z``; backward ``dL/dz = dL/dS · derivative(z, slope)``.

    The derivative of 16-bit values is found in float32, whose range its parts need.
    """

    of_gradients = True

    @staticmethod
    def forward(ctx: Any, z: Tensor, derivative: Derivative, slope: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.derivative, ctx.slope = derivative, slope
        return heaviside(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        wide = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        return (grad * ctx.derivative(wide, ctx.slope)).to(grad.dtype), None, None
