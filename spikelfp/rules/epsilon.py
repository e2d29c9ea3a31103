r"""LFP-ε (v3, eq. 6-7; v1, eq. 8-9), the default rule: reward in proportion to contribution, stabilised::

    r_ij = z_ij / (z_j + sign(z_j) ε) · r_j          d_w_ij = |w_ij| a_i / (z_j + sign(z_j) ε) · r_j

In messages (:mod:`spikelfp.functional.credit`): ``m_in = Wᵀ m_z`` and ``d_w = |w| Σ m_z a``, autograd's own
products.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.rules.base import Feedback, HasRule


@dataclass(frozen=True)
class Epsilon(Feedback):
    """LFP-ε: reward in proportion to contribution, with a stabilised denominator.

    eps: the ε of eq. 6-7, in units of the pre-activation.
    normalize: divide the reward of each layer by its largest magnitude on its way back (A.6.4): ``"sample"`` (or
    ``True``) or ``"step"``; see :class:`~spikelfp.rules.Feedback`.
    """

    one_product = True


HasRule.fallback = Epsilon()
