"""Give a network another rule: for a while, or for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from spikelfp.rules.base import Rule, layers_with_rules
from spikelfp.rules.composite import Composite


def attach(net: nn.Module, rule: Rule | Composite) -> None:
    """Every layer of ``net`` follows ``rule`` from now on (a :class:`Composite` says which layer follows which)."""
    for layer, own in rule.assign(net).items():
        setattr(layer, "rule", own)  # noqa: B010  (torch types attributes of modules as tensors)


@contextmanager
def using(net: nn.Module, rule: Rule | Composite) -> Iterator[None]:
    """Within the block every layer of ``net`` follows ``rule``; after it, each has its own rule back.

    The rule of a forward pass decides its backward pass, wherever that is called.
    """
    before = {layer: layer.rule for layer in layers_with_rules(net)}
    attach(net, rule)
    try:
        yield
    finally:
        for layer, own in before.items():
            setattr(layer, "rule", own)  # noqa: B010
