"""Layers of other packages inside a network: which of them no reward can train."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from spikelfp.errors import UserError
from spikelfp.nn.layer import Layer
from spikelfp.rules import Gradient, rules_in

SIMULATORS = ("snntorch", "norse", "spikingjelly", "sinabs", "rockpool")
"""Packages whose neurons have surrogate derivatives, which LFP does without."""


def foreign_parts(net: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Find the modules of ``net`` that no rule trains: those with parameters of their own, and neurons of simulators.

    Layers of this package, and of a user's own that derive from :class:`~spikelfp.nn.Layer`, are none.
    """
    for name, module in net.named_modules():
        own = next(module.parameters(recurse=False), None) is not None
        if not isinstance(module, Layer) and (own or type(module).__module__.partition(".")[0] in SIMULATORS):
            yield name, module


def _names(kind: type) -> set[str]:
    """The names of all classes that derive from ``kind``."""
    return {kind.__name__}.union(*map(_names, kind.__subclasses__()))


def check_native(net: torch.nn.Module) -> None:
    """Refuse a network that follows LFP rules and has parts that no rule trains.

    Raises:
        UserError: naming the first such module.
    """
    if not any(not isinstance(rule, Gradient) for rule in rules_in(net).values()):
        return
    for name, module in foreign_parts(net):
        kind = type(module)
        package, twin = kind.__module__.partition(".")[0], kind.__name__
        instead = f"spikelfp.nn.{twin}" if package == "torch" and twin in _names(Layer) else "a layer of spikelfp.nn"
        raise UserError(
            f"layer {name or '(the network itself)'} is {package}'s {twin}, which follows no LFP rule, so that no "
            f"reward would train it: put {instead} in its place, or convert the network, spikelfp.convert(net) "
            "(docs/own_layers.md for a layer of your own)"
        )
