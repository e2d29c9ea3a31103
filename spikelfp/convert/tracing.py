"""The forward pass of a network as a graph (``torch.fx``), without changes in place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from spikelfp.errors import UserError
from spikelfp.nn.layer import Layer

ROOT = "network"
"""Under which name the traced network lies; paths of its layers begin with it."""


def is_one_layer(module: torch.nn.Module) -> bool:
    """Whether ``module`` is not a network but one layer of torch's."""
    return _Tracer().is_leaf_module(module, "")


def trace(network: torch.nn.Module) -> fx.Graph:
    """The graph of ``network`` called with one input.

    Its ``dropout`` functions have ``training`` ``"mode"`` if they follow the mode of the network. Raises
    :class:`~spikelfp.errors.UserError` if it cannot be traced, or does otherwise different things when training.
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
    """A stand-in for a tensor that also records that it was changed in place; fx takes ``x += y`` for ``x + y``."""

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
