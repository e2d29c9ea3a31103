"""A network as a chain of layers, by name."""

from __future__ import annotations

import torch

from spikelfp.errors import UserError


def leaves(net: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """The layers of ``net`` in the order they run, with their dotted names; nested containers are opened.

    Raises :class:`~spikelfp.errors.UserError` for a network that is no ``Sequential``, since only there the order
    is known, and for a layer that stands in two places.
    """
    if not isinstance(net, torch.nn.Sequential):
        raise UserError(f"only a Sequential network can be exported, got {type(net).__name__}")
    seen: dict[torch.nn.Module, str] = {}
    for name, layer in net.named_modules(remove_duplicate=False):
        if layer in seen:
            raise UserError(f"layers {seen[layer]!r} and {name!r} are one object: give each place a layer of its own")
        seen[layer] = name
    found: list[tuple[str, torch.nn.Module]] = []
    for name, child in net.named_children():
        if isinstance(child, torch.nn.Sequential):
            found += [(f"{name}.{inner}", leaf) for inner, leaf in leaves(child)]
        else:
            found.append((name, child))
    return found
