"""Our resets as resets of norse's box neurons."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class DelayedSubtract:
    """A ``reset_method`` for norse: subtract ``θ/β`` at once, of which the decay leaves ``θ`` one step later.

    So the membrane follows ``U[t] = β U[t−1] + I[t] − θ S[t−1]``, as :class:`spikelfp.nn.LIF` and snnTorch have it;
    norse's own ``reset_subtract``, our ``immediate``, takes off ``θ`` at once, which is ``β θ`` a step later.
    beta: the neurons' decay, ``1 − Δt/τ``.
    """

    beta: float

    def __call__(self, z: Tensor, v: Tensor, reset: Tensor, th: Tensor) -> Tensor:
        """Membrane after the reset, from spikes ``z``, membrane ``v``, reset value and threshold."""
        return v - z * (th / self.beta)
