"""Changes in place, taken out of a graph: what comes later uses the result of the change instead."""

from __future__ import annotations

import torch
from torch import fx

from spikelfp.convert.functions import VIEWS, in_place, name_of

_SAME_MEMORY = (torch.nn.Flatten, torch.nn.Identity, torch.nn.Dropout)


def resolve_changes_in_place(graph: fx.Graph, modules: dict[str, torch.nn.Module]) -> set[fx.Node]:
    """Make every later use of a value that a node changes in place a use of that node.

    modules: the layers by path. Returns the nodes for which that cannot be done: they change memory that another
    value, used later, is a view of.
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
    """Other values that may share memory with ``value``."""
    found, waiting = {value}, [value]
    while waiting:
        node = waiting.pop()
        near = [user for user in node.users if _is_view(user, modules)]
        near += [source for source in node.all_input_nodes if _is_view(node, modules)]
        waiting += [other for other in near if other not in found]
        found.update(near)
    return found - {value}
