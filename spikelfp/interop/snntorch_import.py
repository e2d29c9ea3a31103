"""snnTorch models as networks of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import Denominator
from spikelfp.interop.chain import Chain, check_once, is_sequential, listed, opened, renamed
from spikelfp.interop.layers import Tensors, from_torch
from spikelfp.interop.refusal import refusal
from spikelfp.interop.snntorch_neurons import Options, from_neuron, neuron_classes
from spikelfp.interop.trace import AS_LIST, Seen, trace
from spikelfp.registry import check_name


def from_snntorch(
    model: torch.nn.Module | Sequence[torch.nn.Module],
    *,
    example: Tensor | tuple[Any, ...] | None = None,
    copy: bool = False,
    denominator: Denominator = "inflow",
    membrane_output: bool = False,
) -> nn.Sequential:
    """The same network as an :class:`spikelfp.nn.Sequential`: ``[T, B, …]`` to the same spikes ``[T, B, …]``.

    It **shares its parameters** with ``model``: training it trains ``model`` in place (so does moving it to another
    device, which leaves snnTorch's own constants behind: move ``model`` first). ``copy=True`` clones them.

    model: a ``torch.nn.Sequential`` of torch's layers and snnTorch's neurons (with ``init_hidden`` or without);
    a list of layers in the order they run; or any module with a forward of its own, together with
    ``example``: an input of that forward, or the tuple of all its arguments. The forward is then run once on it, in
    evaluation mode and from rest, to see which layers it calls and that they form a chain; every layer that was
    converted is compared with what it returned. Layers that the forward never calls are left out, and so is what it
    does with the spikes of the last one.
    denominator: how the reward on a membrane is normalised (:class:`spikelfp.nn.LIF`); snnTorch has none.
    membrane_output: the last neurons, with ``reset_mechanism="none"``, are read by their membrane: an
    :class:`spikelfp.nn.LI`.

    A decay that learns (``learn_beta``) is shared like a weight. Layers keep their names, with dots as underscores.
    Surrogate gradients are left behind: LFP has none. Two layers train differently, though they agree in evaluation
    mode: Dropout draws one mask a sequence, not a step, and batch norm takes its statistics over the sequence.

    Raises :class:`~spikelfp.errors.UserError`, with the name of the layer and the reason, for what cannot be
    converted, and for a forward that is no chain of layers.
    """
    check_name("denominator", denominator, get_args(Denominator))
    neurons = neuron_classes()
    seen: list[Seen] = []
    if example is not None and isinstance(model, torch.nn.Module):
        seen = trace(model, example, lambda module: isinstance(module, neurons))
        chain: Chain = [(layer.name, layer.layer) for layer in seen]
    else:
        chain = _stated(model)
    if not chain:
        raise UserError("the model has no layers")
    check_once(chain, neurons)
    last = max((k for k, (_, layer) in enumerate(chain) if isinstance(layer, neurons)), default=-1)
    if membrane_output and last != len(chain) - 1:
        raise refusal(*chain[-1], "membrane_output=True reads neurons, and it has none", "leave membrane_output out")
    tensors = Tensors(copy)
    converted = []
    for k, (name, layer) in enumerate(chain):
        if isinstance(layer, neurons):
            options = Options(tensors, denominator, membrane_output and k == last)
            converted.append((name, from_neuron(name, layer, options)))
        else:
            converted.append((name, from_torch(name, layer, tensors)))
    for before, (_, after) in zip(seen, converted, strict=bool(seen)):
        _check_same(before, after)
    net = nn.Sequential(renamed(converted))
    return net.train(model.training if isinstance(model, torch.nn.Module) else True)


def _stated(model: torch.nn.Module | Sequence[torch.nn.Module]) -> Chain:
    """The chain of a model whose order of layers is known."""
    if not isinstance(model, torch.nn.Module):
        return listed(model)
    if not is_sequential(model):
        raise UserError(
            f"{type(model).__name__} has a forward of its own, so the order of its layers is not known: add "
            f"example=…, an input of that forward, to find and check it; or {AS_LIST}"
        )
    return opened(model)


@torch.no_grad()
def _check_same(before: Seen, after: nn.Layer) -> None:
    """Refuse a layer that does not return what the user's did, given what that was given."""
    training = after.training
    result = after.eval()(before.given)
    after.train(training)
    if isinstance(after, nn.LI):
        expected = before.membrane
        assert expected is not None
    else:
        expected = before.returned
    if isinstance(after, (nn.Neurons, nn.Heaviside)):
        wrong = result != expected
    else:
        wrong = ~torch.isclose(result, expected, rtol=1e-4, atol=1e-5)
    if wrong.any():
        step = int(wrong.flatten(1).any(1).nonzero()[0, 0])
        raise refusal(
            before.name, before.layer,
            f"in the forward it returned something else: {int(wrong.sum())} of {wrong.numel()} values, from step "
            f"{step} on, differ from those of {type(after).__name__} on the same input",
            f"start the neurons from rest and leave their states alone between steps, or {AS_LIST}",
        )  # fmt: skip
