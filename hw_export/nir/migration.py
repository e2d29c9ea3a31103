"""Files of older versions of NIR, and slightly inconsistent ones, brought into the form of today."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np

from hw_export.nir.chain import Shape, output_shape, passed
from hw_export.nir.document import NEURONS, Document, build_graph, in_order, read_document
from spikelfp.errors import DataError


def migrate(source: str | Path | nir.NIRGraph) -> nir.NIRGraph:
    """The graph of a file that current nir rejects, mended where only one thing can be meant; ``nir.write`` stores it.

    * An edge to a node that does not exist means the one node of that graph that no edge names.
    * Shapes that count a batch of one sample (``[1, C, H, W]``) lose that axis, and a Flatten counts one less.
    * Parameters of neurons given once, shape ``[]`` or ``[1]``, are repeated to the shape of the layer.
    * A missing ``input_shape`` of a convolution or ``input_type`` of a Flatten is what arrives there.
    * An Output, or the Input of a nested graph, of another shape with as many elements takes the shape that arrives.

    What was done is listed in the metadata of the graph, ``migrated``. Values are left as they are: whether time
    constants are in seconds is for the reader to know. A graph that needs nothing comes back as it was. Raises
    :class:`~spikelfp.errors.DataError` where more than one thing could be meant.
    """
    source_name = "the NIR graph" if isinstance(source, nir.NIRGraph) else str(source)
    document = read_document(source)
    changes = mend(document, source_name)
    if changes:
        document["metadata"] = in_order(document["metadata"], {"migrated": "; ".join(changes)})
    return build_graph(document, source_name)


def mend(document: Document, source: str) -> list[str]:
    """Mend ``document`` in place; what was done, a line each."""
    changes: list[str] = []
    _edges(document, source, "", changes)
    inputs = [(name, node) for name, node in document["nodes"].items() if node["type"] == "Input"]
    if len(inputs) != 1:
        raise DataError(f"{source} has {len(inputs)} inputs, expected one")
    name, node = inputs[0]
    shape = tuple(int(size) for size in node["shape"])
    if len(shape) > 1 and shape[0] == 1 and not _takes(document, name, shape) and _takes(document, name, shape[1:]):
        shape = shape[1:]
        _without_batch(document)
        changes.append("a batch axis of 1 taken off all shapes")
    _shapes(document, name, shape, source, changes)
    return changes


def _edges(graph: Document, source: str, where: str, changes: list[str]) -> None:
    nodes, edges = graph["nodes"], graph["edges"]
    named = {name for edge in edges for name in edge}
    missing, idle = sorted(named - set(nodes)), sorted(set(nodes) - named)
    if missing:
        if len(missing) > 1 or len(idle) != 1:
            raise DataError(
                f"{source}: edges{where} name {missing[0]!r}, which does not exist, and "
                f"{len(idle)} nodes could be meant"
            )
        graph["edges"] = [tuple(idle[0] if name == missing[0] else name for name in edge) for edge in edges]
        changes.append(f"edges{where} to {missing[0]!r} lead to {idle[0]!r}")
    for name, node in nodes.items():
        if node["type"] == "NIRGraph":
            _edges(node, source, f" in {name!r}", changes)


def _takes(graph: Document, name: str, shape: Shape) -> bool:
    """Whether the nodes behind ``name``, up to the first layer of weights, take ``shape``."""
    for start, end in graph["edges"]:
        if start != name or end == name:
            continue
        node = graph["nodes"][end]
        if node["type"] in ("Affine", "Linear") and len(shape) != 1:
            return False
        if node["type"] in NEURONS:
            return all(own in ((), (1,), shape) for own in _parameter_shapes(node))
        try:
            output_shape(end, node, shape)
        except DataError:
            return False
    return True


def _without_batch(graph: Document) -> None:
    for node in graph["nodes"].values():
        kind = node["type"]
        if kind in ("Input", "Output") and len(node["shape"]) > 1 and node["shape"][0] == 1:
            node["shape"] = node["shape"][1:]
        elif kind == "Flatten":
            for key in ("start_dim", "end_dim"):
                node[key] -= node[key] > 0
        elif kind in NEURONS:
            for key in NEURONS[kind]:
                value = node[key]
                if value.ndim > 1 and value.shape[0] == 1:
                    node[key] = value[0]
        elif kind == "NIRGraph":
            _without_batch(node)


def _shapes(graph: Document, start: str, shape: Shape, source: str, changes: list[str]) -> Shape | None:
    """Carry ``shape`` from the node ``start`` along the edges and complete what does not say it; returns what arrives
    at the Output."""
    nodes, found = graph["nodes"], {start: shape}
    _complete(start, nodes[start], shape, changes)
    waiting, arrived = [start], None
    while waiting:
        before = waiting.pop(0)
        for a, b in graph["edges"]:
            if a != before or b in found:
                continue
            node, shape = nodes[b], found[before]
            if node["type"] == "NIRGraph":
                inner = [name for name, part in node["nodes"].items() if part["type"] == "Input"]
                if len(inner) != 1:
                    raise DataError(f"{source}: the subgraph {b!r} has {len(inner)} inputs, expected one")
                out = _shapes(node, inner[0], shape, source, changes)
                if out is None:
                    raise DataError(f"{source}: nothing arrives at an output of the subgraph {b!r}")
                found[b] = out
            else:
                _complete(b, node, shape, changes)
                found[b] = passed(b, node, shape)
            if node["type"] == "Output":
                arrived = shape
            waiting.append(b)
    return arrived


def _complete(name: str, node: Document, shape: Shape, changes: list[str]) -> None:
    kind = node["type"]
    if kind in ("Conv1d", "Conv2d") and node.get("input_shape") is None:
        node["input_shape"] = shape[1] if kind == "Conv1d" else np.array(shape[1:])
        changes.append(f"input_shape of {name!r} set to {list(shape[1:])}")
    elif kind == "Flatten" and not np.array_equal(node.get("input_type", ()), shape):
        node["input_type"] = np.array(shape)
        changes.append(f"input_type of {name!r} set to {list(shape)}")
    elif kind in NEURONS:
        once = [key for key in NEURONS[kind] if node[key].shape in ((), (1,)) and node[key].shape != shape]
        for key in once:
            node[key] = np.array(np.broadcast_to(node[key].reshape(()), shape))
        if once:
            what = "parameters" if len(once) == len(NEURONS[kind]) else ", ".join(once)
            changes.append(f"{what} of {name!r} repeated to {list(shape)}")
    elif kind in ("Input", "Output") and not np.array_equal(node["shape"], shape):
        if np.prod(node["shape"]) != np.prod(shape):
            raise DataError(f"the {kind} {name!r} is {np.asarray(node['shape']).tolist()}, {list(shape)} arrives there")
        node["shape"] = np.array(shape)
        changes.append(f"shape of {name!r} set to {list(shape)}")


def _parameter_shapes(node: Document) -> list[Shape]:
    return [node[key].shape for key in NEURONS[node["type"]]]
