"""Derivatives in place of LFP's secant slopes, for comparison: exact ones, and surrogate shapes for spikes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from spikelfp import kernels
from spikelfp.errors import UserError
from spikelfp.functional.lif import PAPER_MARGIN, Constant, LIFParameters, carried, check_number, total_like
from spikelfp.functional.once import no_second_derivative
from spikelfp.registry import Registry
from spikelfp.rules.base import Activation, LinearMap, Rule, heaviside


@dataclass(frozen=True)
class Gradient(Rule):
    """Backpropagation (through time) of a loss, in which a spike has the derivative 0.

    Networks of spikes do not learn under it (v3, Fig. 7); :class:`Surrogate` is made for them.
    """

    constant_statistics = False
    needs_sign = False
    one_product = True
    of_gradients = True

    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return op(x, weight, bias)

    def affine(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return op(x, weight, bias)

    def parameter(self, weight: Tensor) -> Tensor:
        return weight

    def factor(self, x: Tensor) -> Tensor:
        return x

    def activation(self, phi: Activation, z: Tensor, opposite_sign: bool = False) -> Tensor:
        return phi(z)

    def relu(self, z: Tensor) -> Tensor:
        return torch.relu(z)

    def spike(self, z: Tensor) -> Tensor:
        return ZeroDerivative.apply(z)

    def lif(
        self, current: Tensor, start: Tensor, p: LIFParameters, decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        p = p.fitted(start)
        membrane = MembraneScan.apply(current, start, decay, p)
        return self.spike(membrane - p.threshold), membrane[-1]

    def inflow(self, parts: Sequence[Tensor], sizes: Sequence[Tensor], least: Constant = 0.0) -> Tensor:
        membrane = parts[0]
        for part in parts[1:]:
            membrane = membrane + part
        return membrane

    def carry(self, membrane: Tensor) -> Tensor:
        return membrane

    def survive(self, before: Tensor, after: Tensor) -> Tensor:
        return after

    def fire(self, membrane: Tensor, threshold: float | Tensor, margin: float = PAPER_MARGIN) -> Tensor:
        return self.spike(membrane - threshold)

    def steps(self, spikes: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(spikes))


class ZeroDerivative(Function):
    """Heaviside step with the derivative that it has almost everywhere: zero."""

    of_gradients = True

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return heaviside(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.zeros_like(grad)


class MembraneScan(Function):
    """Membranes ``[T, …]`` of LIF neurons; backward through the leak, with the reset detached as in snnTorch::

    dL/dI[t] = dL/dU[t] + g[t+1] dL/dI[t+1],   g = β, or β (1 − S[t]) with reset to zero
    dL/dβ    = Σ V[t] dL/dI[t],                V the membrane that β multiplied; over all that share the β
    """

    of_gradients = True

    @staticmethod
    def forward(ctx: Any, current: Tensor, start: Tensor, decay: Tensor | None, p: LIFParameters) -> Tensor:
        _, membrane = kernels.scan_for(current).forward(current, start, p)
        ctx.save_for_backward(membrane, start)
        ctx.parameters = p
        return membrane

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        membrane, start = ctx.saved_tensors
        p = ctx.parameters
        to_current = torch.empty_like(grad)
        carry = torch.zeros_like(start)
        for t in reversed(range(len(grad))):
            torch.add(grad[t], carry, out=to_current[t])
            carry = p.beta * to_current[t]
            if p.reset == "zero":
                carry *= (membrane[t - 1] if t else start) <= p.threshold
        to_decay = None
        if ctx.needs_input_grad[2]:
            kept = carried(torch.cat([start.unsqueeze(0), membrane[:-1]]), p)
            to_decay = total_like(p.beta, kept * to_current)
        return to_current, carry, to_decay, None


Derivative = Callable[[Tensor, float], Tensor]
"""Function of ``z``, membrane less threshold, and a slope ``k``, that stands in for ``dS/dz``."""

surrogates: Registry[Derivative] = Registry("surrogate")
"""Shapes by name; a shape of your own is a function ``(z, k) → dS/dz``, of the shape of ``z``."""


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
    """Backpropagation through time; a spike has the derivative of a smooth function (v3, A.6.4; Neftci et al. 2019).

    Args:
        shape: ``"fast-sigmoid"``, the derivative of ``z / (1 + k |z|)`` (A.6.4), ``"atan"``, ``"sigmoid"``, or another
            name in :data:`surrogates`. ``z`` is the membrane less its threshold.
        slope: steepness ``k``, above 0; 25 in the paper.

    Raises:
        UserError: for an unknown shape, and a slope that is no finite number above 0.
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

    The derivative of 16-bit values is computed in float32, since its terms overflow their range.
    """

    of_gradients = True

    @staticmethod
    def forward(ctx: Any, z: Tensor, derivative: Derivative, slope: float) -> Tensor:
        ctx.save_for_backward(z)
        ctx.derivative, ctx.slope = derivative, slope
        return heaviside(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        wide = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        return (grad * ctx.derivative(wide, ctx.slope)).to(grad.dtype), None, None
