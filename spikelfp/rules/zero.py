"""LFP-0 (v3, eq. 2-4): reward in proportion to contribution, with nothing added to the denominator::

    r_ij = z_ij / z_j · r_j          d_w_ij = |w_ij| a_i / z_j · r_j

It is the rule of Theorem 1. A neuron with ``z_j = 0`` passes no reward on; near 0 its messages grow without bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from spikelfp.errors import UserError
from spikelfp.options import NOT_AN_OPTION
from spikelfp.rules.base import Feedback, check_real


@dataclass(frozen=True)
class Zero(Feedback):
    """LFP-0 (v3, eq. 2-4): the basic rule, for theory and tests; :class:`~spikelfp.rules.Epsilon` is its stable form.

    Args:
        eps: 0, the only value.
        normalize: as in :class:`~spikelfp.rules.Epsilon`.
        constant_statistics: as in :class:`~spikelfp.rules.Epsilon`.
        credit: as in :class:`~spikelfp.rules.Epsilon`.

    Raises:
        UserError: for an ``eps`` other than 0.
    """

    eps: float = field(default=0.0, metadata={"option": NOT_AN_OPTION})

    one_product = True

    def _check_eps(self) -> None:
        if check_real("eps", self.eps) != 0:
            raise UserError(f"LFP-0 has no ε, got eps={self.eps}; rules.Epsilon has one")
