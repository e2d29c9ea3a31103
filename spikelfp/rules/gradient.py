"""Plain gradients, for comparison: derivatives where LFP has secant slopes; a spike has derivative zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp import kernels
from spikelfp.functional.lif import LIFParameters, carried, total_like
from spikelfp.rules.base import Activation, LinearMap, Rule, heaviside


@dataclass(frozen=True)
class Gradient(Rule):
    """Backpropagation (through time) of a loss. Networks of spikes do not learn under it (v3, Fig. 7)."""

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

    def inflow(self, parts: Sequence[Tensor], sizes: Sequence[Tensor]) -> Tensor:
        membrane = parts[0]
        for part in parts[1:]:
            membrane = membrane + part
        return membrane

    def carry(self, membrane: Tensor) -> Tensor:
        return membrane

    def survive(self, before: Tensor, after: Tensor) -> Tensor:
        return after

    def fire(self, membrane: Tensor, threshold: float | Tensor) -> Tensor:
        return self.spike(membrane - threshold)

    def steps(self, spikes: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(spikes))


class ZeroDerivative(Function):
    """Heaviside step with the derivative it has: zero."""

    of_gradients = True

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return heaviside(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.zeros_like(grad)


class MembraneScan(Function):
    """Membranes ``[T, …]`` of LIF neurons; backward through the leak, the reset detached (as in snnTorch)::

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
    @once_differentiable
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
