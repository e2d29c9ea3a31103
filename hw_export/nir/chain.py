"""A NIR file as the chain of nodes it should be, and its neurons in our units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from hw_export.nir.dialects import DIALECTS, DT, dialect_of
from hw_export.nir.document import build_graph, read_document
from hw_export.nir.metadata import check_metadata, plain
from hw_export.nir.route import route
from hw_export.nir.shapes import fields, passed
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
            if isinstance(node, (nir.IF, nir.CubaLIF, nir.Threshold)):
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
    """Read a NIR file whose nodes are a chain.

    Raises:
        DataError: when it is missing, broken or no chain.
    """
    return as_chain(build_graph(read_document(path), str(path)), str(path))


def as_chain(graph: nir.NIRGraph, source: str = "the NIR graph") -> Chain:
    """Put the nodes of ``graph`` in the order of its edges (its dictionary is alphabetical after reading).

    Every node is told the shapes it takes and gives, which nir 1.0 gets wrong for some convolutions.

    Raises:
        DataError: for branches, feedback, nested graphs, and shapes that do not fit.
    """
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            raise DataError(f"{source} holds the nested graph {name!r}: simulators are given chains of nodes only")
    stops = route(graph, source)
    for stop in stops:
        if stop.feedback is not None:
            raise DataError(
                f"{source} feeds back between {stop.name!r} and {stop.feedback[0]!r}: simulators are given chains only"
            )
    (start,), (end,) = graph.inputs.values(), graph.outputs.values()
    shape = tuple(int(size) for size in start.input_type["input"])
    for stop in stops:
        made = passed(stop.name, fields(stop.node), shape)
        stop.node.input_type = {"input": np.array(shape)}
        stop.node.output_type = {"output": np.array(made)}
        shape = made
    promised = np.asarray(end.output_type["output"]).tolist()
    if list(shape) != promised:
        raise DataError(f"{source} promises an output of {promised}, {list(shape)} arrives there")
    return Chain(graph, tuple((stop.name, stop.node) for stop in stops))


def neuron(name: str, node: nir.LIF, graph_metadata: Mapping[str, Any]) -> Neuron:
    """``node`` in our units. :class:`~spikelfp.errors.DataError` where it is another neuron than ours."""
    if np.any(node.v_leak != 0) or np.any(node.v_reset != 0):
        raise DataError(f"the neurons {name!r} rest or reset at another membrane than 0, ours do not")
    metadata = plain(node.metadata)
    check_metadata(metadata, "", f"the neurons {name!r}")
    dt = float(metadata.get("dt", graph_metadata.get("dt", DT)))
    beta, threshold = (dialect_of(graph_metadata) or DIALECTS["default"]).constants(node, dt)
    if not np.all(threshold > 0):
        raise DataError(f"the neurons {name!r} have a threshold of {np.min(threshold):g}, expected above 0")
    return Neuron(
        name=name,
        shape=tuple(node.v_threshold.shape),
        beta=beta,
        threshold=threshold,
        reset=str(metadata.get("reset", "zero")),
        layer=metadata.get("layer"),
    )
