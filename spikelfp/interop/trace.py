"""The chain of layers behind a forward of the user's own, found by watching it run.

A forward that steps through time by hand, as snnTorch's tutorials write it, calls every layer once a step. Hooks
record what each call takes and returns. That the calls are a chain is not assumed but checked: the same layers in the
same order at every step, each fed with what the one before returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikelfp.errors import UserError
from spikelfp.interop.shared import Chain, kind
from spikelfp.nn import graph

AS_LIST = "hand in the layers as a list instead, from_snntorch([net.fc1, net.lif1, …])"
IsNeuron = Callable[[torch.nn.Module], bool]


@dataclass
class Call:
    """One call of a layer. ``given`` and ``returned`` are the tensors themselves, kept to know them again; values
    are copies, since a layer may work in place. membrane: of neurons, after the call."""

    name: str
    layer: torch.nn.Module
    given: Tensor
    given_value: Tensor
    returned: Tensor
    returned_value: Tensor
    membrane: Tensor | None


@dataclass
class Seen:
    """A layer of the chain, and what it took and returned at each step of the example, all ``[T, B, …]``."""

    name: str
    layer: torch.nn.Module
    given: Tensor
    returned: Tensor
    membrane: Tensor | None = None


def trace(model: torch.nn.Module, example: Any, is_neuron: IsNeuron) -> list[Seen]:
    """Run ``model`` on ``example``, its input or the tuple of all its arguments, and return its chain of layers.

    A flattening between two layers becomes a ``torch.nn.Flatten`` of the chain. ``model`` is run in evaluation mode
    and from rest, and left as it was. Raises :class:`~spikelfp.errors.UserError` where the calls are no chain.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    calls = _watch(model, arguments, is_neuron)
    order, steps = _order(calls, is_neuron)
    found: list[Seen] = []
    text, sources = "the example", _readings(arguments, steps)
    for k, (name, layer) in enumerate(order):
        row = calls[k :: len(order)]
        given = torch.stack([call.given_value for call in row])
        memory = [call.given for call in row]
        source = next((values for values, own in sources if _leads_to(values, given, own, memory)), None)
        if source is None:
            raise UserError(
                f"{text} is not what goes into {name!r} ({kind(layer)}): the forward does something in between that "
                f"is not a layer, or the example is silent there; make it a layer, or {AS_LIST}"
            )
        if source.shape != given.shape:
            found.append(Seen(f"flatten_{name}", torch.nn.Flatten(), source, given))
        returned = torch.stack([call.returned_value for call in row])
        membranes = [call.membrane for call in row if call.membrane is not None]
        found.append(Seen(name, layer, given, returned, torch.stack(membranes) if membranes else None))
        text, sources = f"the output of {name!r}", [(returned, [call.returned for call in row])]
    return found


Source = tuple[Tensor, "list[Tensor] | None"]
"""Values ``[T, B, …]`` that may be what the next layer takes, and the tensors they stood in, one a step."""


def _readings(arguments: Sequence[Any], steps: int) -> list[Source]:
    """The example as a sequence: the same at each step, or with time as its first or second axis."""
    x = next((argument.detach() for argument in arguments if isinstance(argument, Tensor)), None)
    if x is None:
        return []
    timed = [x.movedim(axis, 0) for axis in (0, 1) if x.dim() > axis + 1 and x.shape[axis] == steps]
    return [(sequence, None) for sequence in (x.unsqueeze(0).expand(steps, *x.shape), *timed)]


def _leads_to(values: Tensor, given: Tensor, own: list[Tensor] | None, memory: list[Tensor]) -> bool:
    """Whether ``values`` are ``given``, as they are or flattened. Zeros that are equal prove nothing, unless they
    stand in the same memory."""
    if values.dim() < 2 or values.shape[:2] != given.shape[:2]:
        return False
    flat = values.flatten(2)
    if given.shape not in (values.shape, flat.shape) or not torch.equal(flat, given.flatten(2)):
        return False
    same = own is not None and all(_start(a) == _start(b) for a, b in zip(own, memory, strict=True))
    return same or bool(given.any())


def _start(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _order(calls: Sequence[Call], is_neuron: IsNeuron) -> tuple[Chain, int]:
    """The layers of one step in the order they are called, and the number of steps."""
    times = Counter(call.name for call in calls)
    steps = next((times[call.name] for call in calls if is_neuron(call.layer)), 0)
    if steps == 0:
        raise UserError(f"the forward called no neurons on the example; {AS_LIST}")
    period = len(calls) // steps
    regular = len(calls) % steps == 0 and all(call.name == calls[k % period].name for k, call in enumerate(calls))
    if not regular or any(is_neuron(call.layer) and times[call.name] != steps for call in calls):
        counted = ", ".join(f"{name} {count}" for name, count in times.items())
        raise UserError(
            f"the forward does not call each layer once a step and in the same order (calls: {counted}); {AS_LIST}"
        )
    return [(call.name, call.layer) for call in calls[:period]], steps


def _watch(model: torch.nn.Module, arguments: tuple[Any, ...], is_neuron: IsNeuron) -> list[Call]:
    """Every call of a layer while ``model`` runs."""
    calls: list[Call] = []
    taken: list[tuple[Tensor, Tensor]] = []

    def before(name: str, given: Any) -> None:
        arguments, named = given
        tensor = arguments[0] if arguments else next(iter(named.values()))
        taken.append((tensor, tensor.detach().clone()))

    def after(call: graph.Call) -> None:
        out = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        membrane = getattr(call.layer, "mem", None) if is_neuron(call.layer) else None
        kept = None if membrane is None else membrane.detach().clone()
        calls.append(Call(call.name, call.layer, *taken[-1], out, out.detach().clone(), kept))

    devices = list(range(torch.cuda.device_count()))
    watched = graph.watching(model, after, before=before, whole=is_neuron)
    with watched, _at_rest(model, is_neuron), torch.no_grad(), torch.random.fork_rng(devices=devices):
        model(*arguments)
    return calls


@contextmanager
def _at_rest(model: torch.nn.Module, is_neuron: IsNeuron) -> Iterator[None]:
    """Within the block ``model`` is in evaluation mode and its neurons are at rest; then all is as before."""
    training = {module: module.training for module in model.modules()}
    states = [(neuron, dict(neuron._buffers)) for neuron in model.modules() if is_neuron(neuron)]
    model.eval()
    for neuron, buffers in states:
        for name in neuron._non_persistent_buffers_set:  # snnTorch's states; an empty one is made anew
            buffer = buffers[name]
            neuron._buffers[name] = None if buffer is None else buffer.new_zeros(0)
    try:
        yield
    finally:
        for neuron, buffers in states:
            neuron._buffers.update(buffers)
        for module, mode in training.items():
            module.training = mode
