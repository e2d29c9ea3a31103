r"""One step of a chip's neurons in whole numbers.

One step of a layer, from its state ``V`` (after the reset of the step before) and the sum ``a`` of its weights::

    c = wrap(a · 2^shift)                      current: as wide as it needs, or wrapped to ``current_bits``
    U = limit(decay(V) + c + bias · 2^shift)   membrane, in ``state_bits``
    S = 1 if U > θ · 2^shift                   (``>=`` where ``fires`` says so)
    V = 0 where S, else U                      reset "zero"
    V = U − θ · 2^shift · S                    reset "immediate": S may count up to ``most_spikes``
    U = limit(decay(V) + c + bias · 2^shift − θ · 2^shift · S[t−1])   and V = U: reset "subtract" (delayed)

``decay`` and ``limit`` are the chip's own: see :class:`Arithmetic`. All terms are added before the limit.

A chip with a ``synapse`` keeps a current ``Y`` of its own for each neuron, which decays before it is used::

    X = limit(Y + a · 2^shift)                 in ``state_bits``, as the membrane but for its ``lowest``
    Y = X − (X >> synapse)                     by 1 towards 0 where that changes nothing

and ``c = Y`` in the equations above. A ``synapse`` of 1 passes half of an input in its step and a quarter in the next.

A chip with ``delays`` lets an input of step ``t`` reach its sums at step ``t + d``, with zeros before the sequence.

A chip that treats its inputs event by event (``by_event``) does this in a step: for each event in turn, of input
``i``, all neurons together compute ``U = limit(V + w[:, i] · 2^shift)``, compare and reset; after the last event
``V = decay(V)``. Biases, where there are any, are the first event of every step. An input ``n`` is ``n`` events one
after another. Inputs come in the order of their index. Spikes of another layer come in the order in which they were
emitted: event by event, and for each event in the order of the neurons.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from hw_export.integer.network import IntegerLIF, aligned, spread
from spikelfp import checks
from spikelfp.errors import UserError
from spikelfp.functional.lif import Reset
from spikelfp.nn.delay import LONGEST
from spikelfp.registry import check_name
from spikelfp.terminal import brief

Decay = Literal["multiply", "shift", "linear", "none", "float"]
Overflow = Literal["saturate", "wrap"]
Fires = Literal[">", ">="]


@dataclass(frozen=True)
class Arithmetic:
    """Numbers of a chip's neurons, and how one step changes them (equations in :mod:`hw_export.integer.arithmetic`).

    Attributes:
        state_bits: bits of the membrane, two's complement, 2 to 48.
        overflow: ``saturate``, a state beyond its range stays at the end of it; or ``wrap``, it is taken modulo
            ``2^state_bits`` (the one value of two's complement below a symmetric range becomes its lowest).
        symmetric: whether the lowest state is ``−(2^(bits−1) − 1)``.
        lowest: floor of the state above that of its bits, applied after ``overflow``; ``None`` for none.
        current_bits: width to which the current is wrapped before it is added, ``None`` for as wide as it needs. In a
            symmetric arithmetic a current of ``−2^(bits−1)`` reads ``+2^(bits−1)``, as in lava.
        shift: bits by which sums, biases and thresholds are shifted left in the state.
        decay: ``multiply``, ``V (2^decay_bits − d) / 2^decay_bits`` with ``d = round((1 − β) 2^decay_bits)``, rounded
            toward 0; ``shift``, ``V − (V >> k)``, by 1 towards 0 where that changes nothing; ``linear``, by a whole
            number towards 0; ``none``, the state stays (β = 1 only); or ``float``, ``β V`` in float32. The state then
            is float32 without limits: sums are rounded to float32, then ``β V + c``, then its sum with the bias, then
            what is subtracted.
        decay_bits: width of the multiplier, of ``k``, or of the linear leak.
        fires: ``>=`` where a state that equals the threshold fires, else ``>``.
        resets: resets that the chip can do.
        most_spikes: how often a neuron may fire in one step, or at one event; with the resets ``zero`` and ``subtract``
            at most one time.
        by_event: whether every event is added, limited and compared by itself, in the order of the neurons it comes
            from.
        latency: steps by which the spikes of each further layer come later on the chip.
        last_spikes: ``most_spikes`` of the last layer, ``None`` for no difference.
        synapse: bit shift by which currents of their own decay, ``None`` for sums that reach the membrane whole, in
            their step. It excludes ``current_bits``, ``by_event`` and a float state. (A shift of 0 would delete every
            current before it is used.)
        input_latency: steps by which inputs come later. Layer ``k``, from 0, runs ``input_latency + k · latency`` steps
            before the first input reaches it.
        crossbar: whether each event, and the leak, updates every row there is: inputs and neurons of all layers, over
            weights of 0 too. The counts (:mod:`hw_export.integer.energy`) differ, the spikes do not. It needs
            ``by_event``.
        delays: longest delay of a connection in steps, beyond ``latency``; 0 for connections without delays. It
            excludes ``by_event``.

    Raises:
        UserError: for values out of range, or that exclude each other.
    """

    state_bits: int
    overflow: Overflow = "saturate"
    symmetric: bool = False
    lowest: int | None = None
    current_bits: int | None = None
    shift: int = 0
    decay: Decay = "multiply"
    decay_bits: int = 12
    fires: Fires = ">"
    resets: frozenset[Reset] = frozenset({"zero"})
    most_spikes: int = 1
    by_event: bool = False
    latency: int = 0
    last_spikes: int | None = None
    synapse: int | None = None
    input_latency: int = 0
    crossbar: bool = False
    delays: int = 0

    def __post_init__(self) -> None:
        check_name("overflow", self.overflow, get_args(Overflow))
        check_name("decay", self.decay, get_args(Decay))
        check_name("comparison", self.fires, get_args(Fires))
        if isinstance(self.resets, str) or not isinstance(self.resets, Collection):
            raise UserError(f"resets are a set of names, such as {{'zero'}}, got {brief(self.resets)}")
        for reset in self.resets:
            check_name("reset", reset, get_args(Reset))
        for name in ("symmetric", "by_event", "crossbar"):
            checks.truth(name, getattr(self, name))
        # With these ranges no step leaves 64 bits: |V| 2^decay_bits < 2^62.
        _within("state_bits", self.state_bits, 2, 48)
        _within("decay_bits", self.decay_bits, 1, 15)
        _within("shift", self.shift, 0, 16)
        _within("latency", self.latency, 0, 1000)
        _within("input_latency", self.input_latency, 0, 1000)
        _within("most_spikes", self.most_spikes, 1, 127)
        if self.last_spikes is not None:
            _within("last_spikes", self.last_spikes, 1, 127)
        if self.lowest is not None:
            _within("lowest", self.lowest, self.bottom, 0)
        if self.current_bits is not None:
            _within("current_bits", self.current_bits, 2, 48)
        if self.synapse is not None:
            _within("synapse", self.synapse, 1, 15)
            if self.decay == "float" or self.by_event or self.current_bits is not None:
                raise UserError(
                    "a synapse keeps whole currents from step to step, in state_bits: it takes no float decay, no "
                    "by_event and no current_bits"
                )
        if self.decay == "float" and (self.most_spikes > 1 or self.by_event):
            raise UserError("a float state is compared one time a step: it takes most_spikes=1 and no by_event")
        if self.by_event and (self.current_bits is not None or "subtract" in self.resets):
            raise UserError(
                "a chip that works event by event has no current to wrap and no step to subtract in: it takes no "
                "current_bits, and the resets zero and immediate"
            )
        _within("delays", self.delays, 0, LONGEST)
        if self.delays and self.by_event:
            raise UserError("a chip that works event by event treats each as it comes: it takes no delays")
        if self.crossbar and not self.by_event:
            raise UserError("a crossbar is updated by its events: crossbar takes by_event")

    @property
    def high(self) -> int:
        """The largest state."""
        return 2 ** (self.state_bits - 1) - 1

    @property
    def bottom(self) -> int:
        """The lowest state that the bits can hold."""
        return -self.high if self.symmetric else -self.high - 1

    @property
    def low(self) -> int:
        """The lowest state."""
        return self.bottom if self.lowest is None else max(self.bottom, self.lowest)

    def decay_code(self, beta: float, threshold: int = 0) -> int:
        """Convert a decay to the whole number that the chip is given for it.

        ``multiply``: ``round((1 − β) 2^decay_bits)``. ``shift``: ``round(log2(−1 / ln β))``, the shift of nearest time
        constant, within ``decay_bits``; 0 forgets the state. ``linear``: ``round((1 − β) θ / 2)``, what the decay takes
        off on average from a membrane that rises from 0 to the threshold. ``none`` and ``float``: 0.

        Args:
            beta: decay per step, in (0, 1].
            threshold: ``θ`` in units of the state, for ``linear``.

        Raises:
            UserError: for ``none`` where the neuron leaks.
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
        """Convert a ``code`` back to the β that the chip runs; ``None`` for a linear leak, which is no β."""
        if self.decay == "multiply":
            return 1.0 - code / 2**self.decay_bits
        if self.decay == "shift":
            return 1.0 - 2.0**-code
        return None if self.decay == "linear" else beta


def _within(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not low <= value <= high:
        raise UserError(f"{name} must be a whole number from {low} to {high}, got {brief(value)}")


GENERIC = Arithmetic(state_bits=32, shift=6, resets=frozenset({"zero", "subtract", "immediate"}), delays=LONGEST)
"""Default arithmetic: wide enough that it hardly rounds, with every reset and any delay."""


_WIDEST = 2**62  # thresholds and currents below it keep a sum of three within 64 bits
_SHIFT = 62  # shifting 64 bits by more gives the same


@dataclass(frozen=True, eq=False)
class IntegerConstants:
    """Constants of ``N`` neurons, in units of the state.

    Attributes:
        arithmetic: of the chip.
        reset: effect of a spike on the membrane.
        beta: the real decay, used where the state is float, float32 ``[1]`` or ``[N]``.
        code: of :meth:`~hw_export.integer.Arithmetic.decay_code`, int64 ``[1]`` or ``[N]``.
        most: most spikes a step, or an event.
        threshold: int64 ``[N]``.
    """

    arithmetic: Arithmetic
    reset: Reset
    beta: Tensor
    code: Tensor
    most: int
    threshold: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the state: int32 where its bits allow, else int64; float32 for a float decay."""
        if self.arithmetic.decay == "float":
            return torch.float32
        return torch.int32 if self.arithmetic.state_bits <= 32 else torch.int64

    @staticmethod
    def of(layer: IntegerLIF, arithmetic: Arithmetic, shape: tuple[int, ...], last: bool) -> IntegerConstants:
        """Convert the constants of a layer to those of the chip.

        Args:
            layer: of neurons.
            arithmetic: of the chip.
            shape: of the layer.
            last: whether it is the last layer of the network.

        Raises:
            UserError: naming the layer, for a reset or a decay that the chip does not have, and for thresholds that it
                cannot hold.
        """
        if layer.reset not in arithmetic.resets:
            raise UserError(
                f"the neurons {layer.name!r} reset by {layer.reset!r}, which this chip cannot: it has "
                f"{' and '.join(sorted(arithmetic.resets))}"
            )
        if layer.threshold.min() < 1:
            raise UserError(f"the neurons {layer.name!r} have a threshold of {layer.threshold.min()}: it must be >= 1")
        least = int(layer.threshold.max()) << arithmetic.shift
        if least >= _WIDEST or (arithmetic.decay != "float" and least + (arithmetic.fires == ">") > arithmetic.high):
            raise UserError(
                f"the neurons {layer.name!r} can never fire: their threshold {layer.threshold.max()} is {least} in the "
                f"state, which ends at {arithmetic.high} ({arithmetic.state_bits} bits)"
            )
        try:
            code = code_of(layer, arithmetic, shape)
        except UserError as error:
            raise UserError(f"the neurons {layer.name!r}: {error}") from None
        most = arithmetic.most_spikes
        if last and arithmetic.last_spikes is not None:
            most = arithmetic.last_spikes
        return IntegerConstants(
            arithmetic=arithmetic,
            reset=layer.reset,
            beta=_few(layer.betas, shape).to(torch.float32),
            code=_few(code.clamp(max=_SHIFT) if arithmetic.decay == "shift" else code, shape),
            most=most if layer.reset == "immediate" else 1,
            threshold=(spread(layer.threshold, shape).to(torch.int64) << arithmetic.shift).contiguous(),
        )

    def to(self, device: torch.device) -> IntegerConstants:
        """Move the constants to ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("beta", "code", "threshold")}
        return replace(self, **moved)


def code_of(layer: IntegerLIF, arithmetic: Arithmetic, shape: tuple[int, ...]) -> Tensor:
    """Convert the decays of a layer of neurons to codes.

    Args:
        layer: as the chip runs it.
        arithmetic: of the chip.
        shape: of the layer.

    Returns:
        int64 ``[]``, one for each channel, or one for each neuron, as its decays are; where the leak is linear, and so
        depends on the threshold, as its thresholds are too.

    Raises:
        UserError: for a decay that the chip does not have.
    """
    betas = layer.betas
    thresholds = layer.threshold if arithmetic.decay == "linear" else torch.zeros((), dtype=torch.int64)
    if betas.dim() and thresholds.dim():
        betas, thresholds = aligned(betas, shape), aligned(thresholds, shape)
    pairs = torch.stack(torch.broadcast_tensors(betas, thresholds.to(torch.float64)), -1)
    known, index = pairs.reshape(-1, 2).unique(dim=0, return_inverse=True)
    codes = [arithmetic.decay_code(beta, int(own) << arithmetic.shift) for beta, own in known.tolist()]
    found = torch.tensor(codes, dtype=torch.int64)[index].reshape(pairs.shape[:-1])
    return found.flatten() if found.dim() == len(shape) and found.numel() == shape[0] else found


def _few(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Reduce constants to ``[1]`` where all are the same, else spreads them to ``[N]``."""
    same = bool((values == values.reshape(-1)[0]).all())
    return values.reshape(-1)[:1].clone() if same else spread(values, shape).contiguous()
