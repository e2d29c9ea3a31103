r"""norse's neurons and ours.

norse (1.1.0) makes Euler steps of ``τ v' = v_leak − v + i``. With ``u = v − v_leak``, ``g = Δt/τ_mem``, ``β = 1 − g``
and ``α = 1 − Δt/τ_syn``, which start at ``u = 0``::

    LIFBoxCell                  u[t] = β u[t−1] + g x[t]                                nn.LIF
    IAFCell                     u[t] = u[t−1] + x[t]                                    nn.LIF, β = 1
    LIFCell, LIF                i[t] = α i[t−1] + x[t];  u[t] = β u[t−1] + g i[t]       nn.Synaptic
    LIFRecurrentCell            as LIFBoxCell with x[t] = W X[t] + V z[t−1], if α = 0   nn.Linear, nn.RecurrentLIF
    LIBoxCell, and if α = 0     u[t] = β u[t−1] + g x[t], without spikes                nn.LI
      LICell, LI, LILinearCell

A spike is ``u > θ`` with ``θ = v_th − v_leak``; ``g`` goes into the weights in front (:mod:`spikelfp.interop.gain`).
norse resets at once: to ``v_reset``, our ``zero`` where ``v_reset = v_leak``, or by ``reset_subtract``, our
``immediate`` where ``v_leak = 0`` (it takes off ``v_th``, which is θ only then).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator, Reset
from spikelfp.interop.norse_reset import DelayedSubtract
from spikelfp.interop.peers import peer
from spikelfp.interop.refusal import ConversionError, check_no_hooks, refusal
from spikelfp.interop.values import constant_of

_STEP_FUNCTIONS = ("heaviside", "super", "triangle", "tanh", "circ", "heavi_erfc")
_GONE = 1e-9
"""An α below this leaves nothing of a current after one step."""


class Converted(NamedTuple):
    """Neurons here, the dense layer in front of them that norse has inside, and the factor on their input."""

    neurons: nn.Layer
    gain: float
    inside: nn.Linear | None = None


def is_norse(layer: torch.nn.Module) -> bool:
    """Whether a layer is one of norse's, of which only some convert."""
    return type(layer).__module__.startswith("norse.")


def from_neuron(name: str, cell: Any, denominator: Denominator) -> Converted:
    """The layer here that fires as ``cell`` does; refused, by name, where there is none."""
    norse = peer("norse.torch")
    converters: dict[str, Callable[[str, Any, Denominator], Converted]] = {
        "LIFBoxCell": _box, "IAFCell": _integrate_and_fire, "IAF": _integrate_and_fire, "LIFCell": _current_based,
        "LIF": _current_based, "LIFRecurrentCell": _recurrent, "LIFRecurrent": _recurrent, "LIBoxCell": _integrator,
        "LICell": _integrator, "LI": _integrator, "LILinearCell": _integrator,
    }  # fmt: skip
    kind = type(cell).__name__
    if kind not in converters or type(cell) is not getattr(norse, kind):
        raise refusal(
            name, cell, "spikelfp has no such layer",
            f"layers of norse that convert: {', '.join(converters)}",
        )  # fmt: skip
    check_no_hooks(name, cell)
    if getattr(cell.p, "method", "super") not in _STEP_FUNCTIONS:
        raise refusal(
            name, cell, f"norse has no threshold function {cell.p.method!r}",
            f"use one of {', '.join(_STEP_FUNCTIONS)}",
        )  # fmt: skip
    try:
        return converters[kind](name, cell, denominator)
    except ConversionError:
        raise
    except UserError as error:
        raise refusal(name, cell, str(error), "change the value") from None


def _value(name: str, cell: Any, what: str) -> float:
    return constant_of(name, cell, f"p.{what}", getattr(cell.p, what))


def _rate(name: str, cell: Any, what: str) -> float:
    """``Δt/τ``."""
    return float(cell.dt) * _value(name, cell, what)


def _theta(name: str, cell: Any, rest: float) -> float:
    return _value(name, cell, "v_th") - rest


def _check_restart(name: str, cell: Any, rest: float) -> None:
    """Refuse a reset to anything but the resting membrane."""
    reset = _value(name, cell, "v_reset")
    if reset != rest:
        raise refusal(
            name, cell, f"a spike resets its membrane to {reset}, not to v_leak = {rest}",
            "use v_reset = v_leak",
        )  # fmt: skip


def _box(name: str, cell: Any, denominator: Denominator) -> Converted:
    norse = peer("norse.torch")
    gain, rest = _rate(name, cell, "tau_mem_inv"), _value(name, cell, "v_leak")
    method = cell.p.reset_method
    reset: Reset = "zero"
    if isinstance(method, DelayedSubtract):
        reset = "subtract"
        if rest != 0 or abs(method.beta - (1 - gain)) > 1e-6:
            raise refusal(
                name, cell, f"DelayedSubtract(beta={method.beta}) needs v_leak = 0 and beta = 1 - dt/tau = {1 - gain}",
                "build it with these values",
            )  # fmt: skip
    elif method is norse.reset_value:
        _check_restart(name, cell, rest)
    elif method is norse.reset_subtract:
        reset = "immediate"
        if rest != 0:
            raise refusal(
                name, cell, f"reset_subtract takes v_th off a membrane that rests at v_leak = {rest}, and the "
                "threshold here is what lies between the two",
                "use v_leak = 0, or reset_value",
            )  # fmt: skip
    else:
        raise refusal(name, cell, f"its reset_method {method!r} is not known here", "use norse.torch.reset_value")
    return Converted(nn.LIF(1 - gain, _theta(name, cell, rest), reset, denominator), gain)


def _integrate_and_fire(name: str, cell: Any, denominator: Denominator) -> Converted:
    # norse turns on requires_grad of v_reset itself when it makes a first state of it
    rest = constant_of(name, cell, "p.v_reset", cell.p.v_reset.detach())
    return Converted(nn.LIF(1.0, _theta(name, cell, rest), "zero", denominator), 1.0)


def _current_based(name: str, cell: Any, denominator: Denominator) -> Converted:
    gain, alpha = _rate(name, cell, "tau_mem_inv"), 1 - _rate(name, cell, "tau_syn_inv")
    rest = _value(name, cell, "v_leak")
    _check_restart(name, cell, rest)
    theta = _theta(name, cell, rest)
    if abs(alpha) < _GONE:
        return Converted(nn.LIF(1 - gain, theta, "zero", denominator), gain)
    return Converted(nn.Synaptic(alpha, 1 - gain, theta, "zero", denominator), gain)


def _check_no_current(name: str, cell: Any, what: str) -> None:
    alpha = 1 - _rate(name, cell, "tau_syn_inv")
    if abs(alpha) >= _GONE:
        raise refusal(
            name, cell, f"its synaptic current outlasts a step (a share of 1 - dt/tau_syn = {alpha:.6g} stays), and "
            f"{what} here have none",
            "use tau_syn_inv = 1/dt",
        )  # fmt: skip


def _recurrent(name: str, cell: Any, denominator: Denominator) -> Converted:
    _check_no_current(name, cell, "recurrent neurons")
    gain, rest = _rate(name, cell, "tau_mem_inv"), _value(name, cell, "v_leak")
    _check_restart(name, cell, rest)
    connections = dense(cell.recurrent_weights * gain)
    neurons = nn.RecurrentLIF(connections, 1 - gain, _theta(name, cell, rest), "zero", denominator)
    inputs = cell.input_weights.detach()
    if inputs.shape[0] == inputs.shape[1] and torch.equal(inputs, torch.eye(len(inputs)).to(inputs)):
        return Converted(neurons, gain)
    return Converted(neurons, gain, dense(inputs))


def _integrator(name: str, cell: Any, denominator: Denominator) -> Converted:
    if type(cell).__name__ != "LIBoxCell":
        _check_no_current(name, cell, "leaky integrators")
    if (rest := _value(name, cell, "v_leak")) != 0:
        raise refusal(name, cell, f"its membrane rests at v_leak = {rest}, that of nn.LI at 0", "use v_leak = 0")
    gain = _rate(name, cell, "tau_mem_inv")
    inside = dense(cell.input_weights) if type(cell).__name__ == "LILinearCell" else None
    return Converted(nn.LI(1 - gain), gain, inside)


def dense(weights: torch.Tensor) -> nn.Linear:
    """A dense layer without bias with a copy of ``weights`` ``[out, in]``."""
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weights.detach().clone())
    return layer
