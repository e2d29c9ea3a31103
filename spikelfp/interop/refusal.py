"""What cannot be converted is named: which layer, why, and what to do instead."""

from __future__ import annotations

import torch

from spikelfp.errors import UserError

_NAMESPACES = {"torch": "torch.nn", "spikelfp": "spikelfp.nn", "norse": "norse.torch"}


class ConversionError(UserError):
    """A layer that has no exact counterpart; the text names it, says why, and what to do.

    reason: why, and what to do, without the name.
    """

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"layer {layer} cannot be converted: {reason}")
        self.reason = reason


def kind(layer: torch.nn.Module) -> str:
    """Package and class of a layer, ``snntorch.Leaky``."""
    package = type(layer).__module__.split(".")[0]
    return f"{_NAMESPACES.get(package, package)}.{type(layer).__name__}"


def refusal(name: str, layer: torch.nn.Module, why: str, instead: str) -> ConversionError:
    """The error for the layer of that name."""
    return ConversionError(f"{name!r} ({kind(layer)})", f"{why}; {instead}")


def check_no_hooks(name: str, layer: torch.nn.Module) -> None:
    """Refuse forward hooks: they may change what a layer computes, and are not carried over."""
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise refusal(name, layer, "it has forward hooks, which may change what it computes", "remove the hooks first")
