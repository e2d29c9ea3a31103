"""LFP-ε (v3, eq. 6-7; v1, eq. 8-9), the default rule: reward in proportion to contribution, stabilised by ε::

    r_ij = z_ij / (z_j + sign(z_j) ε) · r_j          d_w_ij = |w_ij| a_i / (z_j + sign(z_j) ε) · r_j

with ``z_ij = w_ij a_i``, ``z_j = Σ_i z_ij + b_j`` and ``sign(0) = 1``. In messages
(:mod:`spikelfp.functional.credit`) this is ``m_in = Wᵀ m_z`` and ``d_w = |w| Σ m_z a``: autograd's own products.
"""

from __future__ import annotations

from dataclasses import dataclass

from spikelfp.rules.base import Feedback, HasRule


@dataclass(frozen=True)
class Epsilon(Feedback):
    """LFP-ε: reward in proportion to contribution, with a stabilised denominator (v3, eq. 6-7).

    Args:
        eps: ε of eq. 6-7, in units of the pre-activation.
        normalize: divides the reward of each layer by its largest magnitude (A.6.4): that of each sample (``"sample"``
            or ``True``) or of each sample and step (``"step"``).
        constant_statistics: whether mean and variance of normalisation layers are constants on the way back (v3,
            eq. 8-10). ``None``: no where a method or trainer lends the rule, by name, class or object, and yes where
            ``propagate`` is called without one or a layer has the rule as its own.
        credit: ``"scan"``, the reward of neurons runs back through time (v3, eq. A.2-A.3), or ``"step"``, each step is
            credited with its own reward alone.

    Raises:
        UserError: for an ``eps`` that is no finite number above 0, and an unknown ``normalize`` or ``credit``.
    """

    one_product = True


HasRule.fallback = Epsilon()
