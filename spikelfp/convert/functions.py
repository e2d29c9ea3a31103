"""Functions between layers: which of them convert, and to what.

A *map* moves, adds or averages values of each sample; every rule sends its reward back as autograd does (v3, eq. 11),
so the function itself is called, on steps folded into the batch. An *activation* becomes a layer, which has a rule.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Node

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
"""Maps that work along axes: the arguments that name them, and their defaults."""
POOLS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
ARITHMETIC = ("add", "sub", "neg", "mul", "div", "truediv")
MAPS = (*AXES, *POOLS, *ARITHMETIC, "view", "reshape", "permute", "contiguous", "clone", "getitem")
VIEWS = ("flatten", "squeeze", "unsqueeze", "transpose", "view", "reshape", "permute", "contiguous", "getitem")
"""Maps whose result may share memory with what they are given."""

ACTIVATIONS: dict[str, tuple[type[torch.nn.Module], tuple[str, ...]]] = {
    "relu": (torch.nn.ReLU, ()),
    "leaky_relu": (torch.nn.LeakyReLU, ("negative_slope",)),
    "elu": (torch.nn.ELU, ("alpha",)),
    "silu": (torch.nn.SiLU, ()),
    "gelu": (torch.nn.GELU, ("approximate",)),
    "tanh": (torch.nn.Tanh, ()),
    "sigmoid": (torch.nn.Sigmoid, ()),
}
"""Activations as functions: the layers that do the same, and the arguments behind the input."""

SIZES = ("size", "dim")
"""Methods that ask a tensor for its shape; arithmetic with what they return is done as it stands."""
ON_SIZES = ("getitem", "add", "sub", "mul", "floordiv")

_IN_PLACE = {operator.iadd: "add", operator.isub: "sub", operator.imul: "mul", operator.itruediv: "truediv"}


def _by_function() -> dict[Any, str]:
    """The names of functions of torch and Python; those that change their argument go by the name without ``_``."""
    found: dict[Any, str] = dict(_IN_PLACE)
    for name in (*MAPS, *ACTIVATIONS, "dropout", "floordiv"):
        for space in (torch, F, operator):
            for spelling in (name, f"{name}_"):
                if hasattr(space, spelling):
                    found[getattr(space, spelling)] = name
    return found


_NAMES = _by_function()


def max_pool2d(*arguments: Any, **options: Any) -> torch.Tensor:
    """torch's own, which has no name that pickle could find."""
    return F.max_pool2d(*arguments, **options)


def name_of(node: Node) -> str:
    """The name of a function or method, the same for ``torch.relu``, ``F.relu``, ``x.relu()`` and ``x.relu_()``."""
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
    """What to call for a map: the function itself, or its like that leaves the argument as it was."""
    name = name_of(node)
    if name == "max_pool2d":
        return max_pool2d
    if node.op == "call_function" and not in_place(node):
        return node.target  # type: ignore[return-value]
    return getattr(operator, name) if node.target in _IN_PLACE else getattr(torch.Tensor, name)


def options_of(node: Node, names: tuple[str, ...]) -> dict[str, Any]:
    """The arguments behind the input, by name."""
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: given[name] for name in names if name in given}


def objection(node: Node, name: str, sizes: set[Node]) -> str:
    """Why the map must not be applied to steps folded into the batch; empty if it may. sizes: nodes that are shapes."""
    if name in AXES and not _behind_batch(_axes(node, name)):
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


def _behind_batch(axes: tuple[Any, ...]) -> bool:
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
