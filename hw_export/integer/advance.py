"""One stage through all its steps: in time steps, or event by event."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hw_export.integer.kernels import compiled, numba_events, numba_steps, torch_events, torch_steps
from hw_export.integer.kernels.event_lists import EventLists
from hw_export.integer.stage import Stage, Totals
from spikelfp.memory import empty

_SUMS = 2**22  # sums of a stage that are held at once: they stay in the last cache

_BYTES = torch.empty(0, dtype=torch.int8)


def in_steps(
    stage: Stage, x: Tensor, steps: int, idle: int, peak: int, state: Tensor, seen: Totals
) -> tuple[Tensor, int]:
    """Spikes int8 ``[idle + steps, B, N]`` of whole numbers ``x [T, B, …]``, and how often a register was left.

    ``x`` of one step is the same at each of the ``steps``. idle: steps before, of no input. peak: bound on ``|x|``.
    state: ``[B, N]``, changed in place. seen: gets the totals of what came to each layer of weights.
    """
    advance = (numba_steps if compiled(state.device) else torch_steps).advance
    samples, c, offset = len(state), stage.constants, stage.offset()
    out = empty((idle + steps, samples, stage.size), _BYTES.to(state.device))
    beyond = 0
    if idle:
        nothing = torch.zeros(1, samples, stage.size, device=state.device)
        beyond += advance(nothing, offset, state, c, out[:idle])
    if len(x) == 1:
        sums = stage.sums(x[0], peak, seen, steps).unsqueeze(0)
        return out, beyond + advance(sums, offset, state, c, out[idle:])
    at_once = max(1, _SUMS // (samples * stage.size))
    for begin in range(0, steps, at_once):
        part = x[begin : begin + at_once]
        sums = stage.sums(part.flatten(0, 1), peak, seen).unflatten(0, (len(part), samples))
        beyond += advance(sums, offset, state, c, out[idle + begin : idle + begin + len(part)])
    return out, beyond


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
