"""Steps of neurons on the CPU, compiled: one pass over the sums, some neurons through all of time at once.

The same whole numbers as :mod:`hw_export.integer.kernels.torch_steps`. Each row of a block goes through short loops,
one for each term of the equations, over 64-bit numbers that stay in the L1 cache: all of them become vector code.
"""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from hw_export.integer.constants import Constants
from spikelfp.kernels.threads import split

BLOCK = 512  # neurons taken through all of time at once: their rows stay in the L1 cache
GRAIN = 8_192  # neurons below which another thread costs more than it saves
_MULTIPLY, SHIFT, _LINEAR, _NONE = 0, 1, 2, 3  # constants of the compiled code, which is kept
_DECAYS = {"multiply": _MULTIPLY, "shift": SHIFT, "linear": _LINEAR, "none": _NONE, "float": -1}
_SUBTRACT, _ZERO, _IMMEDIATE = 0, 1, 2
_RESETS = {"subtract": _SUBTRACT, "zero": _ZERO, "immediate": _IMMEDIATE}


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decay_row(v, kind, code, bits, out):
    """``out``, int64, of the states ``v`` one step later, without input."""
    if kind == _MULTIPLY:
        kept = (np.int64(1) << bits) - code
        for i in range(len(out)):
            x = np.int64(v[i])
            size = (abs(x) * kept) >> bits
            out[i] = size if x >= 0 else -size
    elif kind == SHIFT:
        for i in range(len(out)):
            x = np.int64(v[i])
            lost = x >> code
            out[i] = x - (lost if lost != 0 else np.int64(x > 0))
    elif kind == _LINEAR:
        for i in range(len(out)):
            x = np.int64(v[i])
            size = max(abs(x) - code, 0)
            out[i] = size if x >= 0 else -size
    else:
        for i in range(len(out)):
            out[i] = v[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add(source, shift, u):
    for i in range(len(u)):
        u[i] += np.int64(source[i]) << shift


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_wrapped(source, shift, bits, symmetric, u):
    """Returns how many currents were wrapped."""
    lowest = (np.int64(1) << (bits - 1)) - symmetric
    mask = (np.int64(1) << bits) - 1
    beyond = 0
    for i in range(len(u)):
        whole = np.int64(source[i]) << shift
        wrapped = ((whole + lowest) & mask) - lowest
        beyond += wrapped != whole
        u[i] += wrapped
    return beyond


@numba.njit(nogil=True, cache=True, error_model="numpy")
def limit_row(u, bits, bottom, low, high, wraps):
    """Bring ``u`` into the register; returns how many were beyond its bits."""
    beyond = 0
    for i in range(len(u)):
        beyond += (u[i] > high) | (u[i] < bottom)
    if beyond > 0 and wraps:
        half = np.int64(1) << (bits - 1)
        mask = (np.int64(1) << bits) - 1
        for i in range(len(u)):
            u[i] = ((u[i] + half) & mask) - half
    if beyond > 0 or low > bottom:
        for i in range(len(u)):
            u[i] = min(max(u[i], low), high)
    return beyond


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fire_row(u, threshold, most, ties, reset, spikes, v):
    """Compare, write the spikes, and leave the state in ``v``. ties: 1 where a tie fires, else 0."""
    if most > 1:
        for i in range(len(u)):
            x = u[i] - 1 + ties
            count = min(x // threshold[i], most) if x > 0 else np.int64(0)
            spikes[i] = count
            v[i] = u[i] - threshold[i] * count
    elif reset == _ZERO:
        for i in range(len(u)):
            fired = u[i] + ties > threshold[i]
            spikes[i] = fired
            v[i] = 0 if fired else u[i]
    elif reset == _IMMEDIATE:
        for i in range(len(u)):
            fired = u[i] + ties > threshold[i]
            spikes[i] = fired
            v[i] = u[i] - (threshold[i] if fired else 0)
    else:
        for i in range(len(u)):
            spikes[i] = u[i] + ties > threshold[i]
            v[i] = u[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _integers(
    sums, offset, biased, state, threshold, kind, code, decay_bits, shift, current_bits, symmetric, bits, bottom, low,
    high, wraps, most, ties, reset, out, first, last,
):  # fmt: skip
    """Samples ``first … last``; returns how often a register was left."""
    steps, varying, neurons = out.shape[0], sums.shape[0] > 1, out.shape[2]
    room = np.empty(BLOCK, np.int64)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            u = room[: right - left]
            v, theta, own = state[b, left:right], threshold[left:right], offset[left:right]
            for t in range(steps):
                source = sums[t if varying else 0, b, left:right]
                decay_row(v, kind, code, decay_bits, u)
                if current_bits == 0:
                    add(source, shift, u)
                else:
                    beyond += _add_wrapped(source, shift, current_bits, symmetric, u)
                if biased:
                    for i in range(len(u)):
                        u[i] += own[i]
                if reset == _SUBTRACT:
                    for i in range(len(u)):
                        u[i] -= theta[i] if v[i] + ties > theta[i] else 0
                beyond += limit_row(u, bits, bottom, low, high, wraps)
                fire_row(u, theta, most, ties, reset, out[t, b, left:right], v)
    return beyond


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _floats(sums, offset, state, threshold, beta, shift, current_bits, symmetric, tie, reset, out, first, last):
    steps, varying, neurons = out.shape[0], sums.shape[0] > 1, out.shape[2]
    room, whole = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int64)
    nil = np.float32(0)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            u, current = room[: right - left], whole[: right - left]
            v, theta, own = state[b, left:right], threshold[left:right], offset[left:right]
            for t in range(steps):
                source = sums[t if varying else 0, b, left:right]
                current[:] = 0
                if current_bits == 0:
                    add(source, shift, current)
                else:
                    beyond += _add_wrapped(source, shift, current_bits, symmetric, current)
                spikes = out[t, b, left:right]
                for i in range(len(u)):
                    u[i] = beta * v[i] + np.float32(current[i])
                    u[i] = u[i] + own[i]
                    if reset == _SUBTRACT:
                        u[i] = u[i] - (theta[i] if v[i] > theta[i] or (tie and v[i] == theta[i]) else nil)
                for i in range(len(u)):
                    fired = u[i] > theta[i] or (tie and u[i] == theta[i])
                    spikes[i] = fired
                    if reset == _ZERO:
                        v[i] = nil if fired else u[i]
                    elif reset == _IMMEDIATE:
                        v[i] = u[i] - (theta[i] if fired else nil)
                    else:
                        v[i] = u[i]
    return beyond


def codes(c: Constants) -> tuple[int, int, int, int, int]:
    """How the compiled code is told of the decay, the spikes and the reset: kind, code, bits; ties; reset."""
    a = c.arithmetic
    return _DECAYS[a.decay], c.code, a.decay_bits, int(a.fires == ">="), _RESETS[c.reset]


def advance(current: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor) -> int:
    """As :func:`hw_export.integer.kernels.torch_steps.advance`, for contiguous tensors on the CPU."""
    a = c.arithmetic
    sums, shifted, states, fired = current.numpy(), (offset << a.shift).numpy(), state.numpy(), out.numpy()
    threshold, wrapped = c.threshold.numpy(), a.current_bits or 0
    kind, code, bits, ties, reset = codes(c)
    real = np.float32
    floats = (
        sums, shifted.astype(real), states, threshold.astype(real), real(c.beta), a.shift, wrapped, int(a.symmetric),
        bool(ties), reset, fired,
    )  # fmt: skip
    integers = (
        sums, shifted, bool(shifted.any()), states, threshold, kind, code, bits, a.shift, wrapped, int(a.symmetric),
        a.state_bits, a.bottom, a.low, a.high, a.overflow == "wrap", c.most, ties, reset, fired,
    )  # fmt: skip
    beyond: list[int] = []

    def run(first: int, last: int) -> None:
        own = _floats(*floats, first, last) if a.decay == "float" else _integers(*integers, first, last)
        beyond.append(own)

    split(run, len(state), max(1, GRAIN // state.shape[1]))
    return sum(beyond)
