"""Networks of this package as norse models."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.interop.chain import Chain, check_once, layers_of
from spikelfp.interop.gain import check_unshared, scale_input
from spikelfp.interop.layers import Tensors, to_torch
from spikelfp.interop.norse_reset import DelayedSubtract
from spikelfp.interop.peers import peer
from spikelfp.interop.refusal import refusal
from spikelfp.nn.neurons.base import check_one_number

NEURONS = (nn.Neurons, nn.Heaviside, nn.LI)


def to_norse(net: torch.nn.Module, *, dt: float = 0.001) -> Any:
    """The same network as a ``norse.torch.SequentialState`` of torch's layers and norse's cells, with the same spikes.

    Call it once a step with ``[B, …]``::

        state, spikes = None, []
        for step in x:
            out, state = model(step, state)
            spikes.append(out)

    Its parameters are **copies**, divided by ``Δt/τ = 1 − β``, by which norse multiplies the input of its neurons.
    dt: the time step in seconds, which fixes ``τ = dt / (1 − β)``; the spikes do not depend on it. Spikes are equal up
    to rounding (:func:`from_norse`). A decay that learns stays at its value. Rules and denominators belong to training
    and stay behind; nested containers are opened.

    Raises :class:`~spikelfp.errors.UserError`, with the name of the layer and the reason, for what norse does not have.
    """
    if not isinstance(dt, Real) or isinstance(dt, bool) or not 0 < dt < float("inf"):
        raise UserError(f"dt must be a finite number of seconds above 0, got {dt!r}")
    norse = peer("norse.torch")
    chain = layers_of(net)
    check_once(chain, NEURONS)
    check_unshared(chain)
    tensors = Tensors(copy=True)
    converted: Chain = []
    for name, layer in chain:
        if not isinstance(layer, NEURONS):
            converted.append((name, to_torch(name, layer, tensors, "norse")))
            continue
        cell, gain = _cell(name, layer, dt, converted)
        if gain != 1:
            scale_input(converted, 1 / gain, name, layer)
        converted.append((name, cell))
    return norse.SequentialState(*(layer for _, layer in converted)).train(net.training)


def _number(value: float) -> Tensor:
    """A constant of norse's, in float64: it is rounded once, to the dtype of the membrane it meets."""
    return torch.tensor(value, dtype=torch.float64)


def _cell(name: str, layer: torch.nn.Module, dt: float, before: Chain) -> tuple[torch.nn.Module, float]:
    """norse's cell for ``layer``, and the factor by which it multiplies its input."""
    check_one_number(name, layer, "norse's neurons are written with")
    norse = peer("norse.torch")
    if isinstance(layer, nn.Heaviside):
        raise refusal(name, layer, "norse has no neurons without memory", "use LIF neurons")
    if type(layer) not in (nn.LI, nn.LIF, nn.Synaptic, nn.RecurrentLIF):
        raise refusal(name, layer, "norse has no such neurons", "use LIF, Synaptic, RecurrentLIF or LI")
    assert isinstance(layer, (nn.LI, nn.Neurons))
    gain = 1 - layer.beta
    if isinstance(layer, nn.LIF) and gain == 0 and layer.reset == "zero":
        return norse.IAFCell(norse.IAFParameters(v_th=_number(layer.threshold), v_reset=_number(0.0)), dt), 1.0
    if gain == 0:
        raise refusal(
            name, layer, "with beta = 1 norse's neurons take no input (dt/tau = 0)",
            'use beta < 1, or LIF with reset="zero"',
        )  # fmt: skip
    leak: dict[str, Any] = {"tau_mem_inv": _number(gain / dt), "v_leak": _number(0.0)}
    if isinstance(layer, nn.LI):
        return norse.LIBoxCell(norse.LIBoxParameters(**leak), dt=dt), gain
    fire = {**leak, "v_th": _number(layer.threshold), "v_reset": _number(0.0)}
    if isinstance(layer, nn.LIF):
        resets = {"zero": norse.reset_value, "immediate": norse.reset_subtract, "subtract": DelayedSubtract(layer.beta)}
        return norse.LIFBoxCell(norse.LIFBoxParameters(**fire, reset_method=resets[layer.reset]), dt=dt), gain
    if layer.reset != "zero":
        raise refusal(
            name, layer, f"norse's neurons with synapses or recurrence reset to a value, not by {layer.reset!r}",
            'use reset="zero"',
        )  # fmt: skip
    if isinstance(layer, nn.Synaptic):
        p = norse.LIFParameters(**fire, tau_syn_inv=_number((1 - layer.alpha) / dt))
        return norse.LIFCell(p, dt=dt), gain
    assert isinstance(layer, nn.RecurrentLIF)
    p = norse.LIFParameters(**fire, tau_syn_inv=_number(1 / dt))
    return _recurrent_cell(name, layer, p, dt, gain, before), gain


@torch.no_grad()
def _recurrent_cell(
    name: str, layer: nn.RecurrentLIF, p: Any, dt: float, gain: float, before: Chain
) -> torch.nn.Module:
    """norse's cell holds input weights too, and no bias: these become the identity, the bias goes in front."""
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
    size = len(weights)
    return peer("norse.torch").LIFRecurrentCell(
        size, size, p, dt=dt, autapses=True, input_weights=torch.eye(size).to(weights),
        recurrent_weights=torch.nn.Parameter(weights.detach() / gain),
    )  # fmt: skip
