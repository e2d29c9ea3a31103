"""norse models as networks of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator
from spikelfp.interop.chain import Chain, check_once, renamed
from spikelfp.interop.gain import check_unshared, scale_input
from spikelfp.interop.layers import Tensors, from_torch
from spikelfp.interop.norse_chain import norse_chain
from spikelfp.interop.norse_neurons import from_neuron, is_norse
from spikelfp.registry import check_name


def from_norse(
    model: torch.nn.Module | Sequence[torch.nn.Module], *, denominator: Denominator = "inflow"
) -> nn.Sequential:
    """The same network as an :class:`spikelfp.nn.Sequential`: ``[T, B, …]`` to the same spikes ``[T, B, …]``.

    Its parameters are **copies**: norse multiplies the input of its neurons by ``Δt/τ``, and that factor moves into
    the weights in front of them. To go back, use :func:`to_norse`.

    model: a ``norse.torch.SequentialState`` of torch's layers and norse's neurons
    (:mod:`spikelfp.interop.norse_neurons`), called step by step or, with ``Lift``, over time; one inside a ``Lift``;
    or a list of layers in the order they run.
    denominator: how the reward on a membrane is normalised (:class:`spikelfp.nn.LIF`).

    Spikes are equal up to rounding: norse sums in another order, so a membrane that comes within a few units in the
    last place of its threshold may fire in one and not in the other (of ``v_leak``, where that is far from 0). Layers
    keep their names, with dots as underscores.

    The weights shrink by ``Δt/τ``, a tenth by norse's defaults, and steps of LFP are scaled by ``|w|``: learning rates
    that suit other networks are then too small.

    Raises :class:`~spikelfp.errors.UserError`, with the name of the layer and the reason, for what cannot be
    converted.
    """
    check_name("denominator", denominator, get_args(Denominator))
    placed = norse_chain(model)
    if not placed:
        raise UserError("the model has no layers")
    chain = [(name, layer) for name, layer, _ in placed]
    check_once(chain, tuple({type(layer) for _, layer in chain if is_norse(layer)}))
    check_unshared(chain)
    tensors = Tensors(copy=True)
    converted: Chain = []
    for name, layer, timed in placed:
        if not is_norse(layer):
            converted.append((name, from_torch(name, layer, tensors, batch_axis=int(timed))))
            continue
        neurons, gain, inside = from_neuron(name, layer, denominator)
        if inside is not None:
            converted.append((f"{name}.input", inside))
        if gain != 1:
            scale_input(converted, gain, name, layer)
        converted.append((name, neurons))
    net = nn.Sequential(renamed(converted))
    return net.train(model.training if isinstance(model, torch.nn.Module) else True)
