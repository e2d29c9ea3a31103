"""Triton programs of :mod:`spikelfp.kernels.triton_scan`; each takes a block of neurons through time.

``ROWS`` steps are read at once, before the first of them is used, so that a program waits for the memory less often.
Python numbers reach a program as float32 unless its signature states float64, which β needs.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rows(pointer, offset, move, inside, first, steps, ROWS: tl.constexpr):
    """Read the rows of steps ``first``, ``first + 1``, …, and zeros after the last step."""
    rows = ()
    for k in tl.static_range(ROWS):
        rows = rows + (tl.load(pointer + offset, inside & (first + k < steps), 0.0),)  # type: ignore[assignment]  # noqa: RUF005
        offset += move
    return rows


@triton.jit
def _constant(number, values, neuron, inside, width, real: tl.constexpr, BLOCK: tl.constexpr):
    """Return a constant of neurons: one number for all, or ``values [width]``, the same for each sample."""
    if values is None:
        return tl.full((BLOCK,), number, real)
    else:
        return tl.load(values + neuron % width, inside, 1.0)


@triton.jit
def _divide(a, b):
    """Divide ``a / b``, rounded to nearest; Triton's own float32 division is an approximation."""
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def _step(before, source, decay, theta, nil, RESET: tl.constexpr):
    """Compute the membrane one step later (v3, eq. A.2-A.3)."""
    if RESET == "zero":
        return decay * tl.where(before <= theta, before, nil) + source
    elif RESET == "immediate":
        return decay * (before - tl.where(before > theta, theta, nil)) + source
    else:
        return decay * before + source - tl.where(before > theta, theta, nil)


@triton.jit
def _share(total, before, now, decay, theta, least, eps, nil, RESET: tl.constexpr, INCREMENT: tl.constexpr):
    """Go one step back: return the message ``n = R / D`` and the reward handed to the step before."""
    decayed = decay * before
    # The current is not kept: what the membrane gained is, to rounding, what flowed in.
    if RESET == "zero":
        flow = now - tl.where(before <= theta, decayed, nil)
    elif RESET == "immediate":
        flow = now - decay * (before - tl.where(before > theta, theta, nil))
    else:
        flow = now - decayed + tl.where(before > theta, theta, nil)
    if INCREMENT:
        scale = tl.abs(before) + tl.abs(decayed + flow - before) + eps
    else:
        scale = tl.abs(decayed) + tl.abs(flow) + eps
    scale = tl.where(scale < least, least, scale)
    n = tl.where(scale > nil, _divide(total, scale), nil)  # D = 0: nothing flowed in (ε = 0 only)
    return n, decayed * n


@triton.jit(do_not_specialize=["steps"])
def forward(
    current, start, spikes, membrane, beta: tl.float64, threshold: tl.float64, betas, thresholds, width, steps, count,
    VARYING: tl.constexpr, KEEP: tl.constexpr, RESET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the spikes of all steps, and the membranes of all or only of the last."""
    neuron = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < count
    real = spikes.dtype.element_ty
    decay = _constant(beta, betas, neuron, inside, width, real, BLOCK)
    theta = _constant(threshold, thresholds, neuron, inside, width, real, BLOCK)
    one, nil = tl.full((BLOCK,), 1.0, real), tl.full((BLOCK,), 0.0, real)
    now = tl.load(start + neuron, inside, 0.0)
    if not VARYING:
        source = tl.load(current + neuron, inside, 0.0)
    offset = neuron
    for first in range(0, steps, ROWS):
        if VARYING:
            rows = _rows(current, offset, count, inside, first, steps, ROWS)
        for k in tl.static_range(ROWS):
            if VARYING:
                source = rows[k]
            now = _step(now, source, decay, theta, nil, RESET)
            here = inside & (first + k < steps)
            tl.store(spikes + offset, tl.where(now > theta, one, nil), here)
            if KEEP:
                tl.store(membrane + offset, now, here)
            else:
                tl.store(membrane + neuron, now, inside & (first + k == steps - 1))
            offset += count


@triton.jit(do_not_specialize=["steps"])
def reverse(
    message, reward, final, membrane, start, out, to_start,
    beta: tl.float64, threshold: tl.float64, bar: tl.float64, least: tl.float64, betas, thresholds, bars, leasts, width,
    epsilon: tl.float64, steps, count,
    RESET: tl.constexpr, INCREMENT: tl.constexpr, CONSTANT: tl.constexpr, LOCAL: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the messages of all steps, or their mean, from the membranes of all steps."""
    neuron = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < count
    real = start.dtype.element_ty
    decay = _constant(beta, betas, neuron, inside, width, real, BLOCK)
    theta = _constant(threshold, thresholds, neuron, inside, width, real, BLOCK)
    heard = _constant(bar, bars, neuron, inside, width, real, BLOCK)
    smallest = _constant(least, leasts, neuron, inside, width, real, BLOCK)
    eps, nil = tl.full((BLOCK,), epsilon, real), tl.full((BLOCK,), 0.0, real)
    at_start = tl.load(start + neuron, inside, 0.0)
    offset = neuron + (steps - 1).to(tl.int64) * count  # of the current row, from the last step to the first
    now = tl.load(membrane + offset, inside, 0.0)
    internal = nil
    if final is not None:
        internal = tl.load(final + neuron, inside, 0.0) * now
    summed = nil
    earliest = nil
    for first in range(0, steps, ROWS):
        # U[t−1] of these steps; at t = 0 there is none, and the start takes its place
        membranes = _rows(membrane, offset - count, -count, inside, first, steps - 1, ROWS)
        if message is not None:
            messages = _rows(message, offset, -count, inside, first, steps, ROWS)
        if reward is not None:
            rewards = _rows(reward, offset, -count, inside, first, steps, ROWS)
        for k in tl.static_range(ROWS):
            before = tl.where(first + k < steps - 1, membranes[k], at_start)
            total = nil
            if message is not None:
                total += tl.where(now > heard, messages[k], nil)
            if reward is not None:
                total += rewards[k]
            n, internal = _share(total + internal, before, now, decay, theta, smallest, eps, nil, RESET, INCREMENT)
            if LOCAL:
                internal = nil
            here = first + k < steps
            if CONSTANT:
                summed += tl.where(here, n, nil)
            else:
                tl.store(out + offset, n, inside & here)
            earliest = tl.where(here, n, earliest)
            now = before
            offset -= count
    if CONSTANT:
        tl.store(out + neuron, _divide(summed, nil + steps), inside)
    tl.store(to_start + neuron, nil if LOCAL else decay * earliest, inside)


@triton.jit(do_not_specialize=["steps"])
def reverse_again(
    message, reward, final, current, start, scratch, out, to_start,
    beta: tl.float64, threshold: tl.float64, bar: tl.float64, least: tl.float64, betas, thresholds, bars, leasts, width,
    epsilon: tl.float64, steps, count,
    VARYING: tl.constexpr, RESET: tl.constexpr, INCREMENT: tl.constexpr, CONSTANT: tl.constexpr, LOCAL: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run :func:`reverse` without membranes: every ``ROWS``-th is kept in ``scratch``, the others in registers."""
    neuron = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < count
    real = start.dtype.element_ty
    decay = _constant(beta, betas, neuron, inside, width, real, BLOCK)
    theta = _constant(threshold, thresholds, neuron, inside, width, real, BLOCK)
    heard = _constant(bar, bars, neuron, inside, width, real, BLOCK)
    smallest = _constant(least, leasts, neuron, inside, width, real, BLOCK)
    eps, nil = tl.full((BLOCK,), epsilon, real), tl.full((BLOCK,), 0.0, real)
    now = tl.load(start + neuron, inside, 0.0)
    if not VARYING:
        source = tl.load(current + neuron, inside, 0.0)
    offset = neuron
    mark = neuron
    for first in range(0, steps, ROWS):
        tl.store(scratch + mark, now, inside)
        mark += count
        if VARYING:
            rows = _rows(current, offset, count, inside, first, steps, ROWS)
        for k in tl.static_range(ROWS):
            if VARYING:
                source = rows[k]
            now = _step(now, source, decay, theta, nil, RESET)
            offset += count
    tl.debug_barrier()  # what was stored is read again, perhaps by another thread of the block
    own = nil
    if final is not None:
        own = tl.load(final + neuron, inside, 0.0)
    internal = nil
    summed = nil
    n = nil
    for back in range(0, steps, ROWS):
        mark -= count
        first = (steps - 1) // ROWS * ROWS - back  # the first of these steps
        for _ in tl.static_range(ROWS):
            offset -= count
        before = tl.load(scratch + mark, inside, 0.0)
        if VARYING:
            rows = _rows(current, offset, count, inside, first, steps, ROWS)
        if message is not None:
            messages = _rows(message, offset, count, inside, first, steps, ROWS)
        if reward is not None:
            rewards = _rows(reward, offset, count, inside, first, steps, ROWS)
        membranes = (before,)
        for k in tl.static_range(ROWS):
            if VARYING:
                source = rows[k]
            membranes = membranes + (_step(membranes[k], source, decay, theta, nil, RESET),)  # type: ignore  # noqa: RUF005
        target = offset
        for _ in tl.static_range(ROWS):
            target += count
        for j in tl.static_range(ROWS):
            target -= count
            here = first + (ROWS - 1 - j) < steps
            now = membranes[ROWS - j]
            total = nil
            if message is not None:
                total += tl.where(now > heard, messages[ROWS - 1 - j], nil)
            if reward is not None:
                total += rewards[ROWS - 1 - j]
            if final is not None:
                total += tl.where(first + (ROWS - 1 - j) == steps - 1, own * now, nil)
            earlier = membranes[ROWS - 1 - j]
            n, handed = _share(total + internal, earlier, now, decay, theta, smallest, eps, nil, RESET, INCREMENT)
            internal = nil if LOCAL else tl.where(here, handed, nil)
            if CONSTANT:
                summed += tl.where(here, n, nil)
            else:
                tl.store(out + target, n, inside & here)
    if CONSTANT:
        tl.store(out + neuron, _divide(summed, nil + steps), inside)
    tl.store(to_start + neuron, nil if LOCAL else decay * n, inside)


@triton.jit(do_not_specialize=["steps"])
def integrate(
    current, start, out, beta: tl.float64, betas, width, steps, count,
    VARYING: tl.constexpr, BACKWARDS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Integrate ``U[t] = β U[t−1] + I[t]``, from the first step to the last or backwards."""
    neuron = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neuron < count
    decay = _constant(beta, betas, neuron, inside, width, out.dtype.element_ty, BLOCK)
    now = tl.load(start + neuron, inside, 0.0)
    if not VARYING:
        source = tl.load(current + neuron, inside, 0.0)
    offset = neuron
    move = count
    if BACKWARDS:
        offset += (steps - 1).to(tl.int64) * count
        move = -count
    for first in range(0, steps, ROWS):
        if VARYING:
            rows = _rows(current, offset, move, inside, first, steps, ROWS)
        for k in tl.static_range(ROWS):
            if VARYING:
                source = rows[k]
            now = decay * now + source
            tl.store(out + offset, now, inside & (first + k < steps))
            offset += move
