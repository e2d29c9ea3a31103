"""LFP-γ: LRP-γ (Montavon et al. 2019, section 10.2.2) carried over; it favours contributions of the neuron's sign::

    z̃_ij = z_ij (1 + γ [sign(z_ij) = sign(z_j)])        z̃_j = Σ_i z̃_ij = z_j + γ z_j^{sign(z_j)}
    r_ij = z̃_ij / (z̃_j + sign(z_j) ε) · r_j             d_w_ij = |w_ij| a_i (1 + γ […]) / (z̃_j + sign(z_j) ε) · r_j

γ = 0 is LFP-ε; for γ → ∞ only contributions of the neuron's own sign count. Rewards are conserved, and the denominator
is never smaller than that of LFP-ε: |z̃_j| ≥ |z_j|. LRP states the rule for neurons with ``z_j > 0``; for the others it
is mirrored, as LRP implementations do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.functional.credit import to_message
from spikelfp.functional.split import LinearMap, SplitLinear
from spikelfp.options import setting
from spikelfp.rules.base import Feedback, check_real


@dataclass(frozen=True)
class Gamma(Feedback):
    """LFP-γ: contributions of the neuron's own sign count ``1 + γ`` times (Montavon et al. 2019, section 10.2.2).

    All arguments are given by name, since ``Gamma(0.25)`` could mean γ or ε.

    Args:
        eps: ε of the denominator, in units of the pre-activation.
        normalize: as in :class:`~spikelfp.rules.Epsilon`.
        gamma: γ, 0 or more.
        constant_statistics: as in :class:`~spikelfp.rules.Epsilon`.
        credit: as in :class:`~spikelfp.rules.Epsilon`.

    Raises:
        UserError: for a γ that is negative or not finite, and as :class:`~spikelfp.rules.Epsilon` does.
    """

    eps: float = setting(1e-6, "stabiliser ε of the rule", within="(0, ∞)", kw_only=True)
    normalize: bool | str = field(default=False, kw_only=True)
    gamma: float = setting(0.25, "γ of LFP-γ", within="[0, ∞)", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= check_real("gamma", self.gamma) < float("inf"):
            raise UserError(f"gamma must be a finite number, 0 or more, got {self.gamma}")

    def split(self, op: LinearMap, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return SplitLinear.apply(x, weight, bias, op, self.shares, self.eps)

    def shares(self, r: Tensor, z: Tensor, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(1 + γ) r / (z̃ + sign(z) ε)`` for contributions of the neuron's sign, without ``1 + γ`` for others.

        Args:
            r: rewards of the neurons.
            z: their pre-activations, of the same shape.
            plus: sums of their positive contributions.
            minus: sums of their negative contributions, 0 or less.

        Returns:
            Factors of the positive and of the negative contributions.
        """
        upward = z >= 0
        share = to_message(r, z + self.gamma * torch.where(upward, plus, minus), self.eps)
        favoured = (1 + self.gamma) * share
        return torch.where(upward, favoured, share), torch.where(upward, share, favoured)
