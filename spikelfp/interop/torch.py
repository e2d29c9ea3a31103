"""Plain ``torch.nn`` networks as networks on sequences: :func:`convert`, and the network that it makes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate
from torch.utils._pytree import tree_leaves

from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.functional.propagation import NEURONS_INSTEAD
from spikelfp.functional.sequence import constant, is_constant, repeat
from spikelfp.interop import torch_graph
from spikelfp.interop.base import CONVERT, ConversionError, Tensors, from_torch, kind, refusal
from spikelfp.interop.torch_graph import ROOT, is_one_layer, resolve_changes_in_place, trace
from spikelfp.nn import graph
from spikelfp.nn.container import Block, Sequential, foreign_parts, package_of
from spikelfp.nn.graph import Flow, Sources
from spikelfp.nn.layer import Layer, run_layer

INPUT = ""
"""Name of the value that the network is given."""


@dataclass(frozen=True)
class Value:
    """Placeholder in the arguments of a step for the value that the step ``name`` returned."""

    name: str


@dataclass(frozen=True)
class NetworkStep:
    """One call: of a layer, or of a function on values whose steps are folded into the batch.

    Attributes:
        name: name of the value that it returns.
        layer: path of the layer, empty for a function.
        function: the function.
        arguments: its arguments, with :class:`Value` for values of earlier steps.
        options: its arguments by name.
        last: values that no later step takes.
    """

    name: str
    layer: str = ""
    function: Callable[..., Any] | None = None
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    last: tuple[str, ...] = ()


class ConvertedNetwork(Layer):
    """Network ``[T, B, …]`` to ``[T, B, …]`` that :func:`spikelfp.convert` returns.

    Args:
        layers: layers by their paths in the network that it was made from.
        steps: calls in the order they run.
        source: class of that network.
        memoryless: whether no layer keeps a state, so that an input constant in time is computed once.
    """

    described_as = "Converted"  # as checkpoints of earlier versions have it

    def __init__(self, layers: dict[str, Layer], steps: Iterable[NetworkStep], source: str, memoryless: bool) -> None:
        super().__init__()
        for path, layer in layers.items():
            _place(self, path, layer)
        self._steps, self._source, self._memoryless = tuple(steps), source, memoryless

    def forward(self, x: Tensor) -> Tensor:
        return self._go(x, None, lambda layer, given, before: (layer(given), None))[0]

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the output ``[T, B, …]`` and the states to go on from, one entry for each step of the computation."""
        return self._go(x, state, run_layer)

    def _go(self, x: Tensor, state: Any, call: Callable[[Any, Tensor, Any], tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        """Run all steps; ``call(layer, input, state)`` runs a layer, as a module with its hooks or with its state."""
        if x.dim() < 3:
            self._expect(x, 3, "[T, B, …] with at least one axis more")
        if self._memoryless and is_constant(x):
            return repeat(self._go(x[:1], None, call)[0][0], len(x)), None
        values: dict[str, Any] = {INPUT: x}
        states = []
        for step, before in zip(self._steps, state or (None,) * len(self._steps), strict=True):
            after = None
            if step.layer:
                (given,) = step.arguments
                values[step.name], after = call(self.get_submodule(step.layer), values[given.name], before)
            else:
                values[step.name] = _folded(step, values, x.shape[:2])
            states.append(after)
            for name in step.last:
                del values[name]
        (out,) = values.values()
        return out, tuple(states)

    def flow_inside(self, flow: Flow, given: Sources) -> Sources:
        """Tell which step takes the values of which."""
        values = {INPUT: given}
        for step in self._steps:
            parts = tree_leaves((step.arguments, dict(step.options)))
            taken = [values[part.name] for part in parts if isinstance(part, Value)]
            if step.layer:
                values[step.name] = flow.through(self.get_submodule(step.layer), taken[0])
            else:
                values[step.name] = flow.function(step.name, *taken)
            for name in step.last:
                del values[name]
        (out,) = values.values()
        return out

    def extra_repr(self) -> str:
        return f"from {self._source}"


def _folded(step: NetworkStep, values: dict[str, Any], lead: torch.Size) -> Any:
    """Call the function of ``step`` on its values, with steps folded into the batch: ``[T, B, …]`` as ``[T·B, …]``."""

    def take(part: Any) -> Any:
        value = values[part.name] if isinstance(part, Value) else part
        return value.flatten(0, 1) if isinstance(value, Tensor) else value

    assert step.function is not None
    out = step.function(*map_aggregate(step.arguments, take), **map_aggregate(dict(step.options), take))
    if not isinstance(out, Tensor):
        return out
    if out.dim() < 1 or len(out) != lead.numel():
        raise ShapeError(
            f"{step.name} does not keep the axis of samples: of {lead.numel()} (steps times batch) it makes "
            f"{tuple(out.shape)}"
        )
    return out.unflatten(0, lead)


def _place(root: torch.nn.Module, path: str, layer: Layer) -> None:
    """Register ``layer`` as the submodule ``path`` of ``root``, with containers on the way."""
    *containers, name = path.split(".")
    for part in containers:
        if part not in root._modules:
            root.add_module(part, torch.nn.Module())
        root = root.get_submodule(part)
    root.add_module(name, layer)


FUNCTIONS = (*torch_graph.MAPS, *torch_graph.ACTIVATIONS, "dropout")


def build(network: torch.nn.Module, graph: fx.Graph) -> ConvertedNetwork:
    """Build the network of a graph.

    Args:
        network: the network that was traced.
        graph: its graph, from :func:`~spikelfp.interop.torch_graph.trace`.

    Raises:
        UserError: naming everything that cannot be converted.
    """
    builder = _Builder(network)
    steps = builder.steps(graph)
    if builder.problems:
        raise UserError(
            f"{type(network).__name__} cannot be converted because of {'; '.join(builder.problems)}. "
            f"Layers that convert: {CONVERT}, and those of spikelfp.nn; "
            f"functions: {', '.join(sorted(FUNCTIONS))}"
        )
    memoryless = not any(isinstance(module, Layer) for module in network.modules())
    converted = ConvertedNetwork(builder.layers, steps, type(network).__name__, memoryless)
    converted.training = network.training
    return converted


def share(layer: torch.nn.Module) -> Layer:
    """Make this package's twin of a layer, with the same tables of parameters and buffers.

    ``.to(device)`` and ``.double()`` put new tensors into the table of buffers, so it is not enough to share tensors.
    """
    twin = from_torch(type(layer).__name__, layer, Tensors(copy=False))
    twin.__dict__.update(_parameters=layer._parameters, _buffers=layer._buffers, training=layer.training)
    return twin


class _Refused(Exception):
    """Refusal of a node; the text says why, if there is more to say than its name."""


class _Builder:
    """Turns one node after the other into a step; collects the layers, and the nodes that cannot be converted."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.modules = dict(network.named_modules(prefix=ROOT, remove_duplicate=False))
        self.layers: dict[str, Layer] = {}
        self.problems: list[str] = []
        self._sizes: set[fx.Node] = set()
        self._taken, self._training = {name for name, _ in network.named_children()}, network.training

    def steps(self, graph: fx.Graph) -> list[NetworkStep]:
        """Return the steps of the nodes that are calls; ``problems`` then names the nodes that cannot be converted."""
        aliased = resolve_changes_in_place(graph, self.modules)
        last, found = _last_uses(graph), list[NetworkStep]()
        for node in graph.nodes:
            try:
                if node in aliased:
                    raise _Refused("it changes in place what another value, used later, is a view of")
                call = self._call(node)
            except _Refused as refused:
                self.problems.append(f"{self._described(node)}: {refused}".removesuffix(": "))
                continue
            if call is not None:
                found.append(NetworkStep(node.name, **call, last=last[node]))
        return found

    def _call(self, node: fx.Node) -> dict[str, Any] | None:
        """Return the call of a step; ``None`` for input and output."""
        if node.op == "placeholder":
            return None
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise _Refused("it is not one tensor")
            return None
        if node.op == "get_attr":
            raise _Refused("it is used outside of layers")
        if node.op == "call_module":
            return self._module(node)
        name = torch_graph.name_of(node)
        if self._is_size(node, name):
            self._sizes.add(node)
            return _map(node)
        if name == "dropout":
            return self._dropout(node)
        if name in torch_graph.ACTIVATIONS:
            make, names = torch_graph.ACTIVATIONS[name]
            return self._own_layer(node, make(**torch_graph.options_of(node, names)))
        reason = torch_graph.objection(node, name, self._sizes) if name in torch_graph.MAPS else ""
        if name not in torch_graph.MAPS or reason:
            raise _Refused(reason)
        return _map(node)

    def _module(self, node: fx.Node) -> dict[str, Any]:
        path = str(node.target)
        name = path.removeprefix(f"{ROOT}.")
        if hasattr(ConvertedNetwork, name.split(".")[0]):
            raise _Refused("networks of spikelfp have something else of that name; rename the layer")
        return self._layer(node, name, self.modules[path])

    def _layer(self, node: fx.Node, name: str, layer: torch.nn.Module) -> dict[str, Any]:
        if not isinstance(layer, Layer) and graph.twin_of(layer) is None:
            raise _Refused
        if node.op == "call_module" and (len(node.args) + len(node.kwargs) != 1 or len(node.all_input_nodes) != 1):
            raise _Refused("it takes more than one input")
        if name not in self.layers:
            try:
                self.layers[name] = layer if isinstance(layer, Layer) else share(layer)
            except ConversionError as error:
                raise _Refused(error.reason) from error
        return {"layer": name, "arguments": (_values(node.all_input_nodes[0]),)}

    def _dropout(self, node: fx.Node) -> dict[str, Any]:
        training = node.kwargs.get("training", True)
        if training is True:
            raise _Refused("it is on in evaluation too; pass training=self.training")
        p = torch_graph.options_of(node, ("p",)).get("p", 0.5) if training == "mode" else 0.0
        return self._own_layer(node, nn.Dropout(p))

    def _own_layer(self, node: fx.Node, layer: torch.nn.Module) -> dict[str, Any]:
        """Put a layer in place of a function, in the mode of the network and under a name that no part of it has."""
        name = node.name
        while name in self._taken:
            name += "_"
        return self._layer(node, name, layer.train(self._training))

    def _is_size(self, node: fx.Node, name: str) -> bool:
        if node.op == "call_method" and name in torch_graph.SIZES:
            return True
        if node.target is getattr and node.args[1] == "shape":
            return True
        return name in torch_graph.ON_SIZES and all(source in self._sizes for source in node.all_input_nodes)

    def _described(self, node: fx.Node) -> str:
        """Describe a node in the user's terms: its name, and what it calls."""
        if node.op == "output":
            return "its output"
        path = str(node.target).removeprefix(f"{ROOT}.")
        if node.op == "call_module":
            return f"{path!r} ({kind(self.modules[str(node.target)])})"
        if node.op == "get_attr":
            return f"{path!r} (a tensor)"
        return f"{node.name!r} ({_function(node.target)})"


def _map(node: fx.Node) -> dict[str, Any]:
    options = tuple(_values(dict(node.kwargs)).items())
    return {"function": torch_graph.function_of(node), "arguments": _values(node.args), "options": options}


def _values(arguments: Any) -> Any:
    """Replace nodes in ``arguments`` by the names of their values."""

    def named(part: Any) -> Any:
        if not isinstance(part, fx.Node):
            return part
        return Value(INPUT if part.op == "placeholder" else part.name)

    return map_aggregate(arguments, named)


def _last_uses(graph: fx.Graph) -> dict[fx.Node, tuple[str, ...]]:
    """List for each node the values that no later node takes; its own, if nothing takes it."""
    found: dict[fx.Node, tuple[str, ...]] = {node: () for node in graph.nodes}
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "output":
            last = max(node.users, key=order.__getitem__, default=node)
            found[last] += (INPUT if node.op == "placeholder" else node.name,)
    return found


def _function(target: Any) -> str:
    """Name a function as a user writes it."""
    if isinstance(target, str):
        return f"Tensor.{target}"
    space = (getattr(target, "__module__", None) or "torch").replace("_operator", "operator")
    return f"{space}.{getattr(target, '__name__', target)}"


def convert(module: torch.nn.Module, example: Tensor | None = None) -> Layer:
    """Make a network on sequences: it computes at every step of ``[T, B, …]`` what ``module`` computes of ``[B, …]``.

    The network is read by symbolic tracing (``torch.fx``). Layers of ``torch.nn`` become those of :mod:`spikelfp.nn`,
    and functions between them (``+``, ``cat``, ``flatten``, ``view``, pooling, activations, …) their counterparts, so
    that a reward takes the path of the forward pass backwards. Layers of :mod:`spikelfp.nn` inside ``module`` are taken
    as they are, and their states carried; in an ``nn.Sequential`` of this package the other layers are converted.

    **Parameters and buffers are shared**: to train the network is to train ``module``, to move one to a device is to
    move the other, and the names in ``state_dict`` are the same (parameters that the forward pass does not use are left
    out). Convert ``copy.deepcopy(module)`` for a copy. Training or evaluation mode starts as it is in ``module``; after
    that each has its own.

    Args:
        module: a network of layers that run in an order that does not depend on the data, with one input.
        example: a batch ``[B, …]`` on which the outputs of both are compared in evaluation mode.

    Raises:
        UserError: naming every layer and function that cannot be converted, the reason why the forward pass cannot be
            traced (control flow that depends on data, say), or that the outputs for the example differ. For neurons of
            other packages, it names the function that converts them.
    """
    try:
        converted = _converted(module)
    except UserError:
        # Asked only now, because neurons that the forward pass leaves out do no harm.
        for name, part in foreign_parts(module):
            cure = NEURONS_INSTEAD.get(package_of(part))
            if cure is not None:
                raise refusal(
                    name or "the network itself",
                    part,
                    "spikelfp.convert reads layers of torch.nn and spikelfp.nn",
                    cure,
                ) from None
        raise
    if example is not None and not isinstance(module, Layer):
        _compare(module, converted, example)
    return converted


def _converted(module: torch.nn.Module) -> Layer:
    """Convert a network; errors give the reason that the tracer found."""
    if isinstance(module, Sequential) and next(foreign_parts(module), None) is not None:
        container = Block if isinstance(module, Block) else Sequential
        parts = container(OrderedDict((name, _converted(layer)) for name, layer in module.named_children()))
        parts.training = module.training
        return parts
    if isinstance(module, Layer):
        return module
    return share(module) if is_one_layer(module) else build(module, trace(module))


@torch.no_grad()
def _compare(module: torch.nn.Module, converted: Layer, example: Tensor) -> None:
    """Refuse a network that differs from ``module`` on ``example``, shown for one step and for two."""
    modes = {part: part.training for net in (module, converted) for part in net.modules()}
    try:
        expected, found = module.eval()(example), converted.eval()(constant(example, 2))
    finally:
        for part, mode in modes.items():
            part.training = mode
    for step in found:
        if step.shape != expected.shape or not torch.allclose(step, expected, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"the converted network gives another output for the example, of shape {tuple(step.shape)} against "
                f"{tuple(expected.shape)}: please report this network"
            )
