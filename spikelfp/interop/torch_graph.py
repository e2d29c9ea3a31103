"""The forward pass of a network as a graph (``torch.fx``), and the functions that may stand in one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx
from torch.fx import Node

from spikelfp.errors import UserError
from spikelfp.nn.layer import Layer

AXES: dict[str, tuple[tuple[str, int | None], ...]] = {
    "flatten": (("start_dim", 0),),
    "mean": (("dim", None),),
    "sum": (("dim", None),),
    "squeeze": (("dim", None),),
    "unsqueeze": (("dim", None),),
    "cat": (("dim", 0),),
    "concat": (("dim", 0),),
    "transpose": (("dim0", None), ("dim1", None)),
}
"""Functions that work along axes: the arguments that name these, and their defaults."""
POOLS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
ARITHMETIC = ("add", "sub", "neg", "mul", "div", "truediv")
MAPS = (*AXES, *POOLS, *ARITHMETIC, "view", "reshape", "permute", "contiguous", "clone", "getitem")
VIEWS = ("flatten", "squeeze", "unsqueeze", "transpose", "view", "reshape", "permute", "contiguous", "getitem")
"""Functions whose result may share memory with their argument."""

ACTIVATIONS: dict[str, tuple[type[torch.nn.Module], tuple[str, ...]]] = {
    "relu": (torch.nn.ReLU, ()),
    "leaky_relu": (torch.nn.LeakyReLU, ("negative_slope",)),
    "elu": (torch.nn.ELU, ("alpha",)),
    "silu": (torch.nn.SiLU, ()),
    "gelu": (torch.nn.GELU, ("approximate",)),
    "tanh": (torch.nn.Tanh, ()),
    "sigmoid": (torch.nn.Sigmoid, ()),
}
"""Activations as functions: the layers that do the same, and the arguments after the input."""

SIZES = ("size", "dim")
"""Methods that ask a tensor for its shape; arithmetic with the result stays as it is."""
ON_SIZES = ("getitem", "add", "sub", "mul", "floordiv")

_IN_PLACE = {operator.iadd: "add", operator.isub: "sub", operator.imul: "mul", operator.itruediv: "truediv"}


def _by_function() -> dict[Any, str]:
    """Name the functions of torch and Python; those that change their argument go by the name without ``_``."""
    found: dict[Any, str] = dict(_IN_PLACE)
    for name in (*MAPS, *ACTIVATIONS, "dropout", "floordiv"):
        for space in (torch, F, operator):
            for spelling in (name, f"{name}_"):
                if hasattr(space, spelling):
                    found[getattr(space, spelling)] = name
    return found


_NAMES = _by_function()


def max_pool2d(*arguments: Any, **options: Any) -> torch.Tensor:
    """Call torch's ``max_pool2d``, which itself has no name that pickle could find."""
    return F.max_pool2d(*arguments, **options)


def name_of(node: Node) -> str:
    """Name a function or method, alike for ``torch.relu``, ``F.relu``, ``x.relu()`` and ``x.relu_()``."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    return _NAMES.get(node.target, "")


def in_place(node: Node) -> bool:
    """Whether a function or method changes its first argument."""
    if node.op == "call_method":
        return str(node.target).endswith("_")
    named = getattr(node.target, "__name__", "").endswith("_")
    return node.target in _IN_PLACE or named or bool(node.kwargs.get("inplace", False))


def function_of(node: Node) -> Callable[..., Any]:
    """Return the function to call for a node: its own, or the one that leaves the argument as it was."""
    name = name_of(node)
    if name == "max_pool2d":
        return max_pool2d
    if node.op == "call_function" and not in_place(node):
        return node.target  # type: ignore[return-value]
    return getattr(operator, name) if node.target in _IN_PLACE else getattr(torch.Tensor, name)


def options_of(node: Node, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments after the input by name."""
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: given[name] for name in names if name in given}


def objection(node: Node, name: str, sizes: set[Node]) -> str:
    """Say why a function must not be applied to steps folded into the batch; empty if it may.

    Args:
        node: the call.
        name: name of the function.
        sizes: nodes that are shapes.
    """
    if name in AXES and not _after_batch(_axes(node, name)):
        return "it works across samples, or along all axes"
    if name == "permute" and _tuple(node.args[1:])[:1] != (0,):
        return "it moves the axis of samples"
    if name == "getitem" and _tuple(node.args[1])[0] not in (slice(None), Ellipsis):
        return "it takes some of the samples"
    if name in ("view", "reshape") and not _keeps_batch(node, sizes):
        return "it does not keep the axis of samples: begin with x.size(0) or −1, and one more size"
    if name in ("mul", "div", "truediv"):
        signals = [k for k, part in enumerate(node.args) if isinstance(part, Node) and part not in sizes]
        if len(signals) > 1:
            return "it multiplies or divides two signals"
        if name != "mul" and signals != [0]:
            return "it divides by a signal"
    return ""


def _axes(node: Node, name: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = ()
    for place, (argument, default) in enumerate(AXES[name], start=1):
        positional = node.args[place] if len(node.args) > place else default
        found += _tuple(node.kwargs.get(argument, node.kwargs.get("axis", positional)))
    return found


def _after_batch(axes: tuple[Any, ...]) -> bool:
    return bool(axes) and all(isinstance(axis, int) and axis != 0 for axis in axes)


def _keeps_batch(node: Node, sizes: set[Node]) -> bool:
    shape = _tuple(node.args[1:] or node.kwargs.get("shape", ()))
    whole = len(shape) == 1 and isinstance(shape[0], Node)
    return whole or (len(shape) > 1 and (shape[0] == -1 or shape[0] in sizes))


def _tuple(value: Any) -> tuple[Any, ...]:
    """Sizes or axes given one by one or as one sequence."""
    if isinstance(value, (tuple, list)):
        return _tuple(value[0]) if len(value) == 1 and isinstance(value[0], (tuple, list)) else tuple(value)
    return (value,)


ROOT = "network"
"""Name of the traced network; paths of its layers begin with it."""


def is_one_layer(module: torch.nn.Module) -> bool:
    """Whether ``module`` is one of torch's layers, and not a network."""
    return _Tracer().is_leaf_module(module, "")


def trace(network: torch.nn.Module) -> fx.Graph:
    """Trace ``network``, called with one input, without changes in place.

    The ``dropout`` functions of the graph have ``training="mode"`` if they follow the mode of the network.

    Raises:
        UserError: if it cannot be traced, or takes another path in training than in evaluation.
    """
    with _mode(network, False):
        evaluation = _trace(network)
    with _mode(network, True):
        graph = _trace(network)
    pairs = list(zip(graph.nodes, evaluation.nodes, strict=False))
    if len(graph.nodes) != len(evaluation.nodes) or not all(_same(*pair) for pair in pairs):
        raise UserError(
            f"{type(network).__name__} cannot be converted: its forward pass is another one in training than in "
            "evaluation (dropout and BatchNorm aside), or at every call; convert the part that is the same"
        )
    for node, other in pairs:
        if node.kwargs.get("training") != other.kwargs.get("training"):
            node.update_kwarg("training", "mode")
    return graph


def _trace(network: torch.nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(_Root(network))
    except Exception as error:  # the user's own code runs here, on stand-ins for tensors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise UserError(
            f"the forward pass of {type(network).__name__} cannot be traced: {type(error).__name__}: {reason}; "
            "convert takes networks whose layers run in an order that does not depend on the data, with one input"
        ) from error


class _Root(torch.nn.Module):
    """Calls the network with one input, so that other arguments keep their defaults."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)


class _Proxy(fx.Proxy):
    """Stand-in for a tensor that also records changes in place; fx takes ``x += y`` for ``x + y``."""

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(operator.itruediv, other)

    def _in_place(self, function: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


@contextmanager
def _mode(network: torch.nn.Module, training: bool) -> Iterator[None]:
    before = {module: module.training for module in network.modules()}
    try:
        for module in before:
            module.training = training
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _same(node: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes do the same, whatever the mode of a dropout."""
    return _signature(node) == _signature(other)


def _signature(node: fx.Node) -> tuple[Any, ...]:
    options = {key: value for key, value in node.kwargs.items() if key != "training"}
    return (node.op, node.name, node.target, *(fx.node.map_arg(part, str) for part in (node.args, options)))


_SAME_MEMORY = (torch.nn.Flatten, torch.nn.Identity, torch.nn.Dropout)


def resolve_changes_in_place(graph: fx.Graph, modules: dict[str, torch.nn.Module]) -> set[fx.Node]:
    """Make every later use of a value that a node changes in place a use of that node.

    Args:
        graph: the graph, which is changed.
        modules: layers by path.

    Returns:
        Nodes for which that cannot be done: they change memory that a value used later is a view of.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    aliased = set()
    for node in graph.nodes:
        if not _changes(node, modules):
            continue
        changed = node.args[0]
        later = [user for other in _relatives(changed, modules) for user in other.users if order[user] > order[node]]
        if later:
            aliased.add(node)
        for user in list(changed.users):
            if order[user] > order[node]:
                user.replace_input_with(changed, node)
    return aliased


def _changes(node: fx.Node, modules: dict[str, torch.nn.Module]) -> bool:
    if not (node.args and isinstance(node.args[0], fx.Node)):
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    return node.op in ("call_function", "call_method") and in_place(node)


def _is_view(node: fx.Node, modules: dict[str, torch.nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _SAME_MEMORY)
    return node.op in ("call_function", "call_method") and name_of(node) in VIEWS


def _relatives(value: fx.Node, modules: dict[str, torch.nn.Module]) -> set[fx.Node]:
    """List other values that may share memory with ``value``."""
    found, waiting = {value}, [value]
    while waiting:
        node = waiting.pop()
        near = [user for user in node.users if _is_view(user, modules)]
        near += [source for source in node.all_input_nodes if _is_view(node, modules)]
        waiting += [other for other in near if other not in found]
        found.update(near)
    return found - {value}
