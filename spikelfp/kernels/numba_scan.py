"""The LIF scans on the CPU, fused: one pass over memory, threads over neurons, vector units within a row.

The arithmetic keeps the order of :mod:`spikelfp.functional.lif` (no fast-math, no fused multiply-add), so the
spikes are exactly the same. Kernels are compiled once per dtype and kept on disk.

Inner loops run from 0 over contiguous slices: an index that could be negative, or a stride, keeps the compiler from
using vector units.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import overload
from torch import Tensor

from spikelfp.functional.lif import Constant, LIFParameters, Reset
from spikelfp.functional.sequence import Trace, is_constant
from spikelfp.machine import empty, split

_BLOCK = 2048  # neurons taken through all of time at once: a row of a few arrays stays in the L1 cache
_SCRATCH = 65_536  # membranes of a block that are computed again: they stay in the L2 cache
_GRAIN = 16_384  # neurons below which another thread costs more than it saves
_IMMEDIATE, _ZERO = 1, 2  # compiled into kernels that are kept on disk, so not imported from another file
RESET_CODES: dict[Reset, int] = {"subtract": 0, "immediate": _IMMEDIATE, "zero": _ZERO}
"""Resets as compiled code is given them."""


def part(constant: Any, low: int, high: int) -> Any:
    """Return, in compiled code, a constant of the neurons ``low … high``; a number as it is."""
    raise NotImplementedError


def at(constant: Any, place: int) -> Any:
    """Return, in compiled code, a constant of the neuron at ``place``; a number as it is."""
    raise NotImplementedError


@overload(part, inline="always")
def _part(constant, low, high):
    if isinstance(constant, types.Array):
        return lambda constant, low, high: constant[low:high]
    return lambda constant, low, high: constant


@overload(at, inline="always")
def _at(constant, place):
    if isinstance(constant, types.Array):
        return lambda constant, place: constant[place]
    return lambda constant, place: constant


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _step(source, before, now, beta, threshold, reset):
    """Compute the membranes of a row of neurons one step later; ``reset`` is one of :data:`RESET_CODES`."""
    nil = now.dtype.type(0)
    if reset == _ZERO:
        for i in range(len(now)):
            now[i] = at(beta, i) * (before[i] if before[i] <= at(threshold, i) else nil) + source[i]
    elif reset == _IMMEDIATE:
        for i in range(len(now)):
            now[i] = at(beta, i) * (before[i] - (at(threshold, i) if before[i] > at(threshold, i) else nil)) + source[i]
    else:
        for i in range(len(now)):
            now[i] = at(beta, i) * before[i] + source[i] - (at(threshold, i) if before[i] > at(threshold, i) else nil)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(current, start, beta, threshold, reset, spikes, membrane, first, last):
    """Write spikes and membranes of all steps; only the last membrane where ``membrane`` has one row."""
    steps = spikes.shape[0]
    varying, keep = current.shape[0] == steps, membrane.shape[0] == steps
    one, nil = spikes.dtype.type(1), spikes.dtype.type(0)
    pair = np.empty((2, _BLOCK), spikes.dtype)
    for low in range(first, last, _BLOCK):
        high = min(low + _BLOCK, last)
        before = start[low:high]
        decay, theta = part(beta, low, high), part(threshold, low, high)
        for t in range(steps):
            now = membrane[t, low:high] if keep else pair[t % 2, : high - low]
            _step(current[t if varying else 0, low:high], before, now, decay, theta, reset)
            fired = spikes[t, low:high]
            for i in range(len(now)):
                fired[i] = one if now[i] > at(theta, i) else nil
            before = now
        if not keep:
            membrane[0, low:high] = before


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _share(total, before, now, beta, threshold, least, eps, reset, increment, local, message):
    """Go one step back: write the message ``n = R / D``, and to ``total`` the reward handed to the step before.

    Nothing is handed on where credit is ``local``.
    """
    nil = now.dtype.type(0)
    for i in range(len(now)):
        b = before[i]
        decay, theta = at(beta, i), at(threshold, i)
        decayed = decay * b
        fired_before = b > theta
        # The current is not kept: what the membrane gained is, to rounding, what flowed in.
        if reset == _ZERO:
            flow = now[i] if fired_before else now[i] - decayed
        elif reset == _IMMEDIATE:
            flow = now[i] - decay * (b - (theta if fired_before else nil))
        else:
            flow = now[i] - decayed + (theta if fired_before else nil)
        scale = (abs(b) + abs(decayed + flow - b) if increment else abs(decayed) + abs(flow)) + eps
        scale = at(least, i) if scale < at(least, i) else scale
        n = total[i] / scale
        n = n if scale > 0 else nil  # D = 0: nothing flowed in (ε = 0 only)
        total[i] = nil if local else decayed * n
        message[i] = n


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _reverse(
    message, reward, final, current, membrane, start, beta, threshold, bar, least, eps, reset, increment, local, steps,
    out, to_start, first, last,
):  # fmt: skip
    """Run the reward back; where ``membrane`` is empty, the membranes are computed again, block by block."""
    has_message, has_reward, has_final = message.shape[0] > 0, reward.shape[0] > 0, final.shape[0] > 0
    varying, kept = out.shape[0] == steps, membrane.shape[0] > 0
    nil, share = start.dtype.type(0), start.dtype.type(1.0 / steps)
    block = _BLOCK if kept else max(64, min(_BLOCK, _SCRATCH // steps))
    again = np.empty((0 if kept else steps, block), start.dtype)
    sums, step = np.empty(block, start.dtype), np.empty(block, start.dtype)
    for low in range(first, last, block):
        high = min(low + block, last)
        width = high - low
        decay, theta = part(beta, low, high), part(threshold, low, high)
        heard, smallest = part(bar, low, high), part(least, low, high)
        if not kept:
            for t in range(steps):
                before = again[t - 1, :width] if t > 0 else start[low:high]
                source = current[t if current.shape[0] > 1 else 0, low:high]
                _step(source, before, again[t, :width], decay, theta, reset)
        now = membrane[steps - 1, low:high] if kept else again[steps - 1, :width]
        total = sums[:width]
        total[:] = nil
        if not varying:
            out[0, low:high] = nil
        if has_final:
            own = final[low:high]
            for i in range(width):
                total[i] = own[i] * now[i]
        for t in range(steps - 1, -1, -1):
            before = start[low:high]
            if t > 0:
                before = membrane[t - 1, low:high] if kept else again[t - 1, :width]
            if has_message:
                m = message[t, low:high]
                for i in range(width):
                    total[i] += m[i] if now[i] > at(heard, i) else nil
            if has_reward:
                r = reward[t, low:high]
                for i in range(width):
                    total[i] += r[i]
            n = out[t, low:high] if varying else step[:width]
            _share(total, before, now, decay, theta, smallest, eps, reset, increment, local, n)
            if not varying:
                mean = out[0, low:high]
                for i in range(width):
                    mean[i] += n[i]
            if t == 0:
                first_step = to_start[low:high]
                for i in range(width):
                    first_step[i] = nil if local else at(decay, i) * n[i]
            now = before
        if not varying:
            mean = out[0, low:high]
            for i in range(width):
                mean[i] *= share


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _integrate(current, start, beta, backwards, out, first, last):
    steps = out.shape[0]
    varying = current.shape[0] == steps
    for low in range(first, last, _BLOCK):
        high = min(low + _BLOCK, last)
        before, decay = start[low:high], part(beta, low, high)
        for step in range(steps):
            t = steps - 1 - step if backwards else step
            source, now = current[t if varying else 0, low:high], out[t, low:high]
            for i in range(len(now)):
                now[i] = at(decay, i) * before[i] + source[i]
            before = now


def _flat(tensor: Tensor | None, rows: int, like: np.ndarray) -> np.ndarray:
    """Return ``tensor`` as a contiguous ``[rows, count]`` array; an empty one for ``None``."""
    if tensor is None:
        return np.empty((0, 0) if rows else (0,), like.dtype)
    array = tensor.detach().contiguous().numpy()
    return array.reshape(rows, -1) if rows else array.reshape(-1)


def _rows(current: Tensor | None, like: np.ndarray) -> np.ndarray:
    """Return ``current`` ``[T, …]`` as ``[T, count]``, or ``[1, count]`` if it is the same at every step."""
    if current is not None and is_constant(current):
        current = current[:1]
    return _flat(current, 1 if current is None else len(current), like)


def constants(start: Tensor, like: np.ndarray, *values: Constant) -> list[Any]:
    """Return constants of neurons for compiled code: numbers in the dtype of ``like``, or arrays shaped like a step.

    Where one of them is a tensor, all become arrays, so that few variants are compiled.

    Args:
        start: ``[B, …]``, the shape of a step.
        like: array whose dtype the numbers take.
        *values: the constants.
    """
    if not any(isinstance(value, Tensor) for value in values):
        return [like.dtype.type(value) for value in values]
    return [_flat(torch.as_tensor(value, dtype=start.dtype).expand(start.shape), 0, like) for value in values]


def forward(current: Tensor, start: Tensor, p: LIFParameters, keep: bool = True) -> Trace:
    """Run :func:`spikelfp.kernels.torch_scan.forward` in float32 or float64.

    A current that is the same at every step (stride 0 in time) is read from one row.
    """
    steps = len(current)
    spikes = empty(current.shape, current)
    membrane = empty((steps if keep else 1, *start.shape), current)
    fired = _flat(spikes, steps, np.empty(0))
    arguments = (
        _rows(current, fired),
        _flat(start, 0, fired),
        *constants(start, fired, p.beta, p.threshold),
        RESET_CODES[p.reset],
        fired,
        _flat(membrane, len(membrane), fired),
    )
    split(lambda low, high: _forward(*arguments, low, high), fired.shape[1], _GRAIN)
    return Trace(spikes=spikes, membrane=membrane)


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    membrane: Tensor | None,
    start: Tensor,
    p: LIFParameters,
    eps: float,
    constant: bool,
    current: Tensor | None = None,
    local: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the messages to the current and to ``start``; see :func:`spikelfp.kernels.torch_scan.reverse`."""
    again = current if membrane is None else None
    trace = membrane if again is None else again
    assert trace is not None, "neither membranes nor the current they come from"
    steps = len(trace)
    out = empty((1 if constant else steps, *start.shape), start)
    to_start = start.new_empty(start.shape)
    before = _flat(start, 0, np.empty(0))
    arguments = (
        _flat(message, steps, before),
        _flat(reward, steps, before),
        _flat(final, 0, before),
        _rows(again, before),
        _flat(membrane, steps, before),
        before,
        *constants(start, before, p.beta, p.threshold, p.bar, p.least),
        before.dtype.type(eps),
        RESET_CODES[p.reset],
        p.denominator == "increment",
        local,
        steps,
        _flat(out, len(out), before),
        _flat(to_start, 0, before),
    )
    split(lambda low, high: _reverse(*arguments, low, high), before.shape[0], _GRAIN)
    return out, to_start


def integrate(current: Tensor, start: Tensor, beta: Constant, backwards: bool) -> Tensor:
    """Integrate with a leak; see :func:`spikelfp.kernels.torch_scan.integrate`."""
    out = empty(current.shape, current)
    steps = len(current)
    trace = _flat(out, steps, np.empty(0))
    arguments = (
        _rows(current, trace), _flat(start, 0, trace), *constants(start, trace, beta), backwards, trace,
    )  # fmt: skip
    split(lambda low, high: _integrate(*arguments, low, high), trace.shape[1], _GRAIN)
    return out
