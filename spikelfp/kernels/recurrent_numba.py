r"""Recurrent LIF neurons on the CPU, fused over time: forward, reverse and the update of the recurrent weights ``V``.

Threads run over samples, each through a block of steps at a time. Few neurons of a sample fire in a step, so the
products with ``V`` are made event by event, from a transposed copy in which the outgoing weights of a neuron lie side
by side::

    V S[t−1]        forward: the rows of the spikes of the step before, added up
    (Vᵀ M[t+1])_j   reverse: one dot product for each spike, since a silent neuron earns nothing; with a margin for
                    each neuron above it
    dV              update: one row added for each spike

Where a share of more than :data:`DENSE` of the neurons fired in the block of steps before, torch makes dense products
for the whole batch.

The results of event-driven products do not depend on the number of threads: no sum is split between samples, and the
update is split over columns, which are summed over steps and samples in order. They do not depend on earlier inputs of
the layer either.

The arithmetic keeps the order of :mod:`spikelfp.functional.lif`; ``V S`` is summed in the order of the neurons,
starting from the bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spikelfp.functional.lif import Denominator, Reset
from spikelfp.kernels.choice import chosen_events
from spikelfp.kernels.events import linear
from spikelfp.kernels.events.linear import listed, marked_rows
from spikelfp.kernels.events.sparse import EventRows
from spikelfp.kernels.events.vectors import VECTOR, aligned, padded, row_sum
from spikelfp.kernels.numba_scan import RESET_CODES
from spikelfp.machine import empty, split

DENSE = 0.33
"""Share of neurons that fire above which the products of a step are dense (measured: docs/performance.md)."""
STEPS = 8
"""Steps after which the neurons that fire are counted again."""
_WORK = 65_536  # membranes below which another thread costs more than it saves
_SAMPLES = 4  # that take their steps together
_COLUMN = torch.empty(0, dtype=torch.int32)
_IMMEDIATE, _ZERO = 1, 2  # as in RESET_CODES, but compiled into kernels kept on disk, so not imported
_SUMS = {"contract", "reassoc", "nsz"}  # dot products in another order, as vector units make them


class RecurrentConstants(NamedTuple):
    """Constants of recurrent neurons, one number for each of the ``N`` neurons of the layer: tensors ``[N]``.

    Attributes:
        alpha: decay of the synaptic current, or ``None`` for neurons without one.
        beta: decay of the membrane.
        threshold: θ.
        reset: effect of a spike on the membrane.
        denominator: normalisation of the reward on a membrane.
        bar: membrane above which a neuron earns its message; ``threshold`` itself for the paper's margin of 1.
        least: least denominator.
    """

    alpha: Tensor | None
    beta: Tensor
    threshold: Tensor
    reset: Reset
    denominator: Denominator
    bar: Tensor
    least: Tensor


class RecurrentRun(NamedTuple):
    """Results of a run over time.

    Attributes:
        spikes: ``[T, B, N]``.
        membrane: ``[T, B, N]``.
        synapse: the synaptic current after the last step, ``[B, N]``, or ``None``.
        events: the spikes as rows ``[T · B, N]``, where they were few enough to be listed.
    """

    spikes: Tensor
    membrane: Tensor
    synapse: Tensor | None
    events: EventRows | None


class Wanted(NamedTuple):
    """Parts of a :class:`RecurrentCredit` that are asked for: ``to_weight``, ``to_decay``, ``sums``."""

    update: bool
    decay: bool
    sums: bool


class RecurrentCredit(NamedTuple):
    """Results of a reverse run over time. The last three are ``None`` where they are not asked for.

    Attributes:
        to_current: messages ``M`` to the currents, ``[T, B, N]``.
        to_start: message to the membrane before the first step, ``[B, N]``.
        to_synapse: message to the synaptic current before the first step, ``[B, N]``; ``None`` without one.
        to_decay: ``Σ_t V[t] n[t]`` of each membrane and sample (:func:`~spikelfp.functional.lif.carried`), ``[B, N]``.
        sums: ``Σ_t M[t]``, ``[B, N]``.
        to_weight: ``Σ_t M[t]ᵀ S[t−1]`` without the first step, ``[N, N]``.
    """

    to_current: Tensor
    to_start: Tensor
    to_synapse: Tensor | None
    to_decay: Tensor | None
    sums: Tensor | None
    to_weight: Tensor | None


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _step(source, before, now, beta, threshold, reset):
    """Compute the membranes of a sample one step later; ``reset`` is one of ``RESET_CODES``."""
    nil = now.dtype.type(0)
    if reset == _ZERO:
        for i in range(len(now)):
            now[i] = beta[i] * (before[i] if before[i] <= threshold[i] else nil) + source[i]
    elif reset == _IMMEDIATE:
        for i in range(len(now)):
            now[i] = beta[i] * (before[i] - (threshold[i] if before[i] > threshold[i] else nil)) + source[i]
    else:
        for i in range(len(now)):
            now[i] = beta[i] * before[i] + source[i] - (threshold[i] if before[i] > threshold[i] else nil)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(
    current, given, rows, offsets, start, synapse, alpha, beta, threshold, reset, spikes, membrane, index, place, begin,
    end, first, last,
):  # fmt: skip
    """Run steps ``begin … end`` of samples ``first … last``; ``given`` is ``V S + c`` of the first step, or empty.

    ``index[b]`` takes the neurons of sample ``b`` that fire, ``place[b]`` the end of each step in it. A few samples,
    which lie side by side in memory, take their steps together.
    """
    batch, width = spikes.shape[1:]
    varying, has_given, synaptic = current.shape[0] > 1, given.shape[0] > 0, synapse.shape[0] > 0
    one, nil = spikes.dtype.type(1), spikes.dtype.type(0)
    fires, vectors, pitch = spikes.reshape(-1), rows.reshape(-1), rows.shape[1]
    ones, listing = np.ones(width, spikes.dtype), np.empty(width, np.int32)
    lanes = VECTOR // spikes.itemsize
    scratch, base, sums = np.empty(lanes, spikes.dtype), np.zeros(width + lanes, spikes.dtype), aligned(spikes, width)
    base[:width] = offsets
    for low in range(first, last, _SAMPLES):
        for t in range(begin, end):
            for b in range(low, min(low + _SAMPLES, last)):
                at = (t * batch + b) * width
                if has_given and t == begin:
                    sums[:] = given[b if given.shape[0] > 1 else 0]
                elif t == begin:
                    count = listed(fires, at - batch * width, width, listing, 0)
                    row_sum(base, 0, sums, 0, width, vectors, 0, pitch, listing, ones, 0, count, scratch)
                else:
                    which = index[b, (place[b, t - begin - 2] if t > begin + 1 else 0) : place[b, t - begin - 1]]
                    row_sum(base, 0, sums, 0, width, vectors, 0, pitch, which, ones, 0, len(which), scratch)
                source = current[t if varying else 0, b]
                for i in range(width):
                    sums[i] = source[i] + sums[i]
                if synaptic:
                    y = synapse[b]
                    for i in range(width):
                        y[i] = alpha[i] * y[i] + sums[i]
                        sums[i] = y[i]
                now = membrane[t, b]
                _step(sums, membrane[t - 1, b] if t > 0 else start[b], now, beta, threshold, reset)
                fired = spikes[t, b]
                for i in range(width):
                    fired[i] = one if now[i] > threshold[i] else nil
                if place.shape[1] > 0:
                    e = place[b, t - begin - 1] if t > begin else 0
                    place[b, t - begin] = listed(fires, at, width, index[b], e)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pack(index, place, out, begin, end, low, total):
    """Pack the spikes of a block of steps sample after sample, after the ``total`` spikes of earlier blocks."""
    e = 0
    for b in range(place.shape[0]):
        last = 0
        for t in range(place.shape[1]):
            begin[low + t, b] = total + e + last
            last = place[b, t]
            end[low + t, b] = total + e + last
        out[e : e + last] = index[b, :last]
        e += last
    return total + e


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMS)
def _dots(total, rows, index, e, stop, message):
    """Add ``Σ_i rows[j, i] message[i]`` to ``total[j]`` for the neurons ``j`` in ``index[e … stop]``."""
    width = len(message)
    nil = message.dtype.type(0)
    while e + 4 <= stop:
        j0, j1, j2, j3 = index[e], index[e + 1], index[e + 2], index[e + 3]
        r0, r1, r2, r3 = rows[j0], rows[j1], rows[j2], rows[j3]
        s0, s1, s2, s3 = nil, nil, nil, nil
        for i in range(width):
            s0 += message[i] * r0[i]
            s1 += message[i] * r1[i]
            s2 += message[i] * r2[i]
            s3 += message[i] * r3[i]
        total[j0] += s0
        total[j1] += s1
        total[j2] += s2
        total[j3] += s3
        e += 4
    while e < stop:
        r0, s0 = rows[index[e]], nil
        for i in range(width):
            s0 += message[i] * r0[i]
        total[index[e]] += s0
        e += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _share(total, before, now, beta, threshold, least, eps, reset, increment, message, to_decay):
    """Go one step back: write the message ``n = R / D``, to ``total`` the reward handed on, and add ``V n``."""
    nil = now.dtype.type(0)
    for i in range(len(now)):
        b = before[i]
        decayed = beta[i] * b
        fired_before = b > threshold[i]
        # The current is not kept: what the membrane gained is, to rounding, what flowed in.
        if reset == _ZERO:
            flow = now[i] if fired_before else now[i] - decayed
        elif reset == _IMMEDIATE:
            flow = now[i] - beta[i] * (b - (threshold[i] if fired_before else nil))
        else:
            flow = now[i] - decayed + (threshold[i] if fired_before else nil)
        scale = (abs(b) + abs(decayed + flow - b) if increment else abs(decayed) + abs(flow)) + eps
        scale = least[i] if scale < least[i] else scale
        n = total[i] / scale
        n = n if scale > 0 else nil  # D = 0: nothing flowed in (ε = 0 only)
        total[i] = decayed * n
        message[i] = n
    for i in range(len(to_decay)):
        kept = before[i]
        if reset == _ZERO:
            kept = nil if kept > threshold[i] else kept
        elif reset == _IMMEDIATE:
            kept -= threshold[i] if kept > threshold[i] else nil
        to_decay[i] += kept * message[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _reverse(
    message, reward, final, final_synapse, membrane, start, given, rows, index, starts, stops, alpha, beta, threshold,
    bar, least, eps, reset, increment, internal, to_decay, sums, to_start, out, begin, end, first, last,
):  # fmt: skip
    """Run steps ``end … begin`` of samples ``first … last``; ``given`` is ``Vᵀ M`` at the last of them, or empty.

    ``index`` lists the neurons that earn their message, where they are few.
    """
    steps, batch, width = out.shape
    has_message, has_reward, has_final = message.shape[0] > 0, reward.shape[0] > 0, final.shape[0] > 0
    has_given, synaptic, has_synapse = given.shape[0] > 0, alpha.shape[0] > 0, final_synapse.shape[0] > 0
    has_decay, has_sums, nothing = to_decay.shape[0] > 0, sums.shape[0] > 0, np.empty(0, out.dtype)
    by_events = starts.shape[0] > 0
    nil = out.dtype.type(0)
    for low in range(first, last, _SAMPLES):
        for t in range(end - 1, begin - 1, -1):
            for b in range(low, min(low + _SAMPLES, last)):
                total, decays = internal[b], to_decay[b] if has_decay else nothing
                row = t * batch + b
                now = membrane[t, b]
                before = membrane[t - 1, b] if t > 0 else start[b]
                if has_final and t == steps - 1:
                    own = final[b]
                    for i in range(width):
                        total[i] += own[i] * now[i]
                if has_message and by_events:
                    m = message[t, b]
                    for e in range(starts[row], stops[row]):
                        total[index[e]] += m[index[e]]
                elif has_message:
                    m = message[t, b]
                    for i in range(width):
                        total[i] += m[i] if now[i] > bar[i] else nil
                if has_reward:
                    r = reward[t, b]
                    for i in range(width):
                        total[i] += r[i]
                if has_given and t == end - 1:
                    back = given[b]
                    for i in range(width):
                        total[i] += back[i] if now[i] > bar[i] else nil
                elif t + 1 < steps:
                    _dots(total, rows, index, starts[row], stops[row], out[t + 1, b])
                n = out[t, b]
                _share(total, before, now, beta, threshold, least, eps, reset, increment, n, decays)
                if t == 0:
                    to_first = to_start[b]
                    for i in range(width):
                        to_first[i] = beta[i] * n[i]
                if synaptic and t + 1 < steps:
                    later = out[t + 1, b]
                    for i in range(width):
                        n[i] += alpha[i] * later[i]
                elif has_synapse and t + 1 == steps:
                    own = final_synapse[b]
                    for i in range(width):
                        n[i] += own[i]
                if has_sums:
                    summed = sums[b]
                    for i in range(width):
                        summed[i] += n[i]


def _array(tensor: Tensor | None, axes: int, like: Tensor) -> np.ndarray:
    """Return a tensor as a contiguous array; an empty one of ``axes`` axes for ``None``."""
    if tensor is None:
        tensor = like.new_empty((0,) * axes)
    return tensor.detach().contiguous().numpy()


def _rows(weight: Tensor) -> np.ndarray:
    """Transpose ``V``, so that the outgoing weights of a neuron lie side by side, and pad rows to whole vectors."""
    outputs, inputs = weight.shape
    by_input = empty((inputs, padded(outputs, weight.element_size())), weight).numpy()
    linear.transposed(weight.detach().contiguous().numpy(), by_input)
    by_input[:, outputs:] = 0
    return by_input


def _grain(steps: int, width: int) -> int:
    return max(1, _WORK // max(steps * width, 1))


def _limit() -> float:
    """Return the largest share of neurons that fire at which products are made event by event."""
    return {"auto": DENSE, "always": 1.0}.get(chosen_events(), -1.0)


def forward(
    current: Tensor,
    first: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    start: Tensor,
    synapse: Tensor | None,
    p: RecurrentConstants,
) -> RecurrentRun:
    """Run over all steps, float32 or float64.

    Args:
        current: input ``X`` of every step, ``[T, B, N]``, or ``[1, B, N]`` with the other steps by ``expand``.
        first: current from the recurrent connections at the first step, ``[B, N]`` or ``[1, N]``.
        weight: ``V [N, N]``.
        bias: ``c [N]`` or ``None``.
        start: membrane before the first step, ``[B, N]``.
        synapse: synaptic current before the first step, ``[B, N]``, or ``None``.
        p: constants of the neurons.
    """
    steps, batch, width = current.shape
    spikes, membrane = empty(current.shape, current), empty(current.shape, current)
    y = None if synapse is None else synapse.detach().clone()
    offsets = current.new_zeros(width) if bias is None else bias.detach()
    source = current[:1] if current.stride(0) == 0 else current
    limit, none, rows = _limit(), _array(None, 2, current), _array(None, 2, current)
    known = (
        _array(offsets, 1, current), _array(start, 2, current), _array(y, 2, current),
        *(_array(c, 1, current) for c in (p.alpha, p.beta, p.threshold)),
    )  # fmt: skip
    inputs, given, written = _array(source, 3, current), _array(first, 2, current), (spikes.numpy(), membrane.numpy())
    sums, places = empty((batch, width), current), np.empty((2, steps, batch), np.int64)
    record = np.empty((batch, 0 if limit < 0 else min(STEPS, steps) * width), np.int32)
    found, dense, begin, total, rate = list[np.ndarray](), limit < 0, 0, 0, 0.0
    while begin < steps:
        if begin % STEPS == 0 and begin and 0 <= limit < 1:
            rate = spikes[begin - STEPS : begin].mean().item() if dense else rate
            dense = rate > limit
        if dense and begin:
            torch.addmm(offsets, spikes[begin - 1], weight.detach().t(), out=sums)
            given = sums.numpy()
        elif not dense and not len(rows):
            rows = _rows(weight)
        end = begin + 1 if dense else min((begin // STEPS + 1) * STEPS, steps)
        place = np.empty((batch, 0 if dense else end - begin), np.int64)
        arguments = (inputs, given, rows, *known, RESET_CODES[p.reset], *written, record, place, begin, end)
        split(lambda low, high: _forward(*arguments, low, high), batch, _grain(end - begin, width))  # noqa: B023
        if not dense:
            count = int(place[:, -1].sum())
            rate = count / (batch * width * (end - begin))
            found.append(np.empty(count, np.int32))
            total = _pack(record, place, found[-1], *places, begin, total)
        given, begin = none, end
    whole = len(found) == -(-steps // STEPS)  # else some steps were dense, whose spikes are not in the list
    if not whole:
        return RecurrentRun(spikes, membrane, y, None)
    column, (begins, ends) = torch.from_numpy(np.concatenate(found)), torch.from_numpy(places).flatten(1)
    return RecurrentRun(spikes, membrane, y, EventRows(begins, ends, column, spikes.new_ones(len(column))))


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    final_synapse: Tensor | None,
    membrane: Tensor,
    events: EventRows | None,
    weight: Tensor,
    start: Tensor,
    p: RecurrentConstants,
    eps: float,
    wanted: Wanted,
) -> RecurrentCredit:
    """Run a reward back over all steps.

    Args:
        message: message to the spikes, ``[T, B, N]``, which neurons above ``p.bar`` earn; or ``None``.
        reward: reward of the neurons, spike or no spike, ``[T, B, N]``, or ``None``.
        final: message to the membrane after the last step, ``[B, N]``, or ``None``.
        final_synapse: message to the synaptic current after the last step, ``[B, N]``, or ``None``.
        membrane: membranes of the forward run, ``[T, B, N]``.
        events: spikes of the forward run, where they were listed.
        weight: ``V [N, N]``.
        start: membrane before the first step, ``[B, N]``.
        p: constants of the neurons.
        eps: ε of the neurons' rule.
        wanted: results that are asked for besides the messages.
    """
    steps, batch, width = membrane.shape
    out = empty(membrane.shape, membrane)
    internal = membrane.new_zeros(batch, width)
    to_decay, sums = (membrane.new_zeros(batch if asked else 0, width) for asked in (wanted.decay, wanted.sums))
    to_start = membrane.new_empty(batch, width)
    none = _array(None, 2, membrane)
    heard = events if p.bar is p.threshold else _above(membrane, p.bar)
    rows = none if heard is None else _rows(weight)
    nobody = torch.empty(0, dtype=torch.int64)
    listed = EventRows(nobody, nobody, _COLUMN, start[:0]) if heard is None else heard
    starts, stops, index, _ = listed.numpy()
    received = (
        _array(message, 3, membrane), _array(reward, 3, membrane),
        *(_array(t, 2, membrane) for t in (final, final_synapse)), membrane.numpy(), _array(start, 2, membrane),
    )  # fmt: skip
    known = (
        rows, index, starts, stops, *(_array(c, 1, membrane) for c in (p.alpha, p.beta, p.threshold, p.bar, p.least)),
        rows.dtype.type(eps), RESET_CODES[p.reset], p.denominator == "increment",
    )  # fmt: skip
    written = tuple(t.numpy() for t in (internal, to_decay, sums, to_start, out))
    if heard is not None:
        arguments = (*received, none, *known, *written, 0, steps)
        split(lambda low, high: _reverse(*arguments, low, high), batch, _grain(steps, width))
    else:
        back = empty((batch, width), membrane)
        for t in reversed(range(steps)):
            given = torch.mm(out[t + 1], weight.detach(), out=back).numpy() if t + 1 < steps else none
            arguments = (*received, given, *known, *written, t, t + 1)
            split(lambda low, high: _reverse(*arguments, low, high), batch, _grain(1, width))  # noqa: B023
    return RecurrentCredit(
        out, to_start, None if p.alpha is None else p.alpha * out[0],
        to_decay if wanted.decay else None, sums if wanted.sums else None,
        to_weight(out, membrane, events, p) if wanted.update else None,
    )  # fmt: skip


def _above(membrane: Tensor, bar: Tensor) -> EventRows | None:
    """List the neurons whose membranes ``[T, B, N]`` are above ``bar [N]``; ``None`` where they are many."""
    limit = _limit()
    return None if limit < 0 else marked_rows((membrane > bar).flatten(0, 1), limit)


def to_weight(messages: Tensor, membrane: Tensor, events: EventRows | None, p: RecurrentConstants) -> Tensor:
    """Sum ``Σ_t M[t]ᵀ S[t−1]`` without the first step, ``[N, N]``, from messages and membranes ``[T, B, N]``.

    It is done event by event, or dense for a block of steps at a time.
    """
    steps, batch, width = messages.shape
    result = empty((width, width), messages)
    if events is not None:
        starts, stops, index, ones = events.numpy()
        rows = (steps - 1) * batch
        given = (starts[:rows], stops[:rows], index, ones)
        linear.event_update(given, messages.view(-1, width)[batch:].numpy(), result.numpy())
        return result
    result.zero_()
    for low in range(0, steps - 1, STEPS):
        high = min(low + STEPS, steps - 1)
        fired = (membrane[low:high] > p.threshold).to(messages.dtype)
        result.addmm_(messages[low + 1 : high + 1].flatten(0, 1).t(), fired.flatten(0, 1))
    return result
