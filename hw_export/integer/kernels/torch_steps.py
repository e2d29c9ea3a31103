"""Steps of neurons in plain torch, on any device: the equations of :mod:`hw_export.integer.arithmetic`, one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.constants import Constants


def wrap(value: Tensor, bits: int, symmetric: bool = False) -> Tensor:
    """int64 ``value`` modulo ``2^bits`` into ``−2^(bits−1) … 2^(bits−1) − 1``; symmetric: the lowest reads
    ``+2^(bits−1)``."""
    lowest = (1 << (bits - 1)) - int(symmetric)
    return ((value + lowest) & ((1 << bits) - 1)) - lowest


def shifted(state: Tensor, bits: int) -> Tensor:
    """int64 ``state`` less its part of ``2^bits``, by 1 towards 0 where that changes nothing."""
    lost = state >> bits
    return torch.where(lost == 0, state - state.sign(), state - lost)


def decay(state: Tensor, c: Constants) -> Tensor:
    """int64 ``state`` one step later, without input."""
    kind = c.arithmetic.decay
    if kind == "multiply":
        bits = c.arithmetic.decay_bits
        return state.sign() * ((state.abs() * ((1 << bits) - c.code)) >> bits)
    if kind == "shift":
        return shifted(state, c.code)
    if kind == "linear":
        return state.sign() * (state.abs() - c.code).clamp(min=0)
    return state


def limit(value: Tensor, a: Arithmetic) -> tuple[Tensor, Tensor]:
    """int64 ``value`` as the register holds it, and where it was beyond the register's bits."""
    beyond = (value > a.high) | (value < a.bottom)
    held = value if a.overflow == "saturate" else wrap(value, a.state_bits)
    return held.clamp(a.low, a.high), beyond


def fire(membrane: Tensor, c: Constants, threshold: Tensor) -> Tensor:
    """How often each neuron fires, in the dtype of ``membrane``; ``threshold`` in the same dtype."""
    strict = c.arithmetic.fires == ">"
    if c.most == 1:
        return (membrane > threshold if strict else membrane >= threshold).to(membrane.dtype)
    # U > k θ for k = 1, 2, …: as often as θ goes into U, or into U − 1
    return ((membrane - int(strict)).div(threshold, rounding_mode="floor")).clamp(0, c.most)


def reset(membrane: Tensor, spikes: Tensor, c: Constants, threshold: Tensor) -> Tensor:
    """The state that is left behind a step, or an event."""
    if c.reset == "zero":
        return membrane * (spikes == 0)
    return membrane - threshold * spikes if c.reset == "immediate" else membrane


def advance(current: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor) -> int:
    """Run ``current`` ``[T, B, N]`` (sums without biases; ``[1, B, N]`` for the same at every step) through neurons.

    offset: biases, int64 ``[N]``. state: ``[B, N]``, changed in place. out: spikes, int8 ``[T, B, N]``, are written to
    it. Returns at how many neuron-steps a membrane, or a wrapped current, went beyond its bits.
    """
    run = _floats if c.arithmetic.decay == "float" else _integers
    return run(current, offset << c.arithmetic.shift, state, c, out)


def _current(step: Tensor, a: Arithmetic) -> tuple[Tensor, Tensor | None]:
    """int64 current of the sums of a step, and where it was wrapped."""
    current = step.to(torch.int64) << a.shift
    if a.current_bits is None:
        return current, None
    wrapped = wrap(current, a.current_bits, a.symmetric)
    return wrapped, wrapped != current


def _integers(sums: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor) -> int:
    v = state.to(torch.int64)
    beyond = torch.zeros((), dtype=torch.int64, device=state.device)
    for t in range(len(out)):
        current, wrapped = _current(sums[t if len(sums) > 1 else 0], c.arithmetic)
        if wrapped is not None:
            beyond += wrapped.sum()
        before = decay(v, c) + current + offset
        if c.reset == "subtract":
            before -= c.threshold * fire(v, c, c.threshold)
        u, hit = limit(before, c.arithmetic)
        spikes = fire(u, c, c.threshold)
        v = reset(u, spikes, c, c.threshold)
        beyond += hit.sum()
        out[t] = spikes.to(out.dtype)
    state.copy_(v)
    return int(beyond)


def _floats(sums: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor) -> int:
    threshold, offset = c.threshold.to(torch.float32), offset.to(torch.float32)
    beyond = torch.zeros((), dtype=torch.int64, device=state.device)
    v = state.clone()
    for t in range(len(out)):
        current, wrapped = _current(sums[t if len(sums) > 1 else 0], c.arithmetic)
        if wrapped is not None:
            beyond += wrapped.sum()
        u = v * c.beta + current.to(torch.float32)
        u = u + offset
        if c.reset == "subtract":
            u = u - threshold * fire(v, c, threshold)
        spikes = fire(u, c, threshold)
        v = reset(u, spikes, c, threshold)
        out[t] = spikes.to(out.dtype)
    state.copy_(v)
    return int(beyond)
