"""A NIR file as the chain of nodes it should be, and its neurons in our units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from hw_export.nir.dialects import DT
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
        return {key: _plain(value) for key, value in self.graph.metadata.items()}

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """Its LIF nodes."""
        return tuple(neuron(name, node, self.metadata) for name, node in self.nodes if isinstance(node, nir.LIF))


@dataclass(frozen=True)
class Neuron:
    """A LIF node in the units of our neuron, ``U[t] = β V[t] + I[t]``, fires where ``U > threshold``.

    beta, threshold: float64 of ``shape``. reset: ``zero``, which is NIR's own, unless the metadata says
    ``subtract``. layer: the name of the layer it was written from, or ``None`` in a foreign file.
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
    metadata = {key: _plain(value) for key, value in node.metadata.items()}
    dt = float(metadata.get("dt", graph_metadata.get("dt", DT)))
    leak = dt / np.asarray(node.tau, np.float64)
    return Neuron(
        name=name,
        shape=tuple(node.v_threshold.shape),
        beta=1.0 - leak,
        threshold=node.v_threshold / (node.r * leak),
        reset=str(metadata.get("reset", "zero")),
        layer=metadata.get("layer"),
    )


def _plain(value: Any) -> Any:
    """Metadata as read from HDF5: text comes back as bytes, numbers as numpy scalars."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
