"""One stage through all its steps: in time steps, or event by event."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hw_export.integer.kernels import (
    compiled,
    numba_events,
    numba_steps,
    numba_synapses,
    torch_events,
    torch_steps,
    torch_synapses,
)
from hw_export.integer.kernels.event_lists import EventLists
from hw_export.integer.stage import Stage, Totals
from spikelfp.memory import empty

_SUMS = 2**22  # sums of a stage that are held at once: they stay in the last cache

_BYTES = torch.empty(0, dtype=torch.int8)


def in_steps(
    stage: Stage, x: Tensor, steps: int, idle: int, peak: int, states: Sequence[Tensor], seen: Totals
) -> tuple[Tensor, int]:
    """Spikes int8 ``[idle + steps, B, N]`` of whole numbers ``x [T, B, …]``, and how often a register was left.

    ``x`` of one step is the same at each of the ``steps``. idle: steps before, of no input. peak: bound on ``|x|``.
    states: one for each of the stage's registers, ``[B, N]``, changed in place. seen: gets the totals of what came to
    each layer of weights.
    """
    device, samples = states[0].device, len(states[0])
    out = empty((idle + steps, samples, stage.size), _BYTES.to(device))
    beyond = 0
    if idle:
        nothing = torch.zeros(1, samples, stage.size, device=device)
        beyond += _neurons(stage, nothing, states, out[:idle])
    if len(x) == 1:
        sums = stage.sums(x[0], peak, seen, steps).unsqueeze(0)
        return out, beyond + _neurons(stage, sums, states, out[idle:])
    at_once = _at_once(stage, samples)
    for begin in range(0, steps, at_once):
        part = x[begin : begin + at_once]
        sums = stage.sums(part.flatten(0, 1), peak, seen).unflatten(0, (len(part), samples))
        beyond += _neurons(stage, sums, states, out[idle + begin : idle + begin + len(part)])
    return out, beyond


def _neurons(stage: Stage, sums: Tensor, states: Sequence[Tensor], out: Tensor) -> int:
    """Run ``sums`` through the neurons; where they have synapses, through those first."""
    device, c, offset = states[0].device, stage.constants, stage.offset()
    advance = (numba_steps if compiled(device) else torch_steps).advance
    if c.arithmetic.synapse is None:
        return advance(sums, offset, states[0], c, out)
    currents = (numba_synapses if compiled(device) else torch_synapses).currents
    membrane, current = states
    fed, beyond = c.unshifted(), 0
    for part in out.split(_at_once(stage, len(current))):  # one part, unless the sums are those of every step
        arriving, hit = currents(sums, current, c.arithmetic, len(part))
        beyond += hit + advance(arriving, offset << c.arithmetic.shift, membrane, fed, part)
    return beyond


def _at_once(stage: Stage, samples: int) -> int:
    """Steps of which sums are held at once."""
    return max(1, _SUMS // (samples * stage.size))


def by_event(
    stage: Stage, events: EventLists, idle: int, state: Tensor, seen: Totals
) -> tuple[EventLists, Tensor, int]:
    """What the neurons emit, how often each fires, int32 ``[idle + T, B, N]``, and how often a register was left."""
    advance = (numba_events if compiled(state.device) else torch_events).advance
    inputs = math.prod(stage.in_shape)
    seen[stage.name] = torch.bincount(events.source, minlength=inputs)
    given = events.after(idle)
    samples, steps = given.lengths.shape
    out = torch.zeros(steps, samples, stage.size, dtype=torch.int32, device=state.device)
    emitted, beyond = advance(given, stage.matrix(), stage.offset(), state, stage.constants, out)
    return emitted, out, beyond
