"""From a traced graph to the steps of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from spikelfp import nn
from spikelfp.convert import functions
from spikelfp.convert.inplace import resolve_changes_in_place
from spikelfp.convert.network import INPUT, Converted, Step, Value
from spikelfp.convert.tracing import ROOT
from spikelfp.errors import UserError
from spikelfp.interop.shared import CONVERT, ConversionError, Tensors, from_torch, kind
from spikelfp.nn import graph
from spikelfp.nn.layer import Layer

FUNCTIONS = (*functions.MAPS, *functions.ACTIVATIONS, "dropout")


def build(network: torch.nn.Module, graph: fx.Graph) -> Converted:
    """The network of the ``graph`` that :func:`~spikelfp.convert.tracing.trace` made of ``network``.

    Raises :class:`~spikelfp.errors.UserError` that names everything that cannot be converted.
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
    converted = Converted(builder.layers, steps, type(network).__name__, memoryless)
    converted.training = network.training
    return converted


def share(layer: torch.nn.Module) -> Layer:
    """The layer of this package that has the parameters and buffers of ``layer``: the same tables of them.

    ``.to(device)`` and ``.double()`` put new tensors into the table of buffers, so it is not enough to share tensors.
    """
    twin = from_torch(type(layer).__name__, layer, Tensors(copy=False))
    twin.__dict__.update(_parameters=layer._parameters, _buffers=layer._buffers, training=layer.training)
    return twin


class _Refused(Exception):
    """A node that cannot be converted; the text says why, if there is more to say than what it is."""


class _Builder:
    """Turns one node after the other into a step; collects the layers, and what cannot be converted."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.modules = dict(network.named_modules(prefix=ROOT, remove_duplicate=False))
        self.layers: dict[str, Layer] = {}
        self.problems: list[str] = []
        self._sizes: set[fx.Node] = set()
        self._taken, self._training = {name for name, _ in network.named_children()}, network.training

    def steps(self, graph: fx.Graph) -> list[Step]:
        """The steps of the nodes that are calls; what is wrong with the others is in ``problems``."""
        aliased = resolve_changes_in_place(graph, self.modules)
        last, found = _last_uses(graph), list[Step]()
        for node in graph.nodes:
            try:
                if node in aliased:
                    raise _Refused("it changes in place what another value, used later, is a view of")
                call = self._call(node)
            except _Refused as refused:
                self.problems.append(f"{self._described(node)}: {refused}".removesuffix(": "))
                continue
            if call is not None:
                found.append(Step(node.name, **call, last=last[node]))
        return found

    def _call(self, node: fx.Node) -> dict[str, Any] | None:
        """The call of a step; nothing for input and output."""
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
        name = functions.name_of(node)
        if self._is_size(node, name):
            self._sizes.add(node)
            return _map(node)
        if name == "dropout":
            return self._dropout(node)
        if name in functions.ACTIVATIONS:
            make, names = functions.ACTIVATIONS[name]
            return self._own_layer(node, make(**functions.options_of(node, names)))
        reason = functions.objection(node, name, self._sizes) if name in functions.MAPS else ""
        if name not in functions.MAPS or reason:
            raise _Refused(reason)
        return _map(node)

    def _module(self, node: fx.Node) -> dict[str, Any]:
        path = str(node.target)
        name = path.removeprefix(f"{ROOT}.")
        if hasattr(Converted, name.split(".")[0]):
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
        p = functions.options_of(node, ("p",)).get("p", 0.5) if training == "mode" else 0.0
        return self._own_layer(node, nn.Dropout(p))

    def _own_layer(self, node: fx.Node, layer: torch.nn.Module) -> dict[str, Any]:
        """A layer in place of a function, in the mode of the network and under a name that no part of it has."""
        name = node.name
        while name in self._taken:
            name += "_"
        return self._layer(node, name, layer.train(self._training))

    def _is_size(self, node: fx.Node, name: str) -> bool:
        if node.op == "call_method" and name in functions.SIZES:
            return True
        if node.target is getattr and node.args[1] == "shape":
            return True
        return name in functions.ON_SIZES and all(source in self._sizes for source in node.all_input_nodes)

    def _described(self, node: fx.Node) -> str:
        """What a node is, in the user's terms: its name, and what it calls."""
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
    return {"function": functions.function_of(node), "arguments": _values(node.args), "options": options}


def _values(arguments: Any) -> Any:
    """``arguments`` with nodes replaced by the names of their values."""

    def named(part: Any) -> Any:
        if not isinstance(part, fx.Node):
            return part
        return Value(INPUT if part.op == "placeholder" else part.name)

    return map_aggregate(arguments, named)


def _last_uses(graph: fx.Graph) -> dict[fx.Node, tuple[str, ...]]:
    """For each node the values that nothing behind it takes; its own, if nothing does."""
    found: dict[fx.Node, tuple[str, ...]] = {node: () for node in graph.nodes}
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "output":
            last = max(node.users, key=order.__getitem__, default=node)
            found[last] += (INPUT if node.op == "placeholder" else node.name,)
    return found


def _function(target: Any) -> str:
    """A function as a user writes it."""
    if isinstance(target, str):
        return f"Tensor.{target}"
    space = (getattr(target, "__module__", None) or "torch").replace("_operator", "operator")
    return f"{space}.{getattr(target, '__name__', target)}"
