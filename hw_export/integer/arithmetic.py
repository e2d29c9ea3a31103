r"""How a chip computes one step of its neurons in whole numbers.

One step of a layer, from its state ``V`` (after the reset of the step before) and the sum ``a`` of its weights::

    c = limit_c((a + bias) · 2^shift)          current, wrapped to ``current_bits`` where the chip has such a register
    U = limit(decay(V) + c)                    membrane, in ``state_bits``
    S = 1 if U > θ · 2^shift                   (``>=`` where ``fires`` says so)
    V = 0 where S, else U                      reset "zero"
    V = U − θ · 2^shift · S                    reset "immediate": S may count up to ``most_spikes``
    U = limit(decay(V) + c − θ · 2^shift · S[t−1])   and V = U: reset "subtract" (delayed)

``decay`` and ``limit`` are the chip's own: see :class:`Arithmetic`. A chip that treats its inputs event by event
(``by_event``) adds, limits, compares and resets once for every event, and decays at the end of the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from spikelfp.errors import UserError
from spikelfp.functional.lif import Reset

Decay = Literal["multiply", "shift", "linear", "none", "float"]
Overflow = Literal["saturate", "wrap"]


@dataclass(frozen=True)
class Arithmetic:
    """What the numbers of a chip's neurons are, and what becomes of them.

    state_bits: of the membrane, two's complement. symmetric: the lowest state is ``−(2^(bits−1) − 1)``.
    overflow: a state beyond its range stays at the end of it (``saturate``) or comes in again at the other (``wrap``).
    lowest: a floor of the state above that of its bits.
    current_bits: width to which the current is wrapped before it is added, ``None`` for as wide as it needs.
    shift: by how many bits sums, biases and thresholds are shifted left in the state.
    decay: ``multiply``: ``V (2^decay_bits − d) / 2^decay_bits`` with ``d = round((1 − β) 2^decay_bits)``, rounded
    toward 0. ``shift``: ``V − (V >> k)``, by 1 towards 0 where that changes nothing. ``linear``: by a whole number
    towards 0. ``none``: the state stays (β = 1 only). ``float``: ``β V`` in float32, as is the state.
    decay_bits: of the multiplier, or the width of ``k`` or of the linear leak.
    fires: whether a state that equals the threshold fires (``>=``) or not (``>``).
    resets: those the chip can do. most_spikes: how often a neuron may fire in one step.
    by_event: every event is added, limited and compared by itself, in the order of the neurons it comes from.
    latency: steps by which the spikes of each further layer come later on the chip.
    """

    state_bits: int
    overflow: Overflow = "saturate"
    symmetric: bool = False
    lowest: int | None = None
    current_bits: int | None = None
    shift: int = 0
    decay: Decay = "multiply"
    decay_bits: int = 12
    fires: Literal[">", ">="] = ">"
    resets: frozenset[Reset] = frozenset({"zero"})
    most_spikes: int = 1
    by_event: bool = False
    latency: int = 0

    @property
    def high(self) -> int:
        """The largest state."""
        return 2 ** (self.state_bits - 1) - 1

    @property
    def low(self) -> int:
        """The lowest state."""
        least = -self.high if self.symmetric else -self.high - 1
        return least if self.lowest is None else max(least, self.lowest)

    def decay_code(self, beta: float, threshold: int = 0) -> int:
        """The whole number that the chip is given for a decay by ``beta`` per step; 0 for ``none`` and ``float``.

        ``multiply``: ``round((1 − β) 2^decay_bits)``. ``shift``: ``round(log2(−1 / ln β))``, the shift of nearest
        time constant, within ``decay_bits``; 0 forgets the state. ``linear``: what the decay takes off, on average,
        of a membrane that rises from 0 to ``threshold`` (in units of the state), ``round((1 − β) θ / 2)``.

        Raises :class:`~spikelfp.errors.UserError` for ``none`` where the neuron leaks.
        """
        if self.decay == "none" and beta != 1.0:
            raise UserError(f"these neurons do not leak, beta must be 1, got {beta:g}")
        if self.decay in ("none", "float"):
            return 0
        if self.decay == "multiply":
            return round((1.0 - beta) * 2**self.decay_bits)
        most = 2**self.decay_bits - 1
        if self.decay == "linear":
            return min(round((1.0 - beta) * threshold / 2), most)
        return most if beta == 1.0 else min(max(round(math.log2(-1.0 / math.log(beta))), 0), most)

    def decay_as_run(self, code: int, beta: float) -> float | None:
        """β as the chip runs it for a ``code``; ``None`` for a linear leak, which is no β."""
        if self.decay == "multiply":
            return 1.0 - code / 2**self.decay_bits
        if self.decay == "shift":
            return 1.0 - 2.0**-code
        return None if self.decay == "linear" else beta
