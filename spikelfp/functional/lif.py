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

    F[t]     = |β U[t−1]| + |I[t]| + ε                          denominator "inflow"     (default)
    F[t]     = |U[t−1]| + |β U[t−1] + I[t] − U[t−1]| + ε        denominator "increment"  (the published code)
    D[t]     = max(F[t], floor · θ)                             floor 0: D[t] = F[t], as in the paper
    n[t]     = R[t] / D[t]                                      message to the current I[t]
    r_int[t] = β U[t−1] · n[t]                                  reward handed to the step before

The reset earns no credit and blocks none, whichever it is: the membrane that led to a spike is rewarded for
what follows it. (Blocking the reward at a reset to zero costs several points of accuracy; docs/method.md.)

Rules with ``credit="step"`` leave ``r_int`` out, so a step's reward stays in it and nothing runs back through time::

    n[t] = r_S[t] / D[t]

A message is reward per unit of activation (see :mod:`spikelfp.functional.credit`). Of the message ``m`` to its spike,
a hidden neuron earns::

    r_S[t] = S[t] · m[t]                     margin 1, as in the paper: a silent neuron earns nothing
    r_S[t] = m[t] if U[t] > μ θ else 0       margin μ < 1: a neuron that almost fires earns what a spike would

``U[t]`` is the membrane that is compared with θ, before its reset. A silent neuron that earns nothing for its spike
still earns through its own membrane. A reward given to the neurons themselves, such as that of outputs, is theirs
whatever the margin.

Floor and margin are additions of this package (docs/method.md). Where little flows in, ``F`` is small and the message
large; the floor bounds it by ``R / (floor θ)``. The margin rewards almost-spikes, as the window of a surrogate
derivative does, a rectangular one; it costs messages to more neurons, and without a floor it learns worse.

These are the plain versions, one step at a time on any device and dtype; :mod:`spikelfp.kernels` holds the
fast ones, which are tested against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.sequence import Trace
from spikelfp.registry import check_name
from spikelfp.scalars import as_number
from spikelfp.terminal import brief

Reset = Literal["subtract", "immediate", "zero"]
Denominator = Literal["inflow", "increment"]

PAPER_FLOOR, PAPER_MARGIN = 0.0, 1.0
"""Floor and margin of the published rule (v3, A.2-A.3): of :class:`LIFParameters` and of records that state none."""
FLOOR, MARGIN = 1.0, 0.6
"""Floor and margin, in units of θ, of layers and new runs that state none; docs/method.md says how they were chosen."""


Constant = float | Tensor
"""A constant of neurons: one number for all of them, or a tensor with the axes of a step of one sample, each of its
size or 1 (``[features]``; ``[C, 1, 1]`` or ``[C, H, W]`` after a convolution)."""


@dataclass(frozen=True, eq=False, repr=False)
class LIFParameters:
    """Constants of a LIF layer. Two are equal where all of their values are.

    Args:
        beta: decay of the membrane per step, ``0 < β ≤ 1`` (dimensionless; ``β = exp(−Δt/τ)``), one number or a tensor
            with one for each neuron (:data:`Constant`).
        threshold: membrane above which (strictly) a neuron fires, ``θ > 0`` (units of the membrane), likewise.
        reset: effect of a spike on the membrane: ``subtract`` θ one step later, ``immediate`` (subtract θ at once,
            before the next decay), or set it to ``zero``.
        denominator: normalisation of the reward of a membrane, ``inflow`` or ``increment``.
        floor: least denominator, in units of θ, 0 or more; 0 is the paper's rule.
        margin: share of θ above which a membrane earns its message, in (0, 1]; 1 is the paper's rule, spikes alone.

    Attributes:
        vectors: whether β or θ is a tensor.

    Raises:
        UserError: for a value out of its range; for a tensor it names the first such value and its place.
    """

    beta: Constant = 0.9
    threshold: Constant = 1.0
    reset: Reset = "subtract"
    denominator: Denominator = "inflow"
    floor: float = PAPER_FLOOR
    margin: float = PAPER_MARGIN
    vectors: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", check_decay("beta", self.beta))
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
        check_name("reset", self.reset, get_args(Reset))
        check_name("denominator", self.denominator, get_args(Denominator))
        object.__setattr__(self, "floor", check_floor(self.floor))
        object.__setattr__(self, "margin", check_margin(self.margin))
        object.__setattr__(self, "vectors", isinstance(self.beta, Tensor) or isinstance(self.threshold, Tensor))

    @property
    def least(self) -> Constant:
        """Least denominator ``floor · θ``, in units of the membrane; 0 without a floor."""
        return least_denominator(self.floor, self.threshold)

    @property
    def bar(self) -> Constant:
        """Membrane ``μ θ`` above which a neuron earns its message; θ itself for a margin of 1."""
        return self.threshold if self.margin == 1 else self.margin * self.threshold

    def fitted(self, step: Tensor) -> LIFParameters:
        """Return the constants in the dtype and on the device of ``step`` ``[B, …]``, ready to be broadcast against it.

        Raises:
            ShapeError: for a tensor that does not have the axes of a step of one sample, with what to write.
        """
        if not self.vectors:
            return self
        return self.unchecked(
            beta=fit_constant("beta", self.beta, step), threshold=fit_constant("threshold", self.threshold, step)
        )

    def unchecked(self, beta: Constant, threshold: Constant) -> LIFParameters:
        """Return a copy with values that were checked before."""
        copy = object.__new__(LIFParameters)
        vectors = isinstance(beta, Tensor) or isinstance(threshold, Tensor)
        for name, value in {**self.__dict__, "beta": beta, "threshold": threshold, "vectors": vectors}.items():
            object.__setattr__(copy, name, value)
        return copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LIFParameters):
            return NotImplemented
        return all(same_constant(own, other.__dict__[name]) for name, own in self.__dict__.items())

    def __hash__(self) -> int:
        return hash(tuple(tuple(each.shape) if isinstance(each, Tensor) else each for each in self.__dict__.values()))

    def __repr__(self) -> str:
        return f"LIFParameters({self.described()})"

    def described(self) -> str:
        """Write the constants as arguments of a layer, tensors in short: ``beta=0.81…0.95 [256], …``."""
        return (
            f"beta={brief_constant(self.beta)}, threshold={brief_constant(self.threshold)}, reset={self.reset!r}, "
            f"denominator={self.denominator!r}{described_credit(self.floor, self.margin)}"
        )


def least_denominator(floor: float, threshold: Constant) -> Constant:
    """Return the least denominator ``floor · θ``, in units of the membrane; 0 without a floor.

    Args:
        floor: in units of θ.
        threshold: θ.
    """
    return floor * threshold if floor else 0.0


def described_credit(floor: float, margin: float) -> str:
    """Write floor and margin as further arguments; nothing for those of the paper, so that older texts stay the same.

    Args:
        floor: the floor.
        margin: the margin.
    """
    text = f", floor={floor}" if floor != PAPER_FLOOR else ""
    return f"{text}, margin={margin}" if margin != PAPER_MARGIN else text


def same_constant(one: Any, other: Any) -> bool:
    """Whether two constants have the same values; a number and a tensor are never the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool((one.double().cpu() == other.double().cpu()).all())
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(one == other)


def brief_constant(value: Constant) -> str:
    """Write a constant: a number as it is, a tensor by its range and shape, ``0.81…0.95 [256]``."""
    if not isinstance(value, Tensor):
        return str(value)
    shape = list(value.shape)
    if value.is_meta:
        return f"? {shape}"
    low, high = (f"{float(bound):.4g}" for bound in value.aminmax())
    return f"{low} {shape}" if low == high else f"{low}…{high} {shape}"


def fit_constant(name: str, value: Constant, step: Tensor) -> Constant:
    """Return a constant that broadcasts against ``step`` ``[B, …]``, in its dtype and on its device.

    Raises:
        ShapeError: for a tensor that does not have the axes of a step of one sample; it says what to write.
        UserError: for a tensor on the meta device.
    """
    if not isinstance(value, Tensor):
        return value
    sizes, own = tuple(step.shape[1:]), tuple(value.shape)
    if value.is_meta and not step.is_meta:
        raise UserError(
            f"{name} is on the meta device and has no values: give it a tensor with values, or to_empty and load"
        )
    if len(own) == len(sizes) and all(axis in (1, size) for axis, size in zip(own, sizes, strict=True)):
        return value.to(step.device, step.dtype)
    one = ", ".join(map(str, sizes))
    fitting = f"[{one}]"
    if len(sizes) > 1:
        fitting = f"[{sizes[0]}{', 1' * (len(sizes) - 1)}], one for each channel, or [{one}]"
        if own == sizes[:1]:
            ones = ", 1" * (len(sizes) - 1)
            fitting += f"; {name}.view({own[0]}{ones}) of this one"
    raise ShapeError(
        f"{name} has shape {list(own)}, and a step of one sample here [{one}]: give it the shape {fitting}"
    )


def total_like(constant: Constant, terms: Tensor) -> Tensor:
    """Sum ``terms`` ``[T, B, …]`` over steps, samples and the neurons that share a constant, to its shape."""
    return terms.sum_to_size(constant.shape) if isinstance(constant, Tensor) else terms.sum()


def check_number(name: str, value: Any) -> float:
    """Turn ``value`` into a float, or raise :class:`~spikelfp.errors.UserError` unless it is one number."""
    number = _one_number(value)
    if number is None:
        raise UserError(f"{name} is one number, got {_shown(value)}")
    return number


def _one_number(value: Any) -> float | None:
    """Return a number, or a tensor of one, as a float; ``None`` for what is none."""
    if isinstance(value, Tensor):
        return as_number(value.item()) if value.numel() == 1 and not value.is_meta else None
    return as_number(value)


def check_floor(value: Any) -> float:
    """Return a floor of denominators as a float.

    Args:
        value: the floor, in units of θ.

    Raises:
        UserError: for what is no finite number of 0 or more.
    """
    floor = check_number("floor", value)
    if not 0 <= floor < float("inf"):
        raise UserError(f"floor is a finite number of thresholds, 0 or more (0: the paper's rule), got {floor}")
    return abs(floor)  # -0.0 would print as another value


def check_margin(value: Any) -> float:
    """Return a margin as a float.

    Args:
        value: the margin, in units of θ.

    Raises:
        UserError: for what is no number above 0 and up to 1.
    """
    margin = check_number("margin", value)
    if not 0 < margin <= 1:
        raise UserError(f"margin is a share of the threshold, above 0 and up to 1 (the paper's rule), got {margin}")
    return margin


def check_decay(name: str, value: Any) -> Constant:
    """Return a decay as a float, or as a tensor of floats that nobody else holds.

    Raises:
        UserError: for values outside of (0, 1].
    """
    return check_constant(name, value, f"the decay {name} must lie in (0, 1]", lambda v: (v > 0) & (v <= 1))


def check_threshold(value: Any) -> Constant:
    """Return a threshold as a float, or as a tensor of floats that nobody else holds.

    Raises:
        UserError: for values that are not finite or not above 0.
    """
    requirement = "the threshold must be a finite number above 0"
    return check_constant("threshold", value, requirement, lambda v: (v > 0) & (v < float("inf")))


def check_constant(name: str, value: Any, requirement: str, inside: Callable[[Any], Any]) -> Constant:
    """Return a constant of neurons as a float, or as a tensor of floats that nobody else holds.

    Args:
        name: name of the constant.
        value: a number, or a tensor with one for each neuron.
        requirement: first words of the error, which say what values it may have.
        inside: test of a value, or of each value of a tensor.

    Raises:
        UserError: for other values; for a tensor it names the first such value and its place.
    """
    if isinstance(value, Tensor) and value.requires_grad:
        raise UserError(
            f"{name} is a tensor that requires grad, and would not learn: pass {name}.detach(). Of the constants of "
            "neurons only β learns, with learn_beta=True"
        )
    if not isinstance(value, Tensor) or not value.dim():
        number = _one_number(value)
        if number is None:
            raise UserError(
                f"{name} is one number for all neurons of a layer or a tensor with one for each, got {_shown(value)}"
                + ("" if isinstance(value, str) else "; torch.as_tensor(values) makes a tensor")
            )
        if not inside(number):
            raise UserError(f"{requirement}, got {number}")
        return number
    if value.dtype is torch.bool or value.is_complex() or value.layout is not torch.strided or not value.numel():
        raise UserError(f"{name} is a dense tensor of real numbers, got {value.dtype} of shape {list(value.shape)}")
    wide = torch.promote_types(value.dtype, torch.float32)
    value = value.to(wide, copy=True, memory_format=torch.contiguous_format)
    if value.is_meta or bool((good := inside(value)).all()):
        return value
    place = [int(index) for index in (~good).nonzero()[0]]
    raise UserError(f"{requirement}, got {float(value[tuple(place)])} at {place}")


def _shown(value: Any) -> str:
    shape = tuple(getattr(value, "shape", ())) or (len(value) if hasattr(value, "__len__") else "")
    if shape and not isinstance(value, str):
        return f"{type(value).__name__} of {shape}"
    return brief(value)


def carried(membrane: Tensor, p: LIFParameters) -> Tensor:
    """Return ``V[t]``, the part of the previous step's membrane that remains after the reset."""
    if p.reset == "subtract":
        return membrane
    if p.reset == "immediate":
        return membrane - p.threshold * (membrane > p.threshold).to(membrane.dtype)
    return membrane * (membrane <= p.threshold)


def lif_step(current: Tensor, membrane: Tensor, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """Run one step of eq. A.2-A.3: ``(I[t], U[t−1]) → (S[t], U[t])``, all of the shape of ``current``."""
    updated = p.beta * carried(membrane, p) + current
    if p.reset == "subtract":
        updated = updated - p.threshold * (membrane > p.threshold).to(updated.dtype)
    return (updated > p.threshold).to(updated.dtype), updated


def lif_scan(current: Tensor, membrane: Tensor, p: LIFParameters) -> Trace:
    """Run ``current`` ``[T, …]`` through neurons that start from ``membrane`` ``[…]``; return their :class:`Trace`."""
    spikes, membranes = [], []
    for step in current:
        spike, membrane = lif_step(step, membrane, p)
        spikes.append(spike)
        membranes.append(membrane)
    return Trace(spikes=torch.stack(spikes), membrane=torch.stack(membranes))


def at_least(total: Tensor, least: Constant) -> Tensor:
    """Return ``max(total, least)`` of denominators ``[…]``; as they are where ``least`` is 0."""
    if isinstance(least, Tensor):
        return torch.maximum(total, least)
    return total.clamp(min=least) if least else total


def reward_scan(
    reward: Tensor,
    current: Tensor,
    membrane: Tensor,
    start: Tensor,
    p: LIFParameters,
    eps: float,
    local: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the reward back through time, by the equations at the head of this module.

    Args:
        reward: ``r_S`` of every spike, ``[T, …]``; a reward on the final membrane is added to the last row.
        current: ``I`` of the forward run, ``[T, …]``.
        membrane: ``U`` of the forward run, ``[T, …]``.
        start: the membrane that the run began from, ``[…]``.
        p: constants of the neurons.
        eps: the ε of the rule.
        local: whether the reward of a step stays in it, ``r_int = 0``; nothing goes to ``start`` then.

    Returns:
        the message ``n`` to the current, ``[T, …]``, and the message to ``start``, ``[…]``.
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
        total = at_least(total, p.least)
        messages[t] = torch.where(total > 0, (reward[t] + internal) / total, 0)  # D = 0: nothing flowed in
        if not local:
            internal = decayed * messages[t]
    return messages, torch.zeros_like(start) if local else p.beta * messages[0]
