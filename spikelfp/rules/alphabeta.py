"""LFP-αβ (v1, eq. 10-11): positive and negative contributions, each in proportion to their own sum::

    r_ij = α z_ij / z_j⁺ · sign(z_j) r_j   if z_ij ≥ 0,      −β z_ij / z_j⁻ · sign(z_j) r_j   else
    d_w_ij = r_ij with |w_ij| a_i in place of z_ij,          α − β = 1

ε is added to the magnitudes of both sums (v1, section 2.5). No contribution earns more than max(α, β) times the
neuron's reward (v1, A.3). For ``z_j > 0`` the rewards of all contributions add up to ``r_j``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.split import LinearMap, SplitLinear
from spikelfp.rules.base import Feedback, check_real


@dataclass(frozen=True)
class AlphaBeta(Feedback):
    """LFP-αβ (v1, eq. 10-11); LFP-α2β1 by default.

    All arguments are given by name, since ``AlphaBeta(2, 1)`` could mean α and β, or ε.

    Args:
        eps: ε, added to the magnitudes of both sums, in units of the pre-activation.
        normalize: as in :class:`~spikelfp.rules.Epsilon`.
        alpha: weight α of the positive contributions.
        beta: weight β of the negative contributions; ``α − β = 1``, ``β ≥ 0``.
        constant_statistics: as in :class:`~spikelfp.rules.Epsilon`.
        credit: as in :class:`~spikelfp.rules.Epsilon`.

    Raises:
        UserError: for other values of α and β, and as :class:`~spikelfp.rules.Epsilon` does.
    """

    eps: float = field(default=1e-6, kw_only=True)
    normalize: bool | str = field(default=False, kw_only=True)
    alpha: float = field(default=2.0, kw_only=True)
    beta: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("alpha", self.alpha), check_real("beta", self.beta)
        if not math.isclose(self.alpha - self.beta, 1.0, abs_tol=1e-9) or not self.beta >= 0:
            raise UserError(
                f"LFP-αβ needs α − β = 1 with β at least 0, got alpha={self.alpha}, beta={self.beta}; "
                "α=2, β=1 and α=1, β=0 are usual"
            )

    def split(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return SplitLinear.apply(x, weight, bias, op, self.shares, self.eps)

    def shares(self, r: Tensor, z: Tensor, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``p = α sign(z) r / (z⁺ + ε)`` and ``q = β sign(z) r / (|z⁻| + ε)``, with ``sign(0) = 1``.

        Args:
            r: rewards of the neurons.
            z: their pre-activations, of the same shape.
            plus: sums ``z⁺`` of their positive contributions.
            minus: sums ``z⁻`` of their negative contributions, 0 or less.
        """
        signed = torch.where(z >= 0, r, -r)
        return self.alpha * signed / (plus + self.eps), self.beta * signed / (self.eps - minus)
