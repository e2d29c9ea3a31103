r"""Recurrent LIF neurons on CUDA, fused over time: one program goes through all steps of a sample.

Each program lists the neurons of its sample that fire. The forward pass gathers their weights, four at a time; the
reverse pass lists those that earn their message, and gives each of them one product of its weights with the messages of
the step after. The update of the weights is one dense product over all steps and samples. Arithmetic and arguments are
those of :mod:`spikelfp.kernels.recurrent_numba`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from spikelfp.kernels.recurrent_numba import RecurrentConstants, RecurrentCredit, RecurrentRun, Wanted
from spikelfp.kernels.triton_programs import _share, _step

WIDEST = 4096
"""Most neurons of a layer that a program holds in registers."""


@triton.jit
def _list(fired, neuron, listed):
    """Write the neurons that are ``fired`` to ``listed``, in order, and return their number."""
    ones = fired.to(tl.int32)
    place = tl.cumsum(ones, 0) - ones
    tl.debug_barrier()  # what was listed before has been read
    tl.store(listed + place, neuron, fired)
    tl.debug_barrier()
    return tl.sum(ones, 0)


@triton.jit
def _row(rows, listed, e, count, neuron, inside, width):
    """Return the weights that the ``e``-th neuron of the list drives (zeros after the last), and which neuron it is."""
    j = tl.load(listed + e, e < count, 0).to(tl.int64)
    return tl.load(rows + j * width + neuron, inside & (e < count), 0.0), j


@triton.jit(do_not_specialize=["steps"])
def forward_program(
    current, first, rows, offsets, start, synapse, alphas, betas, thresholds, spikes, membrane, after, scratch,
    steps, count, width,
    VARYING: tl.constexpr, RESET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run all steps of one sample; a step of all samples holds ``count`` numbers."""
    neuron = tl.arange(0, BLOCK)
    inside = neuron < width
    own = tl.program_id(0).to(tl.int64) * width + neuron
    listed = scratch + tl.program_id(0).to(tl.int64) * width
    real = start.dtype.element_ty
    nil = tl.full((BLOCK,), 0.0, real)
    decay = tl.load(betas + neuron, inside, 1.0)
    theta = tl.load(thresholds + neuron, inside, 1.0)
    bias = tl.load(offsets + neuron, inside, 0.0)
    now = tl.load(start + own, inside, 0.0)
    total = tl.load(first + own, inside, 0.0)
    y = nil
    if synapse is not None:
        alpha = tl.load(alphas + neuron, inside, 1.0)
        y = tl.load(synapse + own, inside, 0.0)
    place = own
    given = own
    for _ in range(0, steps):
        source = tl.load(current + given, inside, 0.0) + total
        if synapse is not None:
            y = alpha * y + source
            source = y
        now = _step(now, source, decay, theta, nil, RESET)
        fired = (now > theta) & inside
        tl.store(spikes + place, fired.to(real), inside)
        tl.store(membrane + place, now, inside)
        active = _list(fired, neuron, listed)
        total = bias
        for e in range(0, active, 4):
            for k in tl.static_range(4):
                row, _j = _row(rows, listed, e + k, active, neuron, inside, width)
                total += row
        place += count
        if VARYING:
            given += count
    if synapse is not None:
        tl.store(after + own, y, inside)


@triton.jit(do_not_specialize=["steps"])
def reverse_program(
    message, reward, final, final_synapse, membrane, start, rows, alphas, betas, thresholds, bars, leasts, scratch,
    back, out, to_start, to_synapse, to_decay, sums,
    epsilon: tl.float64, steps, count, width,
    RESET: tl.constexpr, INCREMENT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run a reward back over all steps of one sample."""
    neuron = tl.arange(0, BLOCK)
    inside = neuron < width
    own = tl.program_id(0).to(tl.int64) * width + neuron
    listed = scratch + tl.program_id(0).to(tl.int64) * width
    products = back + tl.program_id(0).to(tl.int64) * width
    real = start.dtype.element_ty
    nil, eps = tl.full((BLOCK,), 0.0, real), tl.full((BLOCK,), epsilon, real)
    decay = tl.load(betas + neuron, inside, 1.0)
    theta = tl.load(thresholds + neuron, inside, 1.0)
    bar = tl.load(bars + neuron, inside, 1.0)
    least = tl.load(leasts + neuron, inside, 0.0)
    at_start = tl.load(start + own, inside, 0.0)
    place = own + (steps - 1).to(tl.int64) * count
    now = tl.load(membrane + place, inside, 0.0)
    internal, handed, later, summed, decays, n = nil, nil, nil, nil, nil, nil
    if final is not None:
        internal = tl.load(final + own, inside, 0.0) * now
    if alphas is not None:
        alpha = tl.load(alphas + neuron, inside, 1.0)
    if final_synapse is not None:
        handed = tl.load(final_synapse + own, inside, 0.0)
    for step in range(0, steps):
        t = steps - 1 - step
        before = tl.where(t > 0, tl.load(membrane + place - count, inside & (t > 0), 0.0), at_start)
        heard = (now > bar) & inside
        total = internal
        if message is not None:
            total += tl.where(heard, tl.load(message + place, inside, 0.0), nil)
        if reward is not None:
            total += tl.load(reward + place, inside, 0.0)
        active = _list(heard, neuron, listed)
        for e in range(0, active, 4):
            for k in tl.static_range(4):
                row, j = _row(rows, listed, e + k, active, neuron, inside, width)
                tl.store(products + j, tl.sum(row * later, 0), e + k < active)
        tl.debug_barrier()  # what was stored is read again, perhaps by another thread of the block
        total += tl.load(products + neuron, heard, 0.0)
        n, internal = _share(total, before, now, decay, theta, least, eps, nil, RESET, INCREMENT)
        kept = before
        if RESET == "zero":
            kept = tl.where(before <= theta, before, nil)
        elif RESET == "immediate":
            kept = before - tl.where(before > theta, theta, nil)
        decays += kept * n
        later = n + handed
        if alphas is not None:
            handed = alpha * later
        summed += later
        tl.store(out + place, later, inside)
        now = before
        place -= count
    tl.store(to_start + own, decay * n, inside)
    if to_synapse is not None:
        tl.store(to_synapse + own, handed, inside)
    tl.store(to_decay + own, decays, inside)
    tl.store(sums + own, summed, inside)


def launch_sizes(width: int) -> dict[str, int]:
    """Return neurons of a program, and its warps, for a layer of ``width``."""
    block = triton.next_power_of_2(max(width, 16))
    return {"BLOCK": block, "num_warps": 4 if block <= 1024 else 8}


def _launch(program: Any, shape: torch.Size, device: torch.device, *arguments: Any, **constants: bool | str) -> None:
    """Run ``program`` over the samples of ``shape`` ``[T, B, N]``; ``T``, ``B · N``, ``N`` are its last arguments."""
    steps, batch, width = shape
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        program[(batch,)](
            *arguments, steps, batch * width, width, **constants, **launch_sizes(width), enable_fp_fusion=False
        )


def forward(
    current: Tensor,
    first: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    start: Tensor,
    synapse: Tensor | None,
    p: RecurrentConstants,
) -> RecurrentRun:
    """Run over all steps; see :func:`spikelfp.kernels.recurrent_numba.forward`."""
    varying = current.stride(0) != 0 or len(current) == 1
    spikes, membrane = (torch.empty(current.shape, dtype=current.dtype, device=current.device) for _ in range(2))
    after = None if synapse is None else torch.empty_like(synapse, memory_format=torch.contiguous_format)
    offsets = current.new_zeros(current.shape[-1]) if bias is None else bias.contiguous()
    _launch(
        forward_program, current.shape, current.device,
        (current if varying else current[:1]).contiguous(), first.expand(current.shape[1:]).contiguous(),
        weight.t().contiguous(), offsets, start.contiguous(), None if synapse is None else synapse.contiguous(),
        p.alpha, p.beta, p.threshold, spikes, membrane, after, _scratch(start), VARYING=varying, RESET=p.reset,
    )  # fmt: skip
    return RecurrentRun(spikes, membrane, after, None)


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    final_synapse: Tensor | None,
    membrane: Tensor,
    events: None,
    weight: Tensor,
    start: Tensor,
    p: RecurrentConstants,
    eps: float,
    wanted: Wanted,
) -> RecurrentCredit:
    """Run a reward back over all steps; see :func:`spikelfp.kernels.recurrent_numba.reverse`."""
    out, back = torch.empty_like(membrane), torch.empty_like(membrane[0])
    to_start, to_decay, sums = torch.empty_like(back), torch.empty_like(back), torch.empty_like(back)
    to_synapse = None if p.alpha is None else torch.empty_like(back)
    given = [t if t is None else t.contiguous() for t in (message, reward, final, final_synapse)]
    _launch(
        reverse_program, membrane.shape, membrane.device, *given, membrane, start.contiguous(),
        weight.t().contiguous(), p.alpha, p.beta, p.threshold, p.bar, p.least, _scratch(start), back, out,
        to_start, to_synapse, to_decay, sums, eps, RESET=p.reset, INCREMENT=p.denominator == "increment",
    )  # fmt: skip
    return RecurrentCredit(
        out, to_start, to_synapse, to_decay, sums, to_weight(out, membrane, None, p) if wanted.update else None
    )  # fmt: skip


def to_weight(messages: Tensor, membrane: Tensor, events: None, p: RecurrentConstants) -> Tensor:
    """Sum ``Σ_t M[t]ᵀ S[t−1]`` without the first step; see :func:`spikelfp.kernels.recurrent_numba.to_weight`."""
    fired = (membrane[:-1] > p.threshold).to(messages.dtype)
    return messages[1:].flatten(0, 1).t() @ fired.flatten(0, 1)


def _scratch(start: Tensor) -> Tensor:
    """Allocate the list of each sample."""
    return torch.empty(start.shape, dtype=torch.int32, device=start.device)
