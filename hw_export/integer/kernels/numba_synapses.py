"""Currents of synapses on the CPU, compiled: some neurons through all of time at once."""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.kernels.numba_steps import BLOCK, GRAIN, SHIFT, add, decay_row, limit_row
from spikelfp.kernels.threads import split


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _currents(sums, current, synapse, shift, bits, bottom, high, wraps, out, first, last):
    """Samples ``first … last``; returns how often a current was limited."""
    steps, varying, neurons = out.shape[0], sums.shape[0] > 1, out.shape[2]
    room = np.empty(BLOCK, np.int64)
    beyond = 0
    for b in range(first, last):
        for left in range(0, neurons, BLOCK):
            right = min(left + BLOCK, neurons)
            x, y = room[: right - left], current[b, left:right]
            for t in range(steps):
                x[:] = y
                add(sums[t if varying else 0, b, left:right], shift, x)
                beyond += limit_row(x, bits, bottom, bottom, high, wraps)
                decay_row(x, SHIFT, synapse, 0, y)
                out[t, b, left:right] = y
    return beyond


def currents(sums: Tensor, current: Tensor, a: Arithmetic, steps: int) -> tuple[Tensor, int]:
    """As :func:`hw_export.integer.kernels.torch_synapses.currents`, for contiguous tensors on the CPU."""
    out = current.new_empty(steps, *current.shape)
    numbers = a.synapse, a.shift, a.state_bits, a.bottom, a.high, a.overflow == "wrap"
    arrays = sums.numpy(), current.numpy(), *numbers, out.numpy()
    beyond: list[int] = []
    split(
        lambda first, last: beyond.append(_currents(*arrays, first, last)),
        len(current),
        max(1, GRAIN // current.shape[1]),
    )
    return out, sum(beyond)
