r"""Networks of this package from and to norse.

norse (1.1.0) makes Euler steps of ``τ v' = v_leak − v + i``. With ``u = v − v_leak``, ``g = Δt/τ_mem``, ``β = 1 − g``
and ``α = 1 − Δt/τ_syn``, which start at ``u = 0``::

    LIFBoxCell                  u[t] = β u[t−1] + g x[t]                                nn.LIF
    IAFCell                     u[t] = u[t−1] + x[t]                                    nn.LIF, β = 1
    LIFCell, LIF                i[t] = α i[t−1] + x[t];  u[t] = β u[t−1] + g i[t]       nn.Synaptic
    LIFRecurrentCell            as LIFBoxCell with x[t] = W X[t] + V z[t−1], if α = 0   nn.Linear, nn.RecurrentLIF
    LIBoxCell, and if α = 0     u[t] = β u[t−1] + g x[t], without spikes                nn.LI
      LICell, LI, LILinearCell

A spike is ``u > θ`` with ``θ = v_th − v_leak``; ``g`` goes into the weights in front (:func:`scale_input`).
norse resets at once: to ``v_reset``, our ``zero`` where ``v_reset = v_leak``, or by ``reset_subtract``, our
``immediate`` where ``v_leak = 0`` (it takes off ``v_th``, which is θ only then).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast, get_args

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import FLOOR, MARGIN, Constant, Denominator, Reset, brief_constant
from spikelfp.interop.base import (
    Chain,
    ConversionError,
    Tensors,
    check_credit,
    check_no_hooks,
    check_once,
    constant_of,
    flat_names,
    from_torch,
    layer_chain,
    peer,
    refusal,
    to_torch,
    with_credit,
)
from spikelfp.nn import graph
from spikelfp.nn.neurons.base import ConstantLayer
from spikelfp.registry import check_name
from spikelfp.scalars import as_number


def from_norse(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    *,
    denominator: Denominator = "inflow",
    floor: float = FLOOR,
    margin: float = MARGIN,
) -> nn.Sequential:
    """Convert a norse network to an :class:`spikelfp.nn.Sequential`: ``[T, B, …]`` to the same spikes ``[T, B, …]``.

    Its parameters are **copies**: norse multiplies the input of its neurons by ``Δt/τ``, and that factor moves into the
    weights that feed them. To go back, use :func:`to_norse`. Layers keep their names, with dots as underscores.

    Spikes are equal up to rounding: norse sums in another order, so a membrane that comes within a few units in the
    last place of its threshold (or of ``v_leak``, where that is far from 0) may fire in one and not in the other.

    The weights shrink by ``Δt/τ``, a tenth by norse's defaults, and steps of LFP are scaled by ``|w|``: learning rates
    that suit other networks are then too small.

    Args:
        model: a ``norse.torch.SequentialState`` of torch's layers and norse's neurons, called step by step or, with
            ``Lift``, over time; one inside a ``Lift``; a ``Sequential``, torch's or this package's, or a list of layers
            in the order they run. Layers of :mod:`spikelfp.nn` among them are copied as they are.
        denominator: how the reward on a membrane is normalised (:class:`spikelfp.nn.LIF`).
        floor: least denominator, in units of the threshold, likewise.
        margin: share of the threshold above which a membrane earns its message, likewise.

    Raises:
        UserError: with the name of the layer and the reason, for a layer that cannot be converted.
    """
    check_name("denominator", denominator, get_args(Denominator))
    credit = check_credit(floor, margin)
    placed = norse_chain(model)
    if not placed:
        raise UserError("the model has no layers")
    chain = [(name, layer) for name, layer, _ in placed]
    check_once(chain, is_norse)
    check_unshared(chain)
    tensors = Tensors(copy=True)
    converted: Chain = []
    for name, layer, timed in placed:
        if not is_norse(layer):
            converted.append((name, from_torch(name, layer, tensors, batch_axis=int(timed))))
            continue
        neurons, gain, inside = from_neuron(name, layer, denominator)
        with_credit(neurons, credit)
        if inside is not None:
            converted.append((f"{name}.input", inside))
        if not _all(gain == 1):
            scale_input(converted, gain, name, layer)
        converted.append((name, neurons))
    net = nn.Sequential(flat_names(converted))
    _narrow(net)
    return net.train(model.training if isinstance(model, torch.nn.Module) else True)


def _narrow(net: nn.Sequential) -> None:
    """Cast constants of each neuron, computed in float64, to the dtype of the weights."""
    kind = next((p.dtype for p in net.parameters()), torch.get_default_dtype())
    for layer in net:
        if isinstance(layer, ConstantLayer):
            for constant in layer.neuron_constants():
                value = getattr(layer, constant)
                if isinstance(value, Tensor):
                    setattr(layer, constant, value.to(kind))


Placed = list[tuple[str, torch.nn.Module, bool]]
"""Layers with their names, and whether each takes ``[T, B, …]`` (else a step, ``[B, …]``)."""

_STEP_ONLY = ("Conv2d", "BatchNorm1d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")


def norse_chain(model: torch.nn.Module | Sequence[torch.nn.Module]) -> Placed:
    """List the layers of a ``SequentialState``, one inside a ``Lift``, a ``Sequential`` or a list, in their order."""
    norse = peer("norse.torch")
    whole: Any = model if isinstance(model, torch.nn.Module) else norse.SequentialState(*model)
    if type(whole) is norse.Lift:
        check_no_hooks("the model", whole)
        return _opened(whole.lifted_module, timed=False)
    return _opened(whole, timed=_runs_over_time(whole))


def _opened(model: Any, timed: bool) -> Placed:
    norse = peer("norse.torch")
    if type(model) is not norse.SequentialState and not graph.in_order(model):
        raise UserError(
            f"{type(model).__name__} has a forward of its own, so the order of its layers is not known: hand in the "
            "norse.torch.SequentialState inside it, or the layers as a list in the order they run"
        )
    if any(getattr(module, "return_hidden", False) for module in model.modules()):
        raise UserError(
            "a SequentialState with return_hidden=True returns the output of every layer; set it to False to convert"
        )
    found: Placed = []
    for name, layer in layer_chain(model, lambda each: type(each) is norse.SequentialState or graph.in_order(each)):
        if type(layer) is norse.Lift:
            found.append((name, _lifted(name, layer), False))
        else:
            _check_place(name, layer, timed)
            found.append((name, layer, timed))
    return found


def _lifted(name: str, lift: Any) -> torch.nn.Module:
    check_no_hooks(name, lift)
    if lift.is_stateful:
        raise refusal(
            name, lift, "a Lift of neurons hands its state on to the next layer as a second value",
            "lift the whole network instead, Lift(SequentialState(...)), or run the SequentialState step by step",
        )  # fmt: skip
    return lift.lifted_module


def _check_place(name: str, layer: torch.nn.Module, timed: bool) -> None:
    snn = peer("norse.torch.module.snn")
    norse = peer("norse.torch")
    cells = (snn.SNNCell, snn.SNNRecurrentCell, norse.LILinearCell)
    if timed and isinstance(layer, cells):
        raise refusal(
            name, layer, "it makes one step, while other layers of the network run over time",
            "use cells and plain layers alone, called step by step, or layers over time and Lift alone",
        )  # fmt: skip
    if timed and type(layer).__name__ in _STEP_ONLY:
        raise refusal(
            name, layer, "next to layers that run over time it takes the steps for another axis",
            "lift it, norse.torch.Lift(layer)",
        )  # fmt: skip


def _runs_over_time(model: torch.nn.Module) -> bool:
    norse, snn = peer("norse.torch"), peer("norse.torch.module.snn")
    return any(isinstance(module, (snn.SNN, snn.SNNRecurrent, norse.Lift)) for module in model.modules())


_STEP_FUNCTIONS = ("heaviside", "super", "triangle", "tanh", "circ", "heavi_erfc")
_GONE = 1e-9
"""Value of α below which nothing of a current is left after one step."""


class ConvertedNeuron(NamedTuple):
    """Neurons of this package that stand for a cell of norse's.

    Attributes:
        neurons: the neurons.
        gain: factor by which norse multiplies their input, a number or one for each neuron.
        inside: dense layer of the cell that comes before the neurons, if it has one.
    """

    neurons: nn.Layer
    gain: Constant
    inside: nn.Linear | None = None


def is_norse(layer: torch.nn.Module) -> bool:
    """Whether a layer is one of norse's, of which only some convert."""
    return type(layer).__module__.startswith("norse.")


def from_neuron(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    """Make the neurons that fire as ``cell`` does.

    Args:
        name: name of the layer, for errors.
        cell: norse's neurons.
        denominator: how the reward on a membrane is normalised.

    Raises:
        ConversionError: where this package has none.
    """
    norse = peer("norse.torch")
    converters: dict[str, Callable[[str, Any, Denominator], ConvertedNeuron]] = {
        "LIFBoxCell": _box, "IAFCell": _integrate_and_fire, "IAF": _integrate_and_fire, "LIFCell": _current_based,
        "LIF": _current_based, "LIFRecurrentCell": _recurrent, "LIFRecurrent": _recurrent, "LIBoxCell": _integrator,
        "LICell": _integrator, "LI": _integrator, "LILinearCell": _integrator,
    }  # fmt: skip
    kind = type(cell).__name__
    if kind.startswith("LSNN"):
        raise refusal(
            name, cell, "it takes its input one step late, which no neurons here do (nn.ALIF takes it at once)",
            f"use one of {', '.join(converters)}",
        )  # fmt: skip
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


def _value(name: str, cell: Any, what: str) -> Constant:
    found = constant_of(name, cell, f"p.{what}", getattr(cell.p, what))
    return found.double() if isinstance(found, Tensor) else found


def _rate(name: str, cell: Any, what: str) -> Constant:
    """Return ``Δt/τ``."""
    return float(cell.dt) * _value(name, cell, what)


def _theta(name: str, cell: Any, rest: Constant) -> Constant:
    return _value(name, cell, "v_th") - rest


def _all(condition: Any) -> bool:
    """Whether a condition on constants holds, of each where they are tensors."""
    return bool(torch.as_tensor(condition).all())


def _decay(rate: Constant) -> Constant:
    """Return ``1 − Δt/τ``."""
    return 1 - rate


def _shown(value: Constant) -> str:
    """Write a constant for an error."""
    return brief_constant(value) if isinstance(value, Tensor) else str(round(value, 6))


def _check_restart(name: str, cell: Any, rest: Constant) -> None:
    """Refuse a reset to anything but the resting membrane."""
    reset = _value(name, cell, "v_reset")
    if not _all(torch.as_tensor(reset) == torch.as_tensor(rest)):
        raise refusal(
            name, cell, f"a spike resets its membrane to {_shown(reset)}, not to v_leak = {_shown(rest)}",
            "use v_reset = v_leak",
        )  # fmt: skip


def _box(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    norse = peer("norse.torch")
    gain, rest = _rate(name, cell, "tau_mem_inv"), _value(name, cell, "v_leak")
    method = cell.p.reset_method
    reset: Reset = "zero"
    if isinstance(method, DelayedSubtract):
        reset = "subtract"
        if not _all(rest == 0) or not _all(torch.as_tensor(method.beta - (1 - gain)).abs() <= 1e-6):
            raise refusal(
                name, cell, f"DelayedSubtract(beta={_shown(method.beta)}) needs v_leak = 0 and beta = 1 - dt/tau = "
                f"{_shown(1 - gain)}",
                "build it with these values",
            )  # fmt: skip
    elif method is norse.reset_value:
        _check_restart(name, cell, rest)
    elif method is norse.reset_subtract:
        reset = "immediate"
        if not _all(rest == 0):
            raise refusal(
                name, cell, f"reset_subtract takes v_th off a membrane that rests at v_leak = {_shown(rest)}, and the "
                "threshold here is what lies between the two",
                "use v_leak = 0, or reset_value",
            )  # fmt: skip
    else:
        raise refusal(name, cell, f"its reset_method {method!r} is not known here", "use norse.torch.reset_value")
    return ConvertedNeuron(nn.LIF(_decay(gain), _theta(name, cell, rest), reset, denominator), gain)


def _integrate_and_fire(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    # norse turns on requires_grad of v_reset itself when it makes a first state of it
    rest = constant_of(name, cell, "p.v_reset", cell.p.v_reset.detach())
    return ConvertedNeuron(nn.LIF(1.0, _theta(name, cell, rest), "zero", denominator), 1.0)


def _current_based(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    gain, alpha = _rate(name, cell, "tau_mem_inv"), _decay(_rate(name, cell, "tau_syn_inv"))
    rest = _value(name, cell, "v_leak")
    _check_restart(name, cell, rest)
    theta = _theta(name, cell, rest)
    if _all(torch.as_tensor(alpha).abs() < _GONE):
        return ConvertedNeuron(nn.LIF(_decay(gain), theta, "zero", denominator), gain)
    return ConvertedNeuron(nn.Synaptic(alpha, _decay(gain), theta, "zero", denominator), gain)


def _check_no_current(name: str, cell: Any, what: str) -> None:
    alpha = 1 - _rate(name, cell, "tau_syn_inv")
    if not _all(torch.as_tensor(alpha).abs() < _GONE):
        raise refusal(
            name, cell, f"its synaptic current outlasts a step (a share of 1 - dt/tau_syn = {_shown(alpha)} stays), "
            f"and {what} here have none",
            "use tau_syn_inv = 1/dt",
        )  # fmt: skip


def _recurrent(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    _check_no_current(name, cell, "recurrent neurons")
    gain, rest = _rate(name, cell, "tau_mem_inv"), _value(name, cell, "v_leak")
    _check_restart(name, cell, rest)
    rows = gain.to(cell.recurrent_weights).unsqueeze(-1) if isinstance(gain, Tensor) else gain
    connections = dense(cell.recurrent_weights * rows)
    neurons = nn.RecurrentLIF(connections, _decay(gain), _theta(name, cell, rest), "zero", denominator)
    inputs = cell.input_weights.detach()
    if inputs.shape[0] == inputs.shape[1] and torch.equal(inputs, torch.eye(len(inputs)).to(inputs)):
        return ConvertedNeuron(neurons, gain)
    return ConvertedNeuron(neurons, gain, dense(inputs))


def _integrator(name: str, cell: Any, denominator: Denominator) -> ConvertedNeuron:
    if type(cell).__name__ != "LIBoxCell":
        _check_no_current(name, cell, "leaky integrators")
    if not _all((rest := _value(name, cell, "v_leak")) == 0):
        raise refusal(
            name, cell, f"its membrane rests at v_leak = {_shown(rest)}, that of nn.LI at 0", "use v_leak = 0"
        )
    gain = _rate(name, cell, "tau_mem_inv")
    inside = dense(cell.input_weights) if type(cell).__name__ == "LILinearCell" else None
    return ConvertedNeuron(nn.LI(_decay(gain)), gain, inside)


def dense(weights: torch.Tensor) -> nn.Linear:
    """Make a dense layer without bias with a copy of ``weights`` ``[out, in]``."""
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weights.detach().clone())
    return layer


def to_norse(net: torch.nn.Module, *, dt: float = 0.001) -> Any:
    """Convert a network to a ``norse.torch.SequentialState`` of torch's layers and norse's cells, with equal spikes.

    Call it once a step with ``[B, …]``::

        state, spikes = None, []
        for step in x:
            out, state = model(step, state)
            spikes.append(out)

    Its parameters are **copies**, divided by ``Δt/τ = 1 − β``, by which norse multiplies the input of its neurons.
    Spikes are equal up to rounding (:func:`from_norse`). A decay that learns stays at its value. Rules and denominators
    belong to training and are left out; nested containers are opened.

    Args:
        net: the network.
        dt: time step in seconds, which fixes ``τ = dt / (1 − β)``; the spikes do not depend on it.

    Raises:
        UserError: with the name of the layer and the reason, for a layer that norse does not have.
    """
    seconds = as_number(dt)
    if seconds is None or not 0 < seconds < float("inf"):
        raise UserError(f"dt must be a finite number of seconds above 0, got {dt!r}")
    dt = seconds
    norse = peer("norse.torch")
    chain = graph.chain(net)
    check_once(chain)
    check_unshared(chain)
    tensors = Tensors(copy=True)
    converted: Chain = []
    for name, layer in chain:
        if not graph.is_neuron(layer):
            converted.append((name, to_torch(name, layer, tensors, "norse")))
            continue
        cell, gain = _cell(name, layer, dt, converted)
        if not _all(gain == 1):
            scale_input(converted, 1 / gain, name, layer)
        converted.append((name, cell))
    return norse.SequentialState(*(layer for _, layer in converted)).train(net.training)


def _number(value: Constant) -> Tensor:
    """Return a constant for norse: one number in float64, constants of each neuron in float32.

    One number is rounded once, to the dtype of the membrane that it meets; float64 tensors would make membranes wider.
    """
    return value.to(torch.float32) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _cell(name: str, layer: torch.nn.Module, dt: float, before: Chain) -> tuple[torch.nn.Module, Constant]:
    """Make norse's cell for ``layer``; returned with the factor by which it multiplies its input."""
    norse = peer("norse.torch")
    if type(layer) is nn.Heaviside:
        raise refusal(name, layer, "norse has no neurons without memory", "use LIF neurons")
    kind, own = type(layer), cast(Any, layer)
    if kind in (nn.ALIF, nn.RecurrentALIF):
        raise refusal(
            name, layer, "norse's neurons with adaptive thresholds (LSNN) take their input one step late",
            "use LIF, or neurons without adaptation",
        )  # fmt: skip
    if kind not in (nn.LI, nn.LIF, nn.Synaptic, nn.RecurrentLIF):
        raise refusal(name, layer, "norse has no such neurons", "use LIF, Synaptic, RecurrentLIF or LI")
    gain: Any = 1 - _wide(own.beta)
    if kind is nn.LIF and _all(gain == 0) and own.reset == "zero":
        return norse.IAFCell(norse.IAFParameters(v_th=_number(own.threshold), v_reset=_number(0.0)), dt), 1.0
    if not _all(torch.as_tensor(gain) > 0):
        raise refusal(
            name, layer, "with beta = 1 norse's neurons take no input (dt/tau = 0)",
            'use beta < 1, or for all of a layer LIF with reset="zero"',
        )  # fmt: skip
    leak: dict[str, Any] = {"tau_mem_inv": _number(gain / dt), "v_leak": _number(0.0)}
    if kind is nn.LI:
        return norse.LIBoxCell(norse.LIBoxParameters(**leak), dt=dt), gain
    fire = {**leak, "v_th": _number(own.threshold), "v_reset": _number(0.0)}
    if kind is nn.LIF:
        resets = {"zero": norse.reset_value, "immediate": norse.reset_subtract, "subtract": DelayedSubtract(own.beta)}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**fire, reset_method=resets[own.reset]), dt=dt), gain
    if own.reset != "zero":
        raise refusal(
            name, layer, f"norse's neurons with synapses or recurrence reset to a value, not by {own.reset!r}",
            'use reset="zero"',
        )  # fmt: skip
    if kind is nn.Synaptic:
        p = norse.LIFParameters(**fire, tau_syn_inv=_number((1 - _wide(own.alpha)) / dt))
        return norse.LIFCell(p, dt=dt), gain
    p = norse.LIFParameters(**fire, tau_syn_inv=_number(1 / dt))
    return _recurrent_cell(name, own, p, dt, gain, before), gain


def _wide(value: Constant) -> Any:
    return value.double() if isinstance(value, Tensor) else value


@torch.no_grad()
def _recurrent_cell(
    name: str, layer: nn.RecurrentLIF, p: Any, dt: float, gain: Constant, before: Chain
) -> torch.nn.Module:
    """Make a recurrent cell; its input weights become the identity, and a bias moves into the layer before it."""
    connections = layer.recurrent
    if type(connections) is not nn.Linear:
        raise refusal(
            f"{name}.recurrent", connections, "norse connects neurons by a dense matrix", "use nn.Linear"
        )  # fmt: skip
    if connections.bias is not None and connections.bias.any():
        dense = before[-1][1] if before else None
        if not isinstance(dense, torch.nn.Linear):
            raise refusal(
                f"{name}.recurrent", connections, "norse's recurrent cells have no bias, and no Linear stands directly "
                "in front to take it over",
                "put a Linear in front, or use nn.Linear(n, n, bias=False)",
            )  # fmt: skip
        if dense.bias is None:
            dense.bias = torch.nn.Parameter(torch.zeros_like(connections.bias))
        dense.bias.add_(connections.bias)
    weights = connections.weight
    size, rows = len(weights), gain.to(weights).unsqueeze(-1) if isinstance(gain, Tensor) else gain
    return peer("norse.torch").LIFRecurrentCell(
        size, size, p, dt=dt, autapses=True, input_weights=torch.eye(size).to(weights),
        recurrent_weights=torch.nn.Parameter(weights.detach() / rows),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class DelayedSubtract:
    """Reset method for norse: it subtracts ``θ/β`` at once, of which the decay leaves ``θ`` one step later.

    So the membrane follows ``U[t] = β U[t−1] + I[t] − θ S[t−1]``, as in :class:`spikelfp.nn.LIF` and snnTorch. norse's
    own ``reset_subtract``, ``immediate`` here, takes off ``θ`` at once, which is ``β θ`` a step later.

    Args:
        beta: decay of the neurons, ``1 − Δt/τ``, one number or one for each.
    """

    beta: Constant

    def __call__(self, z: Tensor, v: Tensor, reset: Tensor, th: Tensor) -> Tensor:
        """Return the membrane after the reset.

        Args:
            z: spikes.
            v: membrane.
            reset: value that norse would reset to; not used.
            th: threshold θ.
        """
        return v - z * (th / self.beta)


@torch.no_grad()
def scale_input(chain: Chain, gain: Constant, name: str, neurons: torch.nn.Module) -> None:
    """Multiply the output of a chain, the input of neurons, by a factor, in its last layer with weights.

    norse multiplies the input of its neurons by ``g = Δt/τ``; neurons here take it as it is. For ``g > 0``, ``g (W x +
    b)`` is ``(g W) x + g b``, and ``g`` passes through every layer with ``φ(g z) = g φ(z)`` (``passes_scale``):
    pooling, ReLU, dropout, flattening. Factors of each neuron scale the rows of ``W`` and ``b``. After a convolution
    those of a channel have to be equal, and flattening would mix them up.

    Args:
        chain: layers before the neurons.
        gain: the factor, a number or a tensor with the axes of a step of one sample.
        name: name of the neurons.
        neurons: the neurons.

    Raises:
        ConversionError: where there is no layer with weights, or a layer between it and the neurons would not pass the
            factor on.
    """
    single = not isinstance(gain, Tensor)
    for _, layer in reversed(chain):
        if isinstance(layer, _WEIGHTED) and layer._parameters.get("weight") is not None:
            rows = _rows(layer, gain)
            if rows is None:
                break
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    own = rows.to(parameter).view(-1, *[1] * (parameter.dim() - 1)) if rows.dim() else rows.item()
                    parameter.mul_(own)
            return
        if not graph.has_trait(layer, "passes_scale") or not (single or _keeps_channels(layer)):
            break
    factor = f"{gain:.6g}" if not isinstance(gain, Tensor) else brief_constant(gain)
    raise refusal(
        name, neurons, f"norse multiplies the input of its neurons by dt/tau, here a factor of {factor} that has to "
        "go into weights in front, and there are none that it reaches",
        "put a Linear or Conv2d in front of the neurons, with nothing but pooling, ReLU, dropout or flattening between"
        + ("" if single else ", no flattening where neurons have decays of their own, and one decay for each channel"),
    )  # fmt: skip


_WEIGHTED = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.LayerNorm)


def _rows(layer: Any, gain: Constant) -> Tensor | None:
    """Return factors of the outputs of a layer, one for each row of its weight or one for all; ``None`` if none fit."""
    factors = torch.as_tensor(gain, dtype=torch.float64)
    if not factors.dim():
        return factors
    if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
        fits = factors.dim() == 3 and factors.shape[1:] == (1, 1)
    else:
        fits = factors.dim() == 1 and not (isinstance(layer, torch.nn.LayerNorm) and layer.weight.dim() > 1)
    return factors.flatten() if fits and len(factors) in (1, len(layer.weight)) else None


def _keeps_channels(layer: torch.nn.Module) -> bool:
    return not isinstance(layer, torch.nn.Flatten | nn.Flatten | nn.FlattenAxes)


def check_unshared(chain: Chain) -> None:
    """Refuse weights that two layers share: each place would have to scale them by another factor."""
    owners: dict[int, str] = {}
    for name, layer in chain:
        for parameter in layer.parameters():
            if id(parameter) in owners:
                raise refusal(
                    name, layer, f"it shares weights with layer {owners[id(parameter)]!r}, and norse's factors dt/tau "
                    "would differ between them",
                    "give each of them weights of its own",
                )  # fmt: skip
            owners[id(parameter)] = name
