"""LFP-z⁺z⁻ (v1, eq. 12-13, A.13): reward in proportion to contribution over the sum of all magnitudes::

    r_ij = z_ij / (z_j⁺ + |z_j⁻| + ε) · sign(z_j) r_j       d_w_ij = |w_ij| a_i / (z_j⁺ + |z_j⁻| + ε) · sign(z_j) r_j

It is LFP-αβ with ``α = z⁺ / (z⁺ + |z⁻|)`` and ``β = |z⁻| / (z⁺ + |z⁻|)`` for each neuron. The magnitudes of the rewards
that a neuron hands on never add up to more than its own, so rewards cannot explode; their sum is not conserved.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from spikelfp.functional.split import LinearMap, MagnitudeShare
from spikelfp.rules.base import Feedback


@dataclass(frozen=True)
class ZPlusMinus(Feedback):
    """LFP-z⁺z⁻: contribution over the sum of all magnitudes (v1, eq. 12-13, A.13).

    Args:
        eps: ε of the denominator, in units of the pre-activation.
        normalize: as in :class:`~spikelfp.rules.Epsilon`.
        constant_statistics: as in :class:`~spikelfp.rules.Epsilon`.
        credit: as in :class:`~spikelfp.rules.Epsilon`.

    Raises:
        UserError: as :class:`~spikelfp.rules.Epsilon` does.
    """

    def split(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z = self.affine(op, x, weight, bias)
        return MagnitudeShare.apply(
            z, x.detach(), weight.detach(), bias if bias is None else bias.detach(), op, self.eps
        )
