"""Steps of neurons and their events in plain torch, on any device.

They follow the equations of :mod:`hw_export.integer.arithmetic` one by one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hw_export.integer.arithmetic import Arithmetic, IntegerConstants


class EventLists(NamedTuple):
    """Events of each sample, one step after another.

    Attributes:
        source: neuron or input that each event comes from, int64, sample by sample, step by step, in order.
        lengths: number of events, int64 ``[B, T]``.
    """

    source: Tensor
    lengths: Tensor

    @staticmethod
    def of_counts(x: Tensor) -> EventLists:
        """List the events of whole numbers ``x [T, B, K]`` from 0: an ``n`` is ``n`` events one after another."""
        counts = x.transpose(0, 1).to(torch.int64)
        place = counts.nonzero()
        source = place[:, 2].repeat_interleave(counts[place.unbind(1)])
        return EventLists(source, counts.sum(2))

    def after(self, steps: int) -> EventLists:
        """Delay all events by ``steps`` steps, with none before."""
        return EventLists(self.source, torch.nn.functional.pad(self.lengths, (steps, 0)))

    def padded(self) -> Tensor:
        """Arrange the events as ``[T, E, B]`` for the longest list ``E`` of a step; −1 where a list is shorter."""
        samples, steps = self.lengths.shape
        most = int(self.lengths.max()) if self.lengths.numel() else 0
        there = torch.arange(most, device=self.source.device) < self.lengths.unsqueeze(2)
        filled = torch.full((samples, steps, most), -1, dtype=torch.int64, device=self.source.device)
        filled[there] = self.source
        return filled.permute(1, 2, 0)


def wrap(value: Tensor, bits: int, symmetric: bool = False) -> Tensor:
    """Wrap int64 ``value`` modulo ``2^bits`` into ``−2^(bits−1) … 2^(bits−1) − 1``.

    If ``symmetric``, the lowest value reads ``+2^(bits−1)``.
    """
    lowest = (1 << (bits - 1)) - int(symmetric)
    return ((value + lowest) & ((1 << bits) - 1)) - lowest


def shifted(state: Tensor, bits: int | Tensor) -> Tensor:
    """Decay int64 ``state`` by ``state >> bits``, by 1 towards 0 where that changes nothing."""
    lost = state >> bits
    return torch.where(lost == 0, state - state.sign(), state - lost)


def decay(state: Tensor, c: IntegerConstants) -> Tensor:
    """Decay int64 ``state`` by one step, without input."""
    kind = c.arithmetic.decay
    if kind == "multiply":
        bits = c.arithmetic.decay_bits
        return state.sign() * ((state.abs() * ((1 << bits) - c.code)) >> bits)
    if kind == "shift":
        return shifted(state, c.code)
    if kind == "linear":
        return state.sign() * (state.abs() - c.code).clamp(min=0)
    return state


def limit(value: Tensor, a: Arithmetic) -> tuple[Tensor, Tensor]:
    """Bring int64 ``value`` into the register; return it, and where it was beyond the register's bits."""
    beyond = (value > a.high) | (value < a.bottom)
    held = value if a.overflow == "saturate" else wrap(value, a.state_bits)
    return held.clamp(a.low, a.high), beyond


def fire(membrane: Tensor, c: IntegerConstants, threshold: Tensor) -> Tensor:
    """Count how often each neuron fires, in the dtype of ``membrane``; ``threshold`` has the same dtype."""
    strict = c.arithmetic.fires == ">"
    if c.most == 1:
        return (membrane > threshold if strict else membrane >= threshold).to(membrane.dtype)
    # U > k θ for k = 1, 2, …: as often as θ goes into U, or into U − 1
    return ((membrane - int(strict)).div(threshold, rounding_mode="floor")).clamp(0, c.most)


def reset(membrane: Tensor, spikes: Tensor, c: IntegerConstants, threshold: Tensor) -> Tensor:
    """Compute the state after the spikes of a step, or of an event."""
    if c.reset == "zero":
        return membrane * (spikes == 0)
    return membrane - threshold * spikes if c.reset == "immediate" else membrane


def in_steps(current: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor) -> int:
    """Run currents through neurons, step by step.

    Args:
        current: sums without biases, ``[T, B, N]``, or ``[1, B, N]`` for the same at every step.
        offset: biases, int64 ``[N]``.
        state: membranes ``[B, N]``, changed in place.
        c: constants of the neurons.
        out: spikes, int8 ``[T, B, N]``, are written to it.

    Returns:
        Number of neuron-steps at which a membrane, or a wrapped current, went beyond its bits.
    """
    run = _floats if c.arithmetic.decay == "float" else _integers
    return run(current, offset << c.arithmetic.shift, state, c, out)


def _current(step: Tensor, a: Arithmetic) -> tuple[Tensor, Tensor | None]:
    """Convert the sums of a step to int64 currents; return them, and where they were wrapped."""
    current = step.to(torch.int64) << a.shift
    if a.current_bits is None:
        return current, None
    wrapped = wrap(current, a.current_bits, a.symmetric)
    return wrapped, wrapped != current


def _integers(sums: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor) -> int:
    v = state.to(torch.int64)
    beyond = torch.zeros((), dtype=torch.int64, device=state.device)
    for t in range(len(out)):
        current, wrapped = _current(sums[t if len(sums) > 1 else 0], c.arithmetic)
        if wrapped is not None:
            beyond += wrapped.sum()
        before = decay(v, c) + current + offset
        if c.reset == "subtract":
            before -= c.threshold * fire(v, c, c.threshold)
        u, hit = limit(before, c.arithmetic)
        spikes = fire(u, c, c.threshold)
        v = reset(u, spikes, c, c.threshold)
        beyond += hit.sum()
        out[t] = spikes.to(out.dtype)
    state.copy_(v)
    return int(beyond)


def _floats(sums: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor) -> int:
    threshold, offset = c.threshold.to(torch.float32), offset.to(torch.float32)
    beyond = torch.zeros((), dtype=torch.int64, device=state.device)
    v = state.clone()
    for t in range(len(out)):
        current, wrapped = _current(sums[t if len(sums) > 1 else 0], c.arithmetic)
        if wrapped is not None:
            beyond += wrapped.sum()
        u = v * c.beta + current.to(torch.float32)
        u = u + offset
        if c.reset == "subtract":
            u = u - threshold * fire(v, c, threshold)
        spikes = fire(u, c, threshold)
        v = reset(u, spikes, c, threshold)
        out[t] = spikes.to(out.dtype)
    state.copy_(v)
    return int(beyond)


def currents(sums: Tensor, current: Tensor, a: Arithmetic, steps: int) -> tuple[Tensor, int]:
    """Run sums through the synapses of neurons.

    Args:
        sums: without biases, ``[T, B, N]``, or ``[1, B, N]`` for the same at every step.
        current: ``Y``, ``[B, N]``, changed in place.
        a: arithmetic of the chip, with a synapse.
        steps: number of steps ``T``.

    Returns:
        The current of each step, ``[T, B, N]`` in the dtype of ``current`` and in units of the state, and how often one
        went beyond its bits.
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


def by_event(
    events: EventLists, weight: Tensor, offset: Tensor, state: Tensor, c: IntegerConstants, out: Tensor
) -> tuple[EventLists, int]:
    """Run events through ``N`` neurons, one after another.

    Args:
        events: of each sample.
        weight: int64 ``[K, N]``, the sums that an event of each input adds.
        offset: biases, int64 ``[N]``; where one is not 0 they are an event before the others of every step.
        state: membranes ``[B, N]``, changed in place.
        c: constants of the neurons.
        out: how often each fires, int32 ``[T, B, N]``, is written to it.

    Returns:
        The events that the neurons emit, and at how many neuron-steps a membrane went beyond its bits.
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


def _event(v: Tensor, added: Tensor, there: Tensor, c: IntegerConstants) -> tuple[Tensor, Tensor, Tensor]:
    """Run one event of each sample where it is ``there``; return state, spikes, and which membranes were limited."""
    u, hit = limit(v + added, c.arithmetic)
    spikes = fire(u, c, c.threshold) * there
    return torch.where(there, reset(u, spikes, c, c.threshold), v), spikes, hit & there


def _lists(emitted: list[Tensor], state: Tensor) -> EventLists:
    """Lists events from how often each neuron fired at each event of a step, ``[E, B, N]`` a step."""
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
