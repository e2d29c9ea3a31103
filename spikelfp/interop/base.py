"""Parts that the conversions share: chains of layers, parameters, constants, and comparisons of outputs."""

from __future__ import annotations

import copy
import importlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import Constant, check_floor, check_margin
from spikelfp.nn import graph
from spikelfp.nn.layer import Quantizable

Chain = list[tuple[str, torch.nn.Module]]
"""Layers in the order they run, with their names in the model; a layer that runs twice is in it twice."""

_NAMESPACES = {"torch": "torch.nn", "spikelfp": "spikelfp.nn", "norse": "norse.torch"}


class ConversionError(UserError):
    """Error for a layer that has no exact counterpart; the text names it, says why, and what to do.

    Args:
        layer: its name.
        reason: why, and what to do, without the name.
    """

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"layer {layer} cannot be converted: {reason}")
        self.reason = reason


def kind(layer: torch.nn.Module) -> str:
    """Return package and class of a layer, such as ``snntorch.Leaky``."""
    package = type(layer).__module__.split(".")[0]
    return f"{_NAMESPACES.get(package, package)}.{type(layer).__name__}"


def refusal(name: str, layer: torch.nn.Module, why: str, instead: str) -> ConversionError:
    """Make the error for the layer ``name``: ``why`` it cannot be converted, and what to do ``instead``."""
    return ConversionError(f"{name!r} ({kind(layer)})", f"{why}; {instead}")


def check_credit(floor: float, margin: float) -> tuple[float, float]:
    """Return floor and margin of the neurons to come, or raise :class:`~spikelfp.errors.UserError`.

    Args:
        floor: least denominator, in units of θ.
        margin: share of θ above which a membrane earns its message.
    """
    return check_floor(floor), check_margin(margin)


def with_credit(layer: torch.nn.Module, credit: tuple[float, float]) -> None:
    """Give a layer of neurons its floor and margin; others have none.

    Args:
        layer: made by a conversion.
        credit: as of :func:`check_credit`.
    """
    if isinstance(layer, nn.Neurons):
        layer.floor, layer.margin = credit


def check_no_hooks(name: str, layer: torch.nn.Module) -> None:
    """Refuse forward hooks: they may change what a layer computes, and are not carried over."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise refusal(name, layer, "it has forward hooks, which may change what it computes", "remove the hooks first")


def peer(module: str) -> ModuleType:
    """Import ``module``, such as ``snntorch`` or ``norse.torch``.

    Raises:
        UserError: with the command that installs it.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{package} cannot be imported ({error}); it comes with pip install 'spikelfp[interop]', "
            f"or alone with pip install {package}"
        ) from error


# Constants of neurons


def constant_of(name: str, layer: torch.nn.Module, what: str, value: Any) -> Constant:
    """Read a constant of neurons: a number, or a tensor with one for each neuron.

    Args:
        name: name of the layer.
        layer: the neurons.
        what: name of the constant.
        value: the constant. Where all entries are equal, it becomes one number.

    Returns:
        A number, as the shortest decimal that its dtype stores as this number (snnTorch keeps a decay of 0.9 as the
        float32 0.89999998; in a float32 network both are the same number), or a new tensor.

    Raises:
        ConversionError: for a parameter that is to be trained, for which LFP has no rule.
    """
    tensor = torch.as_tensor(value)
    if tensor.requires_grad:
        raise refusal(
            name, layer, f"its {what} is trainable, and LFP has no rule for it",
            f"hold it at its value with layer.{what}.requires_grad_(False)",
        )  # fmt: skip
    flat = tensor.detach().flatten()
    if flat.numel() == 0:
        raise refusal(name, layer, f"its {what} is empty", "give it a value")
    return shortest(flat[0]) if bool((flat == flat[0]).all()) else tensor.detach().clone()


def number_of(name: str, layer: torch.nn.Module, what: str, value: Any) -> float:
    """Read a constant that has to be one number for all neurons of a layer.

    Raises:
        ConversionError: where it differs from neuron to neuron, or is to be trained.
    """
    found = constant_of(name, layer, what, value)
    if isinstance(found, Tensor):
        raise refusal(
            name, layer, f"its {what} differs from neuron to neuron, and here a layer has one",
            "give all neurons of the layer the same value, or split the layer",
        )  # fmt: skip
    return found


def shortest(value: Tensor) -> float:
    """Return the shortest decimal that rounds to ``value`` in its dtype."""
    if value.dtype == torch.float32:
        return float(str(value.cpu().numpy()))
    return float(value)


# Layers without memory


class Tensors:
    """Parameters and buffers on their way from a layer to its twin: shared, or with ``copy`` cloned once each."""

    def __init__(self, copy: bool) -> None:
        self.copy = copy
        self._clones: dict[int, Any] = {}
        self._kept: list[Any] = []  # ids stay unique while their tensors live

    def hand_over(self, source: torch.nn.Module, target: torch.nn.Module) -> None:
        """Give ``target`` the parameters and buffers of ``source``."""
        for name, parameter in source._parameters.items():
            target._parameters[name] = self.own(parameter)
        for name, buffer in source._buffers.items():
            target._buffers[name] = self.own(buffer)

    def own(self, tensor: Any) -> Any:
        """Return the tensor itself, or with ``copy`` its one clone."""
        if not self.copy or tensor is None:
            return tensor
        if id(tensor) not in self._clones:
            clone = tensor.detach().clone()
            if isinstance(tensor, torch.nn.Parameter):
                clone = torch.nn.Parameter(clone, tensor.requires_grad)
            self._clones[id(tensor)] = clone
            self._kept.append(tensor)
        return self._clones[id(tensor)]


def _same(layer: nn.Layer, tensors: Tensors) -> nn.Layer:
    """Return a layer of this package, or with ``copy`` its copy, which shares no tensors."""
    if not tensors.copy:
        return layer
    twin = copy.deepcopy(layer)
    for before, after in zip(layer.modules(), twin.modules(), strict=True):
        tensors.hand_over(before, after)
    return twin


def from_torch(name: str, layer: torch.nn.Module, tensors: Tensors, batch_axis: int = 0) -> nn.Layer:
    """Make this package's twin of one of torch's layers; a layer of this package stays, or is copied, as it is.

    Args:
        name: name of the layer, for errors.
        layer: torch's layer.
        tensors: hand its parameters over.
        batch_axis: axis of samples in its input: 1 where time is the first axis.

    Raises:
        ConversionError: for a layer without a twin, or with options that its twin has not.
    """
    if isinstance(layer, nn.Layer):
        return _same(layer, tensors)
    twin = graph.twin_of(layer)
    if twin is None:
        raise refusal(name, layer, "there is no such layer in spikelfp", f"layers that convert: neurons, {CONVERT}")
    check_no_hooks(name, layer)
    _check_flatten(name, layer, batch_axis)
    if getattr(layer, "return_indices", False):
        raise refusal(name, layer, "it returns indices besides its output", "use return_indices=False")
    if getattr(layer, "approximate", "none") != "none":
        raise refusal(name, layer, "spikelfp has the exact GELU only", 'use approximate="none"')
    return _twin(layer, twin, tensors)


def to_torch(name: str, layer: torch.nn.Module, tensors: Tensors, package: str) -> torch.nn.Module:
    """Make torch's twin of a layer of this package, for a model of ``package``.

    Raises:
        ConversionError: for a layer without a twin, and one with quantised weights.
    """
    kind = type(layer) if type(layer) in graph.TWINS else _THEIRS.get(type(layer))
    if kind is None:
        raise refusal(
            name, layer, f"{package} and torch have no layer that does the same",
            f"layers that convert: neurons, {CONVERT}",
        )  # fmt: skip
    if isinstance(layer, Quantizable) and layer.grid is not None:
        raise refusal(
            name, layer, "it computes with quantised weights, its parameters are those they are rounded from",
            "convert hw_export.quantize(net, 32), a copy that has the quantised weights for parameters",
        )  # fmt: skip
    return _twin(layer, kind, tensors)


_THEIRS: dict[type, type[torch.nn.Module]] = {twin: kind for kind, twin in graph.TWINS.items()}
CONVERT = ", ".join(
    sorted((kind.__name__ for kind in graph.TWINS), key=lambda name: (name not in ("Conv2d", "Linear"), name))
)
"""Names of the layers that exist on both sides."""


def _twin(layer: torch.nn.Module, kind: type[torch.nn.Module], tensors: Tensors) -> Any:
    given, names = graph.arguments(layer), graph.argument_names(kind)
    with torch.device("meta"):  # its own tensors are replaced: none are made, no random numbers drawn
        twin = kind(**{name: value for name, value in given.items() if name in names})
    tensors.hand_over(layer, twin)
    return twin


def _check_flatten(name: str, layer: torch.nn.Module, batch_axis: int) -> None:
    if isinstance(layer, torch.nn.Flatten) and (layer.start_dim, layer.end_dim) != (batch_axis + 1, -1):
        raise refusal(
            name, layer, f"it flattens axes {layer.start_dim} to {layer.end_dim}",
            f"flatten all axes after the batch, torch.nn.Flatten({batch_axis + 1})",
        )  # fmt: skip


# Chains of layers


def layer_chain(model: torch.nn.Module, opens: Callable[[torch.nn.Module], bool] = graph.in_order) -> Chain:
    """List the layers of a ``Sequential`` in order (:func:`spikelfp.nn.graph.chain`).

    Raises:
        UserError: for hooks on it or on a container inside, and where the order is not known.
    """
    for name, module in model.named_modules():
        if opens(module):
            check_no_hooks(name or "the model", module)
    return graph.chain(model, opens)


def chain_of_list(layers: Sequence[torch.nn.Module]) -> Chain:
    """Name layers that were handed in as a list by their places."""
    return layer_chain(torch.nn.Sequential(*layers))


def flat_names(layers: Iterable[tuple[str, torch.nn.Module]]) -> OrderedDict[str, torch.nn.Module]:
    """Name layers as a flat ``Sequential`` can: dots become underscores, and a name that comes again is numbered."""
    named: OrderedDict[str, torch.nn.Module] = OrderedDict()
    for dotted, layer in layers:
        name = base = dotted.replace(".", "_")
        again = 1
        while name in named:
            again += 1
            name = f"{base}_{again}"
        named[name] = layer
    return named


def check_once(chain: Chain, is_neuron: Callable[[torch.nn.Module], bool] = graph.is_neuron) -> None:
    """Refuse neurons that come twice in the chain: their two places would share one membrane."""
    times = Counter(id(layer) for _, layer in chain)
    for name, layer in chain:
        if times[id(layer)] > 1 and is_neuron(layer):
            raise refusal(
                name, layer, "it stands in the network more than once, and its places share one state",
                "make a layer of neurons of its own for each place",
            )  # fmt: skip


AS_LIST = "hand in the layers as a list instead, from_snntorch([net.fc1, net.lif1, …])"
IsNeuron = Callable[[torch.nn.Module], bool]


@dataclass
class LayerCall:
    """One call of a layer.

    Attributes:
        name: name of the layer.
        layer: the layer.
        given: its input, the tensor itself, by whose memory it is known again.
        given_value: copy of the input, since a layer may work in place.
        returned: its output, the tensor itself.
        returned_value: copy of the output.
        membrane: membrane of neurons after the call.
    """

    name: str
    layer: torch.nn.Module
    given: Tensor
    given_value: Tensor
    returned: Tensor
    returned_value: Tensor
    membrane: Tensor | None


@dataclass
class TracedLayer:
    """Layer of the chain, with its inputs and outputs at the steps of the example.

    Attributes:
        name: name of the layer.
        layer: the layer.
        given: inputs ``[T, B, …]``.
        returned: outputs ``[T, B, …]``.
        membrane: membranes ``[T, B, …]`` of neurons.
    """

    name: str
    layer: torch.nn.Module
    given: Tensor
    returned: Tensor
    membrane: Tensor | None = None


def trace(model: torch.nn.Module, example: Any, is_neuron: IsNeuron) -> list[TracedLayer]:
    """Run a model on an example, and return its chain of layers.

    A flattening between two layers becomes a ``torch.nn.Flatten`` of the chain. The model runs in evaluation mode and
    from rest, and is left as it was.

    Args:
        model: the model.
        example: its input, or the tuple of all its arguments.
        is_neuron: whether a layer is one of neurons.

    Raises:
        UserError: where the calls form no chain.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    calls = _watch(model, arguments, is_neuron)
    order, steps = _order(calls, is_neuron)
    found: list[TracedLayer] = []
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
            found.append(TracedLayer(f"flatten_{name}", torch.nn.Flatten(), source, given))
        returned = torch.stack([call.returned_value for call in row])
        membranes = [call.membrane for call in row if call.membrane is not None]
        found.append(TracedLayer(name, layer, given, returned, torch.stack(membranes) if membranes else None))
        text, sources = f"the output of {name!r}", [(returned, [call.returned for call in row])]
    return found


Source = tuple[Tensor, "list[Tensor] | None"]
"""Values ``[T, B, …]`` that may be the next layer's input, and the tensors that they came in, one a step."""


def _readings(arguments: Sequence[Any], steps: int) -> list[Source]:
    """Read the example as a sequence: the same at each step, or with time as its first or second axis."""
    x = next((argument.detach() for argument in arguments if isinstance(argument, Tensor)), None)
    if x is None:
        return []
    timed = [x.movedim(axis, 0) for axis in (0, 1) if x.dim() > axis + 1 and x.shape[axis] == steps]
    return [(sequence, None) for sequence in (x.unsqueeze(0).expand(steps, *x.shape), *timed)]


def _leads_to(values: Tensor, given: Tensor, own: list[Tensor] | None, memory: list[Tensor]) -> bool:
    """Whether ``values`` are ``given``, as they are or flattened; equal zeros count only in the same memory."""
    if values.dim() < 2 or values.shape[:2] != given.shape[:2]:
        return False
    flat = values.flatten(2)
    if given.shape not in (values.shape, flat.shape) or not torch.equal(flat, given.flatten(2)):
        return False
    same = own is not None and all(_start(a) == _start(b) for a, b in zip(own, memory, strict=True))
    return same or bool(given.any())


def _start(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _order(calls: Sequence[LayerCall], is_neuron: IsNeuron) -> tuple[Chain, int]:
    """Find the layers of one step in the order they are called, and the number of steps."""
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


def _watch(model: torch.nn.Module, arguments: tuple[Any, ...], is_neuron: IsNeuron) -> list[LayerCall]:
    """Record every call of a layer while ``model`` runs."""
    calls: list[LayerCall] = []
    taken: list[tuple[Tensor, Tensor]] = []

    def before(name: str, given: Any) -> None:
        arguments, named = given
        tensor = arguments[0] if arguments else next(iter(named.values()))
        taken.append((tensor, tensor.detach().clone()))

    def after(call: graph.Call) -> None:
        out = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        membrane = getattr(call.layer, "mem", None) if is_neuron(call.layer) else None
        kept = None if membrane is None else membrane.detach().clone()
        calls.append(LayerCall(call.name, call.layer, *taken[-1], out, out.detach().clone(), kept))

    devices = list(range(torch.cuda.device_count()))
    watched = graph.watching(model, after, before=before, whole=is_neuron)
    with watched, _at_rest(model, is_neuron), torch.no_grad(), torch.random.fork_rng(devices=devices):
        model(*arguments)
    return calls


@contextmanager
def _at_rest(model: torch.nn.Module, is_neuron: IsNeuron) -> Iterator[None]:
    """Put ``model`` into evaluation mode and its neurons to rest within the block; then all is as before."""
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
