"""Compiled kernels for the CPU, with the same whole numbers as :mod:`hw_export.integer.torch_kernels`.

In steps they pass over the sums one time and take some neurons through all of time together: each row of a block goes
through short loops, one for each term of the equations, over 64-bit numbers that stay in the L1 cache, and all of them
become vector code. Event by event they go sample by sample. Sums of dense layers are made from their events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic, IntegerConstants
from hw_export.integer.torch_kernels import EventLists
from spikelfp.kernels import chosen_kernels
from spikelfp.kernels.events.vectors import VECTOR, WIDE, Body, lowest_bit, weighted_rows, weighted_rows_narrow
from spikelfp.machine import split

BLOCK = 512  # neurons taken through all of time at once: their rows stay in the L1 cache
GRAIN = 8_192  # neurons below which another thread costs more than it saves
_MULTIPLY, SHIFT, _LINEAR, _NONE = 0, 1, 2, 3  # constants of the compiled code, which is kept
_DECAYS = {"multiply": _MULTIPLY, "shift": SHIFT, "linear": _LINEAR, "none": _NONE, "float": -1}
_SUBTRACT, _ZERO, _IMMEDIATE = 0, 1, 2
_RESETS = {"subtract": _SUBTRACT, "zero": _ZERO, "immediate": _IMMEDIATE}


def compiled(device: torch.device) -> bool:
    """Whether these kernels run on ``device``: on the CPU, unless ``SPIKELFP_KERNELS`` asks for ``torch``."""
    return device.type == "cpu" and chosen_kernels() in ("auto", "numba")


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decay_row(v, kind, code, bits, out):
    """Write to ``out``, int64, the states ``v`` decayed by one step; ``code`` is ``[1]``, or one for each state."""
    one = len(code) == 1  # loops of their own, which are faster
    if kind == _MULTIPLY:
        full = np.int64(1) << bits
        if one:
            kept = full - code[0]
            for i in range(len(out)):
                x = np.int64(v[i])
                size = (abs(x) * kept) >> bits
                out[i] = size if x >= 0 else -size
        else:
            for i in range(len(out)):
                x = np.int64(v[i])
                size = (abs(x) * (full - code[i])) >> bits
                out[i] = size if x >= 0 else -size
    elif kind == SHIFT:
        for i in range(len(out)):
            x = np.int64(v[i])
            lost = x >> (code[0] if one else code[i])
            out[i] = x - (lost if lost != 0 else np.int64(x > 0))
    elif kind == _LINEAR:
        for i in range(len(out)):
            x = np.int64(v[i])
            size = max(abs(x) - (code[0] if one else code[i]), 0)
            out[i] = size if x >= 0 else -size
    else:
        for i in range(len(out)):
            out[i] = v[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add(source, shift, u):
    """Add ``source``, shifted left, to ``u``."""
    for i in range(len(u)):
        u[i] += np.int64(source[i]) << shift


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_wrapped(source, shift, bits, symmetric, u):
    """Add wrapped currents to ``u``; return how many were wrapped."""
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
    """Bring ``u`` into the register; return how many were beyond its bits."""
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
    """Compare, writes the spikes, and leaves the state in ``v``; ``ties`` is 1 where a tie fires, else 0."""
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
    """Run samples ``first … last``; return how often a register was left."""
    steps, varying, neurons = out.shape[0], sums.shape[0] > 1, out.shape[2]
    scratch = np.empty(BLOCK, np.int64)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            u = scratch[: right - left]
            v, theta, own = state[b, left:right], threshold[left:right], offset[left:right]
            codes = code if len(code) == 1 else code[left:right]
            for t in range(steps):
                source = sums[t if varying else 0, b, left:right]
                decay_row(v, kind, codes, decay_bits, u)
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
    scratch, whole = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int64)
    nil = np.float32(0)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            u, current = scratch[: right - left], whole[: right - left]
            v, theta, own = state[b, left:right], threshold[left:right], offset[left:right]
            kept = beta[left:right]
            for t in range(steps):
                source = sums[t if varying else 0, b, left:right]
                current[:] = 0
                if current_bits == 0:
                    add(source, shift, current)
                else:
                    beyond += _add_wrapped(source, shift, current_bits, symmetric, current)
                spikes = out[t, b, left:right]
                for i in range(len(u)):
                    u[i] = kept[i] * v[i] + np.float32(current[i])
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


def codes(c: IntegerConstants) -> tuple[int, np.ndarray, int, int, int]:
    """Encode decay, spikes and reset for the compiled code: kind, code and bits of the decay; ties; reset."""
    a = c.arithmetic
    return _DECAYS[a.decay], c.code.numpy(), a.decay_bits, int(a.fires == ">="), _RESETS[c.reset]


def in_steps(current: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor) -> int:
    """Compute :func:`hw_export.integer.torch_kernels.in_steps` for contiguous tensors on the CPU."""
    a = c.arithmetic
    sums, shifted, states, fired = current.numpy(), (offset << a.shift).numpy(), state.numpy(), out.numpy()
    threshold, wrapped = c.threshold.numpy(), a.current_bits or 0
    kind, code, bits, ties, reset = codes(c)
    real = np.float32
    betas = c.beta.expand(len(threshold)).contiguous().numpy()
    floats = (
        sums, shifted.astype(real), states, threshold.astype(real), betas, a.shift, wrapped, int(a.symmetric),
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _currents(sums, current, synapse, shift, bits, bottom, high, wraps, out, first, last):
    """Run samples ``first … last``; return how often a current was limited."""
    steps, varying, neurons = out.shape[0], sums.shape[0] > 1, out.shape[2]
    scratch = np.empty(BLOCK, np.int64)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            x, y = scratch[: right - left], current[b, left:right]
            for t in range(steps):
                x[:] = y
                add(sums[t if varying else 0, b, left:right], shift, x)
                beyond += limit_row(x, bits, bottom, bottom, high, wraps)
                decay_row(x, SHIFT, synapse, 0, y)
                out[t, b, left:right] = y
    return beyond


def currents(sums: Tensor, current: Tensor, a: Arithmetic, steps: int) -> tuple[Tensor, int]:
    """Compute :func:`hw_export.integer.torch_kernels.currents` for contiguous tensors on the CPU."""
    out = current.new_empty(steps, *current.shape)
    numbers = np.array([a.synapse]), a.shift, a.state_bits, a.bottom, a.high, a.overflow == "wrap"
    arrays = sums.numpy(), current.numpy(), *numbers, out.numpy()
    beyond: list[int] = []
    split(
        lambda first, last: beyond.append(_currents(*arrays, first, last)),
        len(current),
        max(1, GRAIN // current.shape[1]),
    )
    return out, sum(beyond)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sample(
    index, lengths, weight, offset, biased, v, threshold, kind, code, decay_bits, bits, bottom, low, high, wraps, most,
    ties, reset, out,
):  # fmt: skip
    """Run all events of one sample; return those emitted, how many in each step, and how often a state overran."""
    neurons, steps = len(v), len(lengths)
    u, spikes = np.empty(neurons, np.int64), np.empty(neurons, np.int64)
    left = np.zeros(neurons, np.bool_)
    emitted, many = np.empty(64, np.int64), np.zeros(steps, np.int64)
    e, count, beyond = 0, 0, 0
    for t in range(steps):
        before, fired = count, out[t]
        fired[:] = 0
        for place in range(-1 if biased else 0, lengths[t]):
            added = offset if place < 0 else weight[index[e + place]]
            for i in range(neurons):
                u[i] = v[i] + added[i]
            if limit_row(u, bits, bottom, low, high, wraps) > 0:
                for i in range(neurons):
                    left[i] |= not bottom <= v[i] + added[i] <= high
            fire_row(u, threshold, most, ties, reset, spikes, v)
            for i in range(neurons):
                if spikes[i] > 0:
                    fired[i] += spikes[i]
                    if count + spikes[i] > len(emitted):
                        longer = np.empty(2 * (count + spikes[i]), np.int64)
                        longer[:count] = emitted[:count]
                        emitted = longer
                    emitted[count : count + spikes[i]] = i
                    count += spikes[i]
        decay_row(v, kind, code, decay_bits, u)
        for i in range(neurons):
            v[i] = u[i]
        beyond += left.sum()
        left[:] = False
        e += lengths[t]
        many[t] = count - before
    return emitted[:count], many, beyond


def by_event(
    events: EventLists, weight: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor
) -> tuple[EventLists, int]:
    """Compute :func:`hw_export.integer.torch_kernels.by_event` on the CPU."""
    a = c.arithmetic
    kind, code, decay_bits, ties, reset = codes(c)
    rows, first = (weight << a.shift).contiguous().numpy(), (offset << a.shift).numpy()
    numbers = (
        c.threshold.numpy(), kind, code, decay_bits, a.state_bits, a.bottom, a.low, a.high, a.overflow == "wrap",
        c.most, ties, reset,
    )  # fmt: skip
    index, lengths = events.source.numpy(), events.lengths.contiguous().numpy()
    begin = np.concatenate([[0], lengths.sum(1).cumsum()])
    states, fired = state.numpy(), out.numpy()
    found: list[tuple[np.ndarray, np.ndarray, int]] = [(index[:0], lengths[0], 0)] * len(states)

    def run(top: int, bottom: int) -> None:
        for b in range(top, bottom):
            own = index[begin[b] : begin[b + 1]]
            found[b] = _sample(
                own, lengths[b], rows, first, bool(first.any()), states[b], *numbers, fired[:, b]
            )  # fmt: skip

    split(run, len(states), 1)
    emitted, many, beyond = zip(*found, strict=True)
    lists = EventLists(torch.from_numpy(np.concatenate(emitted)), torch.from_numpy(np.stack(many)))
    return lists, sum(beyond)


_LANES = VECTOR // 4  # of float32
_TILE = WIDE * _LANES  # outputs whose sums are made together: the weights of a tile stay in the L2 cache
_KEPT = 131_072  # inputs whose events are kept while tile after tile goes over them
_GRAIN = 64  # rows below which another thread costs more than it saves
_COLUMNS = 4_096  # the same for columns of which totals are made


class ByInput(NamedTuple):
    """Weights ``[N, K]`` in the order in which :func:`sums` reads them: tiles of outputs, in each input after input.

    Attributes:
        rows: flat float32, ``[K, 64]`` for each whole tile, then ``[K, 16]`` for what is left, filled up with zeros.
        inputs: ``K``.
        outputs: ``N``.
    """

    rows: Tensor
    inputs: int
    outputs: int

    @staticmethod
    def of(weight: Tensor) -> ByInput:
        """Arrange a ``weight [N, K]`` of whole numbers."""
        outputs, inputs = weight.shape
        padded = -(-outputs // _LANES) * _LANES
        by_input = torch.zeros(inputs, padded)
        by_input[:, :outputs] = weight.t()
        whole = padded // _TILE * _TILE
        widths = [_TILE] * (whole // _TILE) + [_LANES] * ((padded - whole) // _LANES)
        return ByInput(torch.cat([part.reshape(-1) for part in by_input.split(widths, 1)]), inputs, outputs)


@intrinsic
def _active_bits(typing, x, at):
    """Find which whole numbers of a vector, from ``at`` on, are not zero, as bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        body = Body(context, builder, signature, arguments)
        unequal = builder.icmp_unsigned("!=", body.load(*body.arguments), ir.Constant(body.vector, None))
        return builder.zext(builder.bitcast(unequal, ir.IntType(body.lanes)), ir.IntType(64))

    return types.uint64(x, at), generate


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _find(x, begin, end, index, value, e):
    """Append places and values of all that is not zero in ``begin … end``; return how many there are now."""
    lanes = VECTOR // x.itemsize
    at = begin
    while at + lanes <= end:
        bits = _active_bits(x, at)
        while bits:
            place = at + lowest_bit(bits)
            index[e] = place - begin
            value[e] = x[place]
            e += 1
            bits &= bits - np.uint64(1)
        at += lanes
    while at < end:
        if x[at] != 0:
            index[e] = at - begin
            value[e] = x[at]
            e += 1
        at += 1
    return e


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sums(x, inputs, rows, out, first, last):
    outputs = out.shape[1]
    block = max(1, _KEPT // max(inputs, 1))
    index, value = np.empty(block * inputs, np.uint32), np.empty(block * inputs, np.float32)
    begin, total = np.empty(block + 1, np.int64), np.empty(_TILE, np.float32)
    for top in range(first, last, block):
        bottom = min(top + block, last)
        begin[0] = 0
        for r in range(top, bottom):
            begin[r - top + 1] = _find(x, r * inputs, (r + 1) * inputs, index, value, begin[r - top])
        low, at = 0, 0
        while low < outputs:
            width = _TILE if low + _TILE <= -(-outputs // _LANES) * _LANES else _LANES
            held = min(width, outputs - low)
            for r in range(top, bottom):
                total[:width] = 0
                e, stop = begin[r - top], begin[r - top + 1]
                if width == _TILE:
                    weighted_rows(total, 0, total, 0, rows, at, width, index, value, e, stop)
                else:
                    weighted_rows_narrow(total, 0, total, 0, rows, at, width, index, value, e, stop)
                for j in range(held):
                    out[r, low + j] = total[j]
            at += inputs * width
            low += width


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _totals(x, out, first, last):
    """Add ``Σ_r |x[r]|`` to ``out`` over columns ``first … last``."""
    for r in range(x.shape[0]):
        row, total = x[r, first:last], out[first:last]
        for j in range(len(row)):
            total[j] += abs(np.int64(row[j]))


def sums(x: Tensor, weight: ByInput) -> Tensor:
    """Multiply ``X Wᵀ``, float32 ``[R, N]``, of contiguous whole numbers ``x [R, K]`` of any dtype on the CPU."""
    out = torch.empty(len(x), weight.outputs)
    arrays = x.numpy().reshape(-1), weight.inputs, weight.rows.numpy(), out.numpy()
    split(lambda first, last: _sums(*arrays, first, last), len(x), _GRAIN)
    return out


def totals(x: Tensor) -> Tensor:
    """Sum ``Σ_r |x[r, :]|``, int64 ``[K]``, of contiguous whole numbers ``x [R, K]`` on the CPU."""
    out = torch.zeros(x.shape[1], dtype=torch.int64)
    arrays = x.numpy(), out.numpy()
    split(lambda first, last: _totals(*arrays, first, last), x.shape[1], _COLUMNS)
    return out
