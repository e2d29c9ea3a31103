"""Give a network another rule for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from spikelfp.rules.base import Rule


@contextmanager
def using(net: nn.Module, rule: Rule) -> Iterator[None]:
    """Within the block every layer of ``net`` follows ``rule``; after it, each has its own rule back.

    The rule of a forward pass decides its backward pass, wherever that is called.
    """
    layers = [layer for layer in net.modules() if isinstance(getattr(layer, "rule", None), Rule)]
    before = [layer.rule for layer in layers]
    for layer in layers:
        layer.rule = rule
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.rule = own  # type: ignore[assignment]
