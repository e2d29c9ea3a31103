"""Currents of synapses in plain torch, on any device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic
from hw_export.integer.kernels.torch_steps import limit, shifted


def currents(sums: Tensor, current: Tensor, a: Arithmetic, steps: int) -> tuple[Tensor, int]:
    """What synapses make of ``sums`` ``[T, B, N]`` (without biases; ``[1, B, N]`` for the same at every step).

    current: ``[B, N]``, changed in place. Returns the current of each of the ``steps``, ``[T, B, N]`` in its dtype and
    in units of the state, and how often one went beyond its bits.
    """
    assert a.synapse is not None
    register = replace(a, lowest=None)  # the floor is one of membranes
    out = current.new_empty(steps, *current.shape)
    beyond = torch.zeros((), dtype=torch.int64, device=current.device)
    y = current.to(torch.int64)
    for t in range(steps):
        held, hit = limit(y + (sums[t if len(sums) > 1 else 0].to(torch.int64) << a.shift), register)
        y = shifted(held, a.synapse)
        beyond += hit.sum()
        out[t] = y.to(out.dtype)
    current.copy_(y)
    return out, int(beyond)
