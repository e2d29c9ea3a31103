"""The LIF scans in plain torch: any device, any floating dtype; a loop over time of element-wise operations."""

from __future__ import annotations

import torch
from torch import Tensor

from spikelfp.functional.lif import Constant, LIFParameters, carried, lif_scan, reward_scan
from spikelfp.functional.sequence import Trace


def forward(current: Tensor, start: Tensor, p: LIFParameters, keep: bool = True) -> Trace:
    """Run LIF neurons over time.

    Args:
        current: ``[T, …]``.
        start: membrane before the first step, ``[…]``.
        p: constants of the neurons.
        keep: whether to keep all membranes ``[T, …]``; otherwise only the last, ``[1, …]``, and :func:`reverse`
            computes them again.

    Returns:
        Spikes ``[T, …]`` and membranes.
    """
    spikes, membrane = lif_scan(current, start, p)
    return Trace(spikes=spikes, membrane=membrane if keep else membrane[-1:].clone())


def reverse(
    message: Tensor | None,
    reward: Tensor | None,
    final: Tensor | None,
    membrane: Tensor | None,
    start: Tensor,
    p: LIFParameters,
    eps: float,
    constant: bool,
    current: Tensor | None = None,
    local: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run a reward back over time (equations in :mod:`spikelfp.functional.lif`).

    Args:
        message: message to the spikes, ``[T, …]``, which neurons above ``p.bar`` earn; or ``None``.
        reward: reward of the spikes, ``[T, …]``, or ``None``.
        final: message to the last membrane, ``[…]``, or ``None``.
        membrane: membranes of the forward run, ``[T, …]``; ``None`` to compute them again from ``current``.
        start: membrane before the first step, ``[…]``.
        p: constants of the neurons.
        eps: ε of the rule.
        constant: whether the current was the same at every step; its message is then the mean over time, ``[1, …]``.
        current: current ``[T, …]``, where ``membrane`` is ``None``.
        local: whether the reward of a step stays in it, ``r_int = 0``; the message to ``start`` is then 0.

    Returns:
        The messages to the current and to ``start``.
    """
    if membrane is None:
        assert current is not None
        membrane = lif_scan(current, start, p).membrane
    total = torch.zeros_like(membrane)
    if message is not None:
        total += message * (membrane > p.bar)
    if reward is not None:
        total += reward
    if final is not None:
        total[-1] += final * membrane[-1]
    previous = torch.cat([start.unsqueeze(0), membrane[:-1]])
    # The current is not kept: what the membrane gained is, to rounding, what flowed in.
    if p.reset == "subtract":
        inflow = membrane - p.beta * previous + p.threshold * (previous > p.threshold).to(membrane.dtype)
    else:
        inflow = membrane - p.beta * carried(previous, p)
    messages, to_start = reward_scan(total, inflow, membrane, start, p, eps, local)
    return (messages.mean(0, keepdim=True) if constant else messages), to_start


def integrate(current: Tensor, start: Tensor, beta: Constant, backwards: bool) -> Tensor:
    """Integrate with a leak, ``U[t] = β U[t−1] + I[t]``.

    Args:
        current: ``I``, ``[T, …]``.
        start: membrane before the first step, ``[…]``.
        beta: decay per step.
        backwards: whether to go from the last step to the first.

    Returns:
        ``U``, ``[T, …]``.
    """
    out = torch.empty(current.shape, dtype=current.dtype, device=current.device)
    steps = range(len(current))
    for t in reversed(steps) if backwards else steps:
        if isinstance(beta, Tensor):
            start = torch.mul(start, beta, out=out[t]).add_(current[t])
        else:
            start = torch.add(current[t], start, alpha=beta, out=out[t])
    return out
