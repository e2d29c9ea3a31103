"""Neurons that treat their inputs event by event, on the CPU, compiled: sample by sample."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from hw_export.integer.constants import Constants
from hw_export.integer.kernels.event_lists import EventLists
from hw_export.integer.kernels.numba_steps import codes, decay_row, fire_row, limit_row
from spikelfp.kernels.threads import split


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sample(
    index, lengths, weight, offset, biased, v, threshold, kind, code, decay_bits, bits, bottom, low, high, wraps, most,
    ties, reset, out,
):  # fmt: skip
    """All events of one sample: what it emits, how many in each step, at how many neuron-steps a register was left."""
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


def advance(
    events: EventLists, weight: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor
) -> tuple[EventLists, int]:
    """As :func:`hw_export.integer.kernels.torch_events.advance`, on the CPU."""
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
