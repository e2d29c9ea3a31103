"""Neurons that treat their inputs event by event, in plain torch: all samples at once, one event of each at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_export.integer.constants import Constants
from hw_export.integer.kernels.event_lists import EventLists
from hw_export.integer.kernels.torch_steps import decay, fire, limit, reset


def advance(
    events: EventLists, weight: Tensor, offset: Tensor, state: Tensor, c: Constants, out: Tensor
) -> tuple[EventLists, int]:
    """Run ``events`` through ``N`` neurons.

    weight: int64 ``[K, N]``, what an event of each input adds; offset: biases, int64 ``[N]``, an event before the
    others where one is not 0. state: ``[B, N]``, changed in place. out: how often each fires, int32 ``[T, B, N]``, is
    written to it. Returns what they emit, and at how many neuron-steps a membrane went beyond its bits.
    """
    shift = c.arithmetic.shift
    padded = events.padded()
    rows = torch.cat([weight, torch.zeros_like(weight[:1])]) << shift  # index −1: an event that is not there
    first = offset << shift if offset.any() else None
    v = state.to(torch.int64)
    beyond = torch.zeros((), dtype=torch.int64, device=state.device)
    emitted: list[Tensor] = []
    for t, step in enumerate(padded):
        fired = []
        left = torch.zeros_like(v, dtype=torch.bool)
        if first is not None:
            v, spikes, hit = _event(v, first.expand_as(v), torch.ones_like(v[:, :1], dtype=torch.bool), c)
            fired.append(spikes)
            left |= hit
        for place in step:
            v, spikes, hit = _event(v, rows[place], (place >= 0).unsqueeze(1), c)
            fired.append(spikes)
            left |= hit
        beyond += left.sum()
        v = decay(v, c)
        emitted.append(torch.stack(fired) if fired else v.new_zeros(0, *v.shape))
        out[t] = emitted[-1].sum(0).to(out.dtype)
    state.copy_(v)
    return _lists(emitted, state), int(beyond)


def _event(v: Tensor, added: Tensor, there: Tensor, c: Constants) -> tuple[Tensor, Tensor, Tensor]:
    """State and spikes after one event of each sample where it is ``there``, and which membranes were limited."""
    u, hit = limit(v + added, c.arithmetic)
    spikes = fire(u, c, c.threshold) * there
    return torch.where(there, reset(u, spikes, c, c.threshold), v), spikes, hit & there


def _lists(emitted: list[Tensor], state: Tensor) -> EventLists:
    """Of how often each neuron fired at each event of a step, ``[E, B, N]`` a step."""
    lengths = torch.stack([step.sum((0, 2)) for step in emitted], 1) if emitted else state.new_zeros(len(state), 0)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for t, step in enumerate(emitted):
        order = step.permute(1, 0, 2)
        place = order.nonzero()  # by sample, then event, then neuron
        times = order[place.unbind(1)]
        sample, neuron = place[:, 0].repeat_interleave(times), place[:, 2].repeat_interleave(times)
        parts.append((sample, torch.full_like(sample, t), neuron))
    if not parts:
        return EventLists(lengths.new_zeros(0), lengths.to(torch.int64))
    sample, step_of, neuron = (torch.cat(column) for column in zip(*parts, strict=True))
    by_sample = (sample * len(emitted) + step_of).argsort(stable=True)
    return EventLists(neuron[by_sample], lengths.to(torch.int64))
