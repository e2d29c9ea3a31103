r"""LFP-ε (v3, eq. 6-7), the default rule.

========================  ====================================================================================
output neuron             ``m_c = r_c / (o_c + sign(o_c) ε)``                      (:func:`spikelfp.propagate`)
activation                ``m_z = φ(z) m_a / (z + sign(z) ε)``                     eq. 6
linear map                ``m_in = Wᵀ m_z``: autograd's own backward               eq. 6
weight, bias              ``d_w = |w| Σ m_z a``, ``d_b = |b| Σ m_z``               eq. 7
LIF through time          :mod:`spikelfp.functional.lif`                           eq. A.2-A.3
========================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spikelfp import kernels
from spikelfp.errors import UserError
from spikelfp.functional.credit import MagnitudeStep, NeuronNode, NormalisedReward, SecantActivation
from spikelfp.functional.lif import LIFParameters
from spikelfp.functional.sequence import is_constant
from spikelfp.rules.base import LinearMap, Rule, heaviside


@dataclass(frozen=True)
class Epsilon(Rule):
    """LFP-ε: reward in proportion to contribution, with a stabilised denominator.

    eps: the ε of eq. 6-7, in units of the pre-activation.
    normalize: divide the reward of each layer by its largest magnitude on its way back (A.6.4).
    """

    eps: float = 1e-6
    normalize: bool = False

    def __post_init__(self) -> None:
        if not self.eps > 0:
            raise UserError(f"eps must be above 0, got {self.eps}")

    def linear(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.normalize and x.requires_grad:
            x = NormalisedReward.apply(x)
        return op(x, MagnitudeStep.apply(weight), None if bias is None else MagnitudeStep.apply(bias))

    def activation(self, phi: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        return SecantActivation.apply(z, phi, self.eps)

    def spike(self, z: Tensor) -> Tensor:
        return SecantActivation.apply(z, heaviside, self.eps)

    def lif(self, current: Tensor, start: Tensor, p: LIFParameters) -> tuple[Tensor, Tensor]:
        return LIFScan.apply(current, start, p, self.eps)


class LIFScan(Function, NeuronNode):
    """LIF neurons over time, and the reward back through them; the arithmetic is in :mod:`spikelfp.kernels`."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, start: Tensor, p: LIFParameters, eps: float) -> tuple[Tensor, Tensor]:
        scan = kernels.scan_for(current)
        spikes, membrane = scan.forward(current, start, p)
        ctx.save_for_backward(membrane, start)
        ctx.scan, ctx.parameters, ctx.eps, ctx.constant = scan, p, eps, is_constant(current)
        ctx.set_materialize_grads(False)
        return spikes, membrane[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, message: Tensor | None, final: Tensor | None) -> tuple[Tensor, Tensor, None, None]:
        membrane, start = ctx.saved_tensors
        reward = NeuronNode.take_reward(ctx)
        to_current, to_start = ctx.scan.reverse(
            message, reward, final, membrane, start, ctx.parameters, ctx.eps, ctx.constant
        )
        return to_current.expand_as(membrane), to_start, None, None
