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
    before = {layer: own for layer in net.modules() if isinstance(own := getattr(layer, "rule", None), Rule)}
    for layer in before:
        setattr(layer, "rule", rule)  # noqa: B010  (torch types attributes of modules as tensors)
    try:
        yield
    finally:
        for layer, own in before.items():
            setattr(layer, "rule", own)  # noqa: B010
