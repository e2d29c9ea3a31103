"""What a NIR file is read as."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from hw_export.nir.dialects import dialect_of
from hw_export.nir.metadata import is_number, plain
from spikelfp import nn

OWN_NAME = re.compile(r"layer_\d+_\w+")
"""Names that :func:`~hw_export.nir.write.to_nir` gives to nodes."""


OF_INTEGERS = ("bits", "input_scale", "scale", "integer_threshold")
"""Metadata that hold for integer weights only."""


class ImportedNetwork(nn.Sequential):
    """A network read from a NIR graph: it runs, trains, quantises and exports as any other.

    Attributes:
        notes: what was assumed or done that the file does not say, a line each.
        dt: the time step, in the unit of the file's time constants; scheme: how they became decays.
        input_shape: of one sample at one step.
        metadata: of the graph, in Python's types; node_metadata: of the node that a layer was read from.
    """

    def __init__(self, layers: Mapping[str, torch.nn.Module] | None = None) -> None:
        super().__init__(OrderedDict(layers or {}))
        self.notes: tuple[str, ...] = ()
        self.dt = 0.0
        self.scheme = "euler"
        self.input_shape: tuple[int, ...] = ()
        self.metadata: dict[str, Any] = {}
        self.node_metadata: dict[str, dict[str, Any]] = {}

    @property
    def bits(self) -> int | None:
        """Bits of a weight, where the file says that they are integers."""
        return self._whole("bits")

    @property
    def input_scale(self) -> int | None:
        """Inputs are the integers ``x · input_scale``; ``None`` where the file does not say."""
        return self._whole("input_scale")

    def _whole(self, key: str) -> int | None:
        """A number of the metadata; other programs may mean something else by the word."""
        value: Any = self.metadata.get(key)
        return int(value) if is_number(value) and value == int(value) else None

    @property
    def scales(self) -> dict[str, Any]:
        """What an integer weight stands for, by layer: a number, or an array with one for each channel."""
        return {name: facts["scale"] for name, facts in self.node_metadata.items() if "scale" in facts}

    @property
    def integer_thresholds(self) -> dict[str, Any]:
        """The integer thresholds of the layers of neurons that have one."""
        key = "integer_threshold"
        return {name: facts[key] for name, facts in self.node_metadata.items() if key in facts}


def kept_names(net: torch.nn.Module) -> bool:
    """Whether ``net`` was read from a file of ours, so that its layers already bear the names of nodes."""
    if not isinstance(net, ImportedNetwork) or dialect_of(net.metadata) is None:
        return False
    return all(OWN_NAME.fullmatch(name) for name, _ in net.named_children())


def kept_metadata(net: torch.nn.Module, layer: str | None = None) -> dict[str, Any]:
    """What a file of ours said of the graph, or of a layer; nothing for other networks."""
    if not isinstance(net, ImportedNetwork) or not kept_names(net):
        return {}
    kept = plain(net.metadata if layer is None else net.node_metadata.get(layer, {}))
    if net.bits is not None and not _all_integers(net):  # trained after it was read
        kept = {key: value for key, value in kept.items() if key not in OF_INTEGERS}
    return kept


def _all_integers(net: torch.nn.Module) -> bool:
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return all(torch.equal(layer.weight, layer.weight.round()) for layer in layers)
