r"""The leaky integrate-and-fire neuron: its step, its run over time, and how a reward runs back through it.

Forward (LFP v3, eq. A.2-A.3; the arithmetic, and its order of rounding, of snnTorch's ``Leaky``)::

    U[t] = β V[t] + I[t] − θ S[t−1]         reset "subtract",   V[t] = U[t−1]
    U[t] = β V[t] + I[t]                    reset "immediate",  V[t] = U[t−1] − θ S[t−1]
    U[t] = β V[t] + I[t]                    reset "zero",       V[t] = U[t−1] (1 − S[t−1])
    S[t] = 1 if U[t] > θ else 0

``subtract`` is the paper's and snnTorch's: what a spike costs is taken off one step later, undecayed. ``immediate``
takes it off at the spike, so it decays with the membrane, as in norse, sinabs, rockpool, spikingjelly and most chips.
Up to rounding it is ``subtract`` with ``β θ`` taken off, and at β = 1 the two are the same.

The state between two calls is the membrane ``U`` of the last step, before its reset; rest is ``U = 0``.

Backward. With the reward on the membrane ``R[t] = r_S[t] + r_int[t+1]``, split over what flowed *into* it::

    D[t]     = |β U[t−1]| + |I[t]| + ε                          denominator "inflow"     (default)
    D[t]     = |U[t−1]| + |β U[t−1] + I[t] − U[t−1]| + ε        denominator "increment"  (the published code)
    n[t]     = R[t] / D[t]                                      message to the current I[t]
    r_int[t] = β U[t−1] · n[t]                                  reward handed to the step before

The reset earns no credit and blocks none, whichever it is: the membrane that led to a spike is rewarded for
what follows it. (Blocking the reward at a reset to zero costs several points of accuracy; docs/method.md.)

A message is reward per unit of activation (see :mod:`spikelfp.functional.credit`). A hidden neuron's spike
receives ``r_S = S · m``: a silent neuron earns nothing except through its own membrane.

These are the plain versions, one step at a time on any device and dtype; :mod:`spikelfp.kernels` holds the
fast ones, which are tested against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.registry import check_name

Reset = Literal["subtract", "immediate", "zero"]
Denominator = Literal["inflow", "increment"]


@dataclass(frozen=True)
class LIFParameters:
    """Constants of a LIF layer.

    beta: decay of the membrane per step, ``0 < β ≤ 1`` (dimensionless; ``β = exp(−Δt/τ)``).
    threshold: membrane above which (strictly) a neuron fires, ``θ > 0`` (units of the membrane).
    reset: what a spike does to the membrane: ``subtract`` θ one step later, ``immediate`` (subtract θ at once, before
    the next decay), or set it to ``zero``.
    denominator: how the reward of a membrane is normalised, ``inflow`` or ``increment``.

    Raises :class:`~spikelfp.errors.UserError` for a value out of its range.
    """

    beta: float = 0.9
    threshold: float = 1.0
    reset: Reset = "subtract"
    denominator: Denominator = "inflow"

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_decay("beta", self.beta))
        object.__setattr__(self, "threshold", check_number("threshold", self.threshold))
        if not 0.0 < self.threshold < float("inf"):
            raise UserError(f"the threshold must be a finite number above 0, got {self.threshold}")
        check_name("reset", self.reset, get_args(Reset))
        check_name("denominator", self.denominator, get_args(Denominator))


def check_number(name: str, value: Any) -> float:
    """Turn ``value`` into a float, or raise :class:`~spikelfp.errors.UserError` unless it is one number."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shape = tuple(getattr(value, "shape", ())) or (len(value) if hasattr(value, "__len__") else "")
        many = f"{type(value).__name__} of {shape}" if shape and not isinstance(value, str) else repr(value)
        raise UserError(
            f"{name} is one number for all neurons of a layer, got {many}; neurons with others go into a "
            "layer of their own, such as the branches of nn.Concat(nn.Sequential(linear, lif), …)"
        ) from None


def check_decay(name: str, value: Any) -> float:
    """Turn ``value`` into a float, or raise :class:`~spikelfp.errors.UserError` outside of (0, 1]."""
    value = check_number(name, value)
    if not 0.0 < value <= 1.0:
        raise UserError(f"the decay {name} must lie in (0, 1], got {value}")
    return value


class Trace(NamedTuple):
    """What a run over time leaves: ``spikes`` (0/1) and ``membrane`` (before reset), both ``[T, …]``."""

    spikes: Tensor
    membrane: Tensor


def carried(membrane: Tensor, p: LIFParameters) -> Tensor:
    """``V[t]``: the part of the previous step's membrane that survives the reset."""
    if p.reset == "subtract":
        return membrane
    if p.reset == "immediate":
        return membrane - p.threshold * (membrane > p.threshold).to(membrane.dtype)
    return membrane * (membrane <= p.threshold)


def lif_step(current: Tensor, membrane: Tensor, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """One step of eq. A.2-A.3: ``(I[t], U[t−1]) → (S[t], U[t])``, all of the shape of ``current``."""
    updated = p.beta * carried(membrane, p) + current
    if p.reset == "subtract":
        updated = updated - p.threshold * (membrane > p.threshold).to(updated.dtype)
    return (updated > p.threshold).to(updated.dtype), updated


def lif_scan(current: Tensor, membrane: Tensor, p: LIFParameters) -> Trace:
    """Run ``current`` ``[T, …]`` through the neurons from ``membrane`` ``[…]``; :class:`Trace` of ``[T, …]``."""
    spikes, membranes = [], []
    for step in current:
        spike, membrane = lif_step(step, membrane, p)
        spikes.append(spike)
        membranes.append(membrane)
    return Trace(torch.stack(spikes), torch.stack(membranes))


def reward_scan(
    reward: Tensor, current: Tensor, membrane: Tensor, start: Tensor, p: LIFParameters, eps: float
) -> tuple[Tensor, Tensor]:
    """Run the reward back through time.

    reward: ``r_S`` on every spike, ``[T, …]``; a reward on the final membrane is added to the last row.
    current, membrane: ``I`` and ``U`` of the forward run, ``[T, …]``; start: the membrane it began from, ``[…]``.
    Returns the message ``n`` to the current, ``[T, …]``, and the message to ``start``, ``[…]``.
    """
    messages = torch.empty_like(reward)
    internal = torch.zeros_like(start)
    for t in reversed(range(len(reward))):
        previous = membrane[t - 1] if t else start
        decayed = p.beta * previous
        if p.denominator == "inflow":
            total = decayed.abs() + current[t].abs() + eps
        else:
            total = previous.abs() + (decayed + current[t] - previous).abs() + eps
        messages[t] = torch.where(total > 0, (reward[t] + internal) / total, 0)  # D = 0: nothing flowed in
        internal = decayed * messages[t]
    return messages, p.beta * messages[0]
