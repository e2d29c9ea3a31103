"""A NIR file as the chain of nodes it should be, and its neurons in our units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from hw_export.nir.dialects import DIALECTS, DT, dialect_of
from hw_export.nir.metadata import plain
from spikelfp.errors import DataError


@dataclass(frozen=True)
class Chain:
    """A graph without branches: ``nodes`` from behind its input to before its output, in the order they
    run."""

    graph: nir.NIRGraph
    nodes: tuple[tuple[str, nir.NIRNode], ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample at one step."""
        (shape,) = self.graph.input_type.values()
        return tuple(int(size) for size in shape)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the graph says of itself."""
        return plain(self.graph.metadata)

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """Its LIF nodes. :class:`~spikelfp.errors.DataError` for neurons of another kind, which simulators disagree
        on."""
        for name, node in self.nodes:
            if isinstance(node, (nir.IF, nir.CubaLIF)):
                raise DataError(
                    f"the neurons {name!r} are {type(node).__name__}: simulators are given LIF neurons only"
                )
        return tuple(neuron(name, node, self.metadata) for name, node in self.nodes if isinstance(node, nir.LIF))


@dataclass(frozen=True)
class Neuron:
    """A LIF node in the units of our neuron, ``U[t] = β V[t] + I[t]``, fires where ``U > threshold``.

    beta, threshold: float64 of ``shape``. reset: ``zero``, which is NIR's own, unless the metadata says
    ``subtract`` or ``immediate``. layer: the name of the layer it was written from, or ``None`` in a foreign file.
    """

    name: str
    shape: tuple[int, ...]
    beta: np.ndarray
    threshold: np.ndarray
    reset: str
    layer: str | None


def read_chain(path: str | Path) -> Chain:
    """Read a NIR file. :class:`~spikelfp.errors.DataError` when it is missing, broken or no chain."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no NIR file at {path}")
    try:
        graph = nir.read(path)
    except Exception as error:  # h5py and nir raise many kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a readable NIR file: {reason}") from None
    return as_chain(graph, str(path))


def as_chain(graph: nir.NIRGraph, source: str = "the NIR graph") -> Chain:
    """The nodes of ``graph`` in the order of its edges (its dictionary is alphabetical after reading)."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise DataError(
            f"{source} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, expected one of each"
        )
    after: dict[str, str] = {}
    for source_node, target in graph.edges:
        if (target, source_node) in graph.edges or source_node == target:
            raise DataError(
                f"{source} feeds back between {source_node!r} and {target!r}: simulators are given chains only"
            )
        if isinstance(graph.nodes[source_node], nir.NIRGraph):
            raise DataError(
                f"{source} holds the nested graph {source_node!r}: simulators are given chains of nodes only"
            )
        if source_node in after:
            raise DataError(f"{source} branches behind {source_node!r}: only a chain of layers can be run here")
        after[source_node] = target
    (name,), (last,) = graph.inputs, graph.outputs
    nodes = []
    while (name := after.pop(name, last)) != last:
        nodes.append((name, graph.nodes[name]))
    if after:
        raise DataError(f"{source} is no chain: {next(iter(after))!r} is not on the way from its input to its output")
    return Chain(graph, tuple(nodes))


def neuron(name: str, node: nir.LIF, graph_metadata: Mapping[str, Any]) -> Neuron:
    """``node`` in our units. :class:`~spikelfp.errors.DataError` where it is another neuron than ours."""
    if np.any(node.v_leak != 0) or np.any(node.v_reset != 0):
        raise DataError(f"the neurons {name!r} rest or reset at another membrane than 0, ours do not")
    metadata = plain(node.metadata)
    dt = float(metadata.get("dt", graph_metadata.get("dt", DT)))
    beta, threshold = (dialect_of(graph_metadata) or DIALECTS["default"]).constants(node, dt)
    return Neuron(
        name=name,
        shape=tuple(node.v_threshold.shape),
        beta=beta,
        threshold=threshold,
        reset=str(metadata.get("reset", "zero")),
        layer=metadata.get("layer"),
    )
