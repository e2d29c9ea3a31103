"""The LIF scans on the CPU, fused: one pass over memory, threads over neurons, vector units within a row.

The arithmetic keeps the order of :mod:`spikelfp.functional.lif` (no fast-math, no fused multiply-add), so the
spikes are the same to the last one. Compiled once per dtype and kept on disk.
"""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from spikelfp.functional.lif import LIFParameters, Trace
from spikelfp.functional.sequence import is_constant
from spikelfp.kernels.threads import split

_BLOCK = 2048  # neurons taken through all of time at once: a row of a few arrays stays in the L1 cache
_GRAIN = 16_384  # neurons below which another thread costs more than it saves


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(current, start, beta, threshold, to_zero, spikes, membrane, first, last):
    steps = membrane.shape[0]
    varying = current.shape[0] > 1
    one, nil = membrane.dtype.type(1), membrane.dtype.type(0)
    for low in range(first, last, _BLOCK):
        high = min(low + _BLOCK, last)
        for t in range(steps):
            source = current[t if varying else 0]
            before = membrane[t - 1] if t > 0 else start
            now = membrane[t]
            fired = spikes[t]
            if to_zero:
                for i in range(low, high):
                    kept = before[i] if before[i] <= threshold else nil
                    u = beta * kept + source[i]
                    now[i] = u
                    fired[i] = one if u > threshold else nil
            else:
                for i in range(low, high):
                    u = beta * before[i] + source[i] - (threshold if before[i] > threshold else nil)
                    now[i] = u
                    fired[i] = one if u > threshold else nil


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _reverse(
    message, reward, final, membrane, start, beta, threshold, eps, to_zero, increment, out, to_start, first, last
):
    steps = membrane.shape[0]
    has_message, has_reward, has_final = message.shape[0] > 0, reward.shape[0] > 0, final.shape[0] > 0
    varying = out.shape[0] == steps
    nil = membrane.dtype.type(0)
    for low in range(first, last, _BLOCK):
        high = min(low + _BLOCK, last)
        internal = np.zeros(high - low, membrane.dtype)
        if has_final:
            for i in range(low, high):
                internal[i - low] = final[i] * membrane[steps - 1, i]
        for t in range(steps - 1, -1, -1):
            before = membrane[t - 1] if t > 0 else start
            now = membrane[t]
            target = out[t if varying else 0]
            for i in range(low, high):
                fired = now[i] > threshold
                total = internal[i - low]
                if has_message:
                    total += message[t, i] if fired else nil
                if has_reward:
                    total += reward[t, i]
                fired_before = before[i] > threshold
                decayed = beta * before[i]
                # The current is not kept: what the membrane gained is, to rounding, what flowed in.
                flow = now[i] if fired_before and to_zero else now[i] - decayed
                if fired_before and not to_zero:
                    flow += threshold
                if increment:
                    scale = abs(before[i]) + abs(decayed + flow - before[i]) + eps
                else:
                    scale = abs(decayed) + abs(flow) + eps
                n = total / scale if scale > 0 else nil  # D = 0: nothing flowed in (ε = 0 only)
                internal[i - low] = decayed * n
                if varying:
                    target[i] = n
                else:
                    target[i] += n
                if t == 0:
                    to_start[i] = beta * n
        if not varying:
            mean = membrane.dtype.type(1.0 / steps)
            for i in range(low, high):
                out[0, i] *= mean


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _integrate(current, start, beta, backwards, out, first, last):
    steps = out.shape[0]
    varying = current.shape[0] > 1
    for low in range(first, last, _BLOCK):
        high = min(low + _BLOCK, last)
        before = start
        for step in range(steps):
            t = steps - 1 - step if backwards else step
            source = current[t if varying else 0]
            now = out[t]
            for i in range(low, high):
                now[i] = beta * before[i] + source[i]
            before = now


def _flat(tensor: Tensor | None, rows: int, like: np.ndarray) -> np.ndarray:
    """``tensor`` as a contiguous ``[rows, count]`` array; an empty one stands for ``None``."""
    if tensor is None:
        return np.empty((0, 0) if rows else (0,), like.dtype)
    array = tensor.detach().contiguous().numpy()
    return array.reshape(rows, -1) if rows else array.reshape(-1)


def forward(current: Tensor, start: Tensor, p: LIFParameters) -> Trace:
    """Spikes and membranes ``[T, …]`` of ``current`` ``[T, …]`` from ``start`` ``[…]``, float32 or float64.

    A current that is the same at every step (stride 0 in time) is read once per step from one row.
    """
    spikes, membrane = (current.new_empty(current.shape) for _ in range(2))
    steps = len(current)
    source = current[:1] if is_constant(current) else current
    trace = _flat(membrane, steps, np.empty(0))
    real = trace.dtype.type
    arguments = (
        _flat(source, len(source), trace),
        _flat(start, 0, trace),
        real(p.beta),
        real(p.threshold),
        p.reset == "zero",
        _flat(spikes, steps, trace),
        trace,
    )
    split(lambda low, high: _forward(*arguments, low, high), trace.shape[1], _GRAIN)
    return Trace(spikes, membrane)


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    membrane: Tensor,
    start: Tensor,
    p: LIFParameters,
    eps: float,
    constant: bool,
) -> tuple[Tensor, Tensor]:
    """Message to the current and to ``start``; see :func:`spikelfp.kernels.torch_scan.reverse`."""
    steps = len(membrane)
    out = membrane.new_zeros((1, *start.shape)) if constant else membrane.new_empty(membrane.shape)
    to_start = start.new_empty(start.shape)
    trace = _flat(membrane, steps, np.empty(0))
    real = trace.dtype.type
    arguments = (
        _flat(message, steps, trace),
        _flat(reward, steps, trace),
        _flat(final, 0, trace),
        trace,
        _flat(start, 0, trace),
        real(p.beta),
        real(p.threshold),
        real(eps),
        p.reset == "zero",
        p.denominator == "increment",
        _flat(out, len(out), trace),
        _flat(to_start, 0, trace),
    )
    split(lambda low, high: _reverse(*arguments, low, high), trace.shape[1], _GRAIN)
    return out, to_start


def integrate(current: Tensor, start: Tensor, beta: float, backwards: bool) -> Tensor:
    """Leaky integration; see :func:`spikelfp.kernels.torch_scan.integrate`."""
    out = current.new_empty(current.shape)
    steps = len(current)
    source = current[:1] if is_constant(current) else current
    trace = _flat(out, steps, np.empty(0))
    arguments = (
        _flat(source, len(source), trace), _flat(start, 0, trace), trace.dtype.type(beta), backwards, trace,
    )  # fmt: skip
    split(lambda low, high: _integrate(*arguments, low, high), trace.shape[1], _GRAIN)
    return out
