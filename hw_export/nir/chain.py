"""Walks through NIR graphs: subgraphs opened, feedback found, and the shapes that every node takes and gives."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from hw_export.nir.dialects import DIALECTS, NeuronReading, dialect_of
from hw_export.nir.document import (
    NEURONS,
    Document,
    Shape,
    build_graph,
    check_metadata,
    flattened_axes,
    plain,
    read_document,
    short,
)
from spikelfp.errors import DataError

SPIKING = (nir.LIF, nir.CubaLIF, nir.IF)
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv2d)

MOST = 2**28
"""Most values of one sample at one step that a node may give; more is a mistake, or meant to fill the memory."""

NO_LAYER = {"Conv1d": "write it as a Conv2d of height 1"}
"""Nodes without a layer here, and what to do."""


@dataclass(frozen=True)
class Branch:
    """One of several ways from one node to another: weights, and perhaps a delay in front of them.

    Attributes:
        delay: name and node of the delay, or ``None``.
        name: of the weights.
        node: of the weights, an Affine or Linear.
    """

    delay: tuple[str, nir.Delay] | None
    name: str
    node: nir.NIRNode


@dataclass(frozen=True)
class ChainNode:
    """Node on the way from the input of a graph to its output.

    Attributes:
        name: of the node; nodes of nested graphs are ``outer.inner``.
        node: the node itself.
        input_shape: of one sample at one step.
        output_shape: of one sample at one step.
        feedback: name and node of the weights by which its spikes return to it, or ``None``.
        branches: weights whose outputs are summed, with delays in front; ``node`` is the weights of the first.
    """

    name: str
    node: nir.NIRNode
    input_shape: Shape
    output_shape: Shape
    feedback: tuple[str, nir.NIRNode] | None = None
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True)
class Chain:
    """A graph without branches.

    Attributes:
        graph: as it was read.
        path: its nodes between Input and Output, in the order they run.
        input_shape: of one sample at one step.
    """

    graph: nir.NIRGraph
    path: tuple[ChainNode, ...]
    input_shape: Shape

    @property
    def nodes(self) -> tuple[tuple[str, nir.NIRNode], ...]:
        """Names and nodes, in the order they run."""
        return tuple((place.name, place.node) for place in self.path)

    def steps(self, name: str, delay: nir.Delay) -> np.ndarray:
        """Convert the times of a Delay to whole steps, int64 of the shape of the node.

        Raises:
            DataError: for times that are no whole steps.
        """
        return NeuronReading(dialect_of(self.metadata), dict(self.metadata)).delay(name, delay)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the graph."""
        return plain(self.graph.metadata)

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """Its LIF nodes, in the units of :class:`spikelfp.nn.LIF`.

        Raises:
            DataError: for neurons of another kind, which simulators disagree on, or with parameters that ``nn.LIF``
                lacks.
        """
        ours = dialect_of(self.metadata) is not None
        for name, node in self.nodes:
            own = plain(node.metadata).get("neuron") if ours else None
            if own is not None or isinstance(node, (nir.IF, nir.CubaLIF, nir.Threshold)):
                kind = type(node).__name__ if own is None else short(own)
                raise DataError(f"the neurons {name!r} are {kind}: simulators are given LIF neurons only")
        return tuple(neuron(name, node, self.metadata) for name, node in self.nodes if isinstance(node, nir.LIF))


@dataclass(frozen=True)
class Neuron:
    """A LIF node in the units of :class:`spikelfp.nn.LIF`: ``U[t] = β V[t] + I[t]``, a spike where ``U > threshold``.

    Attributes:
        name: of the node.
        shape: of the layer.
        beta: decay of each neuron per step, float64 of ``shape``.
        threshold: of each neuron, float64 of ``shape``.
        reset: ``zero``, which is NIR's own, unless the metadata say ``subtract`` or ``immediate``.
        layer: name of the layer it was written from, or ``None`` in a file of another program.
    """

    name: str
    shape: Shape
    beta: np.ndarray
    threshold: np.ndarray
    reset: str
    layer: str | None


def neuron(name: str, node: nir.LIF, graph_metadata: Mapping[str, Any]) -> Neuron:
    """Read a LIF node in the units of :class:`spikelfp.nn.LIF`.

    Args:
        name: of the node.
        node: with its parameters.
        graph_metadata: of the graph, by which time step and reset are decided
            (:class:`~hw_export.nir.dialects.NeuronReading`).

    Raises:
        DataError: for a node that rests or resets at another membrane than 0, or with a threshold that is not above 0.
    """
    if np.any(node.v_leak != 0) or np.any(node.v_reset != 0):
        raise DataError(f"the neurons {name!r} rest or reset at another membrane than 0, and those of nn.LIF at 0")
    metadata = plain(node.metadata)
    check_metadata(metadata, "", f"the neurons {name!r}")
    reading = NeuronReading(dialect_of(graph_metadata), dict(graph_metadata))
    step = reading.step(name, metadata, node)
    beta, threshold = (reading.dialect or DIALECTS["default"]).constants(node, step.dt)
    if not np.all(threshold > 0):
        raise DataError(f"the neurons {name!r} have a threshold of {np.min(threshold):g}, expected above 0")
    return Neuron(
        name=name,
        shape=tuple(node.v_threshold.shape),
        beta=beta,
        threshold=threshold,
        reset=reading.reset(name, node, metadata),
        layer=metadata.get("layer"),
    )


def read_chain(path: str | Path, *, delays: bool = False) -> Chain:
    """Read a NIR file whose nodes are a chain, for simulators.

    Args:
        path: of the file.
        delays: whether there may be delays, and branches of weights with delays.

    Raises:
        DataError: when it is missing, broken or no chain.
    """
    return as_chain(build_graph(read_document(path), str(path)), str(path), delays=delays)


def as_chain(graph: nir.NIRGraph, source: str = "the NIR graph", *, delays: bool = False) -> Chain:
    """Sort the nodes of a graph by its edges, for simulators; after reading they are in alphabetical order.

    Every node is given the shapes it takes and gives, which nir 1.0 gets wrong for some convolutions.

    Args:
        graph: without branches.
        source: name of the graph in errors.
        delays: whether there may be delays, and branches of weights with delays.

    Raises:
        DataError: for branches, feedback, delays, nested graphs, and shapes that do not fit.
    """
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            raise DataError(f"{source} holds the nested graph {name!r}: simulators are given chains of nodes only")
    if not delays:
        for name, node in graph.nodes.items():
            if isinstance(node, nir.Delay):
                raise DataError(f"{source} holds the Delay {name!r}: simulators are given networks without delays only")
    chain = walk(graph, source)
    for place in chain.path:
        if place.feedback is not None:
            raise DataError(
                f"{source} feeds back between {place.name!r} and {place.feedback[0]!r}: simulators take chains only"
            )
        place.node.input_type = {"input": np.array(place.input_shape)}
        place.node.output_type = {"output": np.array(place.output_shape)}
    return chain


def walk(graph: nir.NIRGraph, source: str) -> Chain:
    """Follow a graph from its Input to its Output, with the shapes on the way.

    Nested graphs are opened, their nodes named ``outer.inner``.

    Args:
        graph: to follow.
        source: name of the graph in errors.

    Raises:
        DataError: for branches, feedback over more than one layer, nodes and edges that lead nowhere, and shapes that
            do not fit.
    """
    nodes, edges = opened(graph, source)
    for name, node in nodes.items():
        advice = NO_LAYER.get(type(node).__name__)
        if advice is not None:
            raise DataError(f"{name!r} is a {type(node).__name__}, which has no layer here: {advice}")
    inputs, outputs = ([n for n, node in nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output))
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(f"{source} has {len(inputs)} inputs and {len(outputs)} outputs, expected one of each")
    _check_ends(edges, inputs[0], outputs[0], source)
    after: dict[str, list[str]] = defaultdict(list)
    before: dict[str, list[str]] = defaultdict(list)
    for start, end in edges:
        if end in after[start]:
            raise DataError(f"{source} has the edge from {start!r} to {end!r} twice")
        after[start].append(end)
        before[end].append(start)
    feedback = _feedback(nodes, after, before)
    for name, back in feedback.items():
        after[name].remove(back)
        del after[back], before[back]
    branched = _branched(nodes, after, before)
    members = {name for ways in branched.values() for way in ways for name in (way.name, *(way.delay or ())[:1])}
    for starts, summands in branched.items():
        for start in starts:
            after[start] = [summands[0].name]
    order = _in_order(after, inputs[0], outputs[0], source)
    summed = {ways[0].name: ways for ways in branched.values()}
    idle = sorted(set(nodes) - {inputs[0], outputs[0], *feedback.values(), *members, *order})
    if idle:
        raise DataError(f"{source}: {idle[0]!r} is not on the way from its input to its output")
    first, last = (
        tuple(int(size) for size in np.atleast_1d(value))
        for value in (nodes[inputs[0]].input_type["input"], nodes[outputs[0]].output_type["output"])
    )
    if math.prod(first) > MOST:
        raise DataError(f"{source} takes an input of {list(first)}, more values a step than are read here")
    path: list[ChainNode] = []
    shape = first
    for name in order:
        weights = (feedback[name], nodes[feedback[name]]) if name in feedback else None
        path.append(_placed(name, nodes[name], shape, weights, summed.get(name, ())))
        shape = path[-1].output_shape
    if shape != last:
        raise DataError(f"{source} states an output of {list(last)}, {list(shape)} arrives there")
    return Chain(graph, tuple(path), first)


def _placed(
    name: str,
    node: nir.NIRNode,
    shape: Shape,
    feedback: tuple[str, nir.NIRNode] | None,
    branches: tuple[Branch, ...] = (),
) -> ChainNode:
    output = passed(name, fields(node), shape)
    for way in branches:
        if way.delay is not None:
            passed(way.delay[0], fields(way.delay[1]), shape)
        given = passed(way.name, fields(way.node), shape)
        if given != output:
            raise DataError(f"{name!r} gives {list(output)} and {way.name!r} {list(given)}, which are to be summed")
    if feedback is not None:
        back, weights = feedback
        returned = passed(back, fields(weights), output)
        if returned != shape:
            raise DataError(f"the feedback {back!r} gives {list(returned)}, the neurons {name!r} take {list(shape)}")
    return ChainNode(name, node, shape, output, feedback, branches)


def opened(graph: nir.NIRGraph, source: str) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Lists nodes and edges of ``graph``, with those of nested graphs in their place."""
    nodes, edges = dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges]
    for start, end in edges:
        for name in (start, end):
            if name not in nodes:
                raise DataError(f"{source}: the edge from {start!r} to {end!r} names {name!r}, which does not exist")
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            continue
        inner, inner_edges = opened(node, f"{source}, subgraph {name!r}")
        ends = [[n for n, part in inner.items() if isinstance(part, kind)] for kind in (nir.Input, nir.Output)]
        if [len(end) for end in ends] != [1, 1]:
            raise DataError(f"{source}: the subgraph {name!r} has not one input and one output")
        (first,), (last,) = ends
        _check_ends(inner_edges, first, last, f"{source}, subgraph {name!r}")
        if (first, last) in inner_edges:
            raise DataError(f"{source}: the subgraph {name!r} connects its input to its output: leave it out")
        del nodes[name]
        parts = {f"{name}.{n}": part for n, part in inner.items() if n not in (first, last)}
        clash = sorted(set(parts) & set(nodes))
        if clash:
            raise DataError(f"{source} has two nodes {clash[0]!r}, one of them in the subgraph {name!r}: rename one")
        nodes |= parts
        outer = [(name if a == name else a, b) for a, b in edges]
        firsts = [f"{name}.{b}" for a, b in inner_edges if a == first]
        lasts = [f"{name}.{a}" for a, b in inner_edges if b == last]
        edges = [(f"{name}.{a}", f"{name}.{b}") for a, b in inner_edges if a != first and b != last]
        edges += _joined(outer, name, firsts, lasts)
    return nodes, edges


def _check_ends(edges: Iterable[tuple[str, str]], first: str, last: str, source: str) -> None:
    for start, end in edges:
        if end == first or start == last:
            raise DataError(
                f"{source} has an edge from {start!r} to {end!r}: none leads into an Input or out of an Output"
            )


def _joined(edges: Iterable[tuple[str, str]], name: str, firsts: list[str], lasts: list[str]) -> list[tuple[str, str]]:
    """Connects the edges at the subgraph ``name`` to its first nodes ``firsts`` and its last nodes ``lasts``."""
    made = []
    for a, b in edges:
        made += [(start, end) for start in (lasts if a == name else [a]) for end in (firsts if b == name else [b])]
    return made


def _feedback(
    nodes: dict[str, nir.NIRNode], after: dict[str, list[str]], before: dict[str, list[str]]
) -> dict[str, str]:
    """Find neurons and the weights that take their spikes and lead back to them only."""
    return {
        start: back
        for start, node in nodes.items()
        if isinstance(node, SPIKING)
        for back in after[start]
        if isinstance(nodes[back], WEIGHTS) and after[back] == [start] and before[back] == [start]
    }


def _branched(
    nodes: dict[str, nir.NIRNode], after: dict[str, list[str]], before: dict[str, list[str]]
) -> dict[tuple[str, ...], tuple[Branch, ...]]:
    """Find weights side by side, some with delays in front, that take the same inputs and lead to the same nodes.

    Returns:
        The branches, by the nodes whose sum they take: one node, or the weights of the branches before.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for start, ways in after.items():
        if len(ways) > 1:
            groups[tuple(sorted(ways))].append(start)
    found: dict[tuple[str, ...], tuple[Branch, ...]] = {}
    for taken, starts in groups.items():
        made: list[Branch] = []
        for way in taken:
            delay, name, node = None, way, nodes[way]
            if isinstance(node, nir.Delay) and len(after[way]) == 1:
                delay, name = (way, node), after[way][0]
            if isinstance(nodes[name], (nir.Affine, nir.Linear)):
                made.append(Branch(delay, name, nodes[name]))
        apart = all(
            sorted(before[way]) == sorted(starts) and (each.delay is None or before[each.name] == [way])
            for way, each in zip(taken, made, strict=False)
        )
        ends = {tuple(sorted(after[each.name])) for each in made}
        if len(made) == len(taken) and apart and len(ends) == 1 and any(each.delay for each in made):
            found[tuple(sorted(starts))] = tuple(made)
    return found


def _in_order(after: dict[str, list[str]], name: str, last: str, source: str) -> list[str]:
    """Follow the only way from ``name`` to ``last``, without these two."""
    order: list[str] = []
    while True:
        ways = after[name]
        if not ways:
            raise DataError(f"{source}: {name!r} leads nowhere, so the output {last!r} is not reached")
        if len(ways) > 1:
            raise DataError(
                f"{source} branches after {name!r} (to {', '.join(map(repr, sorted(ways)))}): only a chain of layers "
                "can be run here, with neurons that feed themselves through one layer of weights"
            )
        (name,) = ways
        if name == last:
            return order
        if name in order:
            raise DataError(f"{source} has a loop at {name!r}: feedback over several layers is not run here")
        order.append(name)


def passed(name: str, node: Document, shape: Shape) -> Shape:
    """Carries a shape through a node, after a check against the shape that the node states.

    Raises:
        DataError: where parameters, an ``input_shape`` or an ``input_type`` are of another shape than what arrives, and
            for more than :data:`MOST` values.
    """
    kind = str(node["type"])
    if kind in NEURONS:
        own = np.asarray(node[NEURONS[kind][-1]]).shape
        if own != shape:
            raise DataError(
                f"the parameters of the {kind} {name!r} have shape {list(own)}, an input of {list(shape)} arrives "
                f"there ({', '.join(NEURONS[kind])})"
            )
    stated, arrives = {
        "Conv1d": (node.get("input_shape"), shape[1:]),
        "Conv2d": (node.get("input_shape"), shape[1:]),
        "Flatten": (node.get("input_type"), shape),
    }.get(kind, (None, shape))
    if stated is not None and not np.array_equal(np.atleast_1d(stated), arrives):
        raise DataError(
            f"{name!r} is made for an input of {np.asarray(stated).tolist()}, {list(arrives)} arrives there"
        )
    made = output_shape(name, node, shape)
    if math.prod(made) > MOST:
        raise DataError(f"the {kind} {name!r} gives {list(made)} values a step, more than is read here")
    return made


def fields(node: Any) -> Document:
    """The fields of a node, by the names that a NIR file gives them."""
    found = {"type": type(node).__name__, **vars(node)}
    if isinstance(found.get("input_type"), dict):
        found["input_type"] = found["input_type"].get("input")
    return found


def output_shape(name: str, node: Document, shape: Shape) -> Shape:
    """Compute the output shape of a node for an input of ``shape``.

    Raises:
        DataError: where it takes no such input.
    """
    kind = str(node["type"])
    if kind in NEURONS or kind in ("Input", "Output"):
        return shape
    try:
        made = _SHAPES[kind](node, shape)
    except KeyError:
        raise DataError(f"{name!r} is a {kind}, whose shape is not known here") from None
    except (ValueError, IndexError):
        made = None
    if made is None or min(made, default=1) < 1:
        raise DataError(f"the {kind} {name!r} does not take an input of {list(shape)}")
    return made


def pair(value: Any) -> tuple[int, int]:
    """Expands a parameter of two axes that is given one or two times."""
    first, second = np.broadcast_to(np.asarray(value), 2)
    return int(first), int(second)


def _affine(node: Document, shape: Shape) -> Shape | None:
    rows, columns = node["weight"].shape
    return (*shape[:-1], rows) if shape[-1] == columns else None


def _conv(axes: int) -> Callable[[Document, Shape], Shape | None]:
    def out(node: Document, shape: Shape) -> Shape | None:
        channels, inputs, *kernel = node["weight"].shape
        if len(shape) != axes + 1 or len(kernel) != axes or shape[0] != inputs * int(node["groups"]):
            return None
        if str(node["padding"]) == "same":
            return (channels, *shape[1:])
        padding = 0 if str(node["padding"]) == "valid" else node["padding"]
        return (channels, *_windows(shape[1:], kernel, node["stride"], padding, node["dilation"]))

    return out


def _pool(node: Document, shape: Shape) -> Shape | None:
    if len(shape) != 3:
        return None
    kernel, padding = pair(node["kernel_size"]), pair(node["padding"])
    if any(2 * border > width for border, width in zip(padding, kernel, strict=True)):
        return None  # a window could lie in the border only, which torch does not pool
    return (shape[0], *_windows(shape[1:], kernel, node["stride"], padding, 1))


def _windows(sizes: Sequence[int], kernel: Sequence[int], stride: Any, padding: Any, dilation: Any) -> Shape:
    axes = len(sizes)
    steps, borders, gaps = (np.broadcast_to(np.asarray(v), axes) for v in (stride, padding, dilation))
    return tuple(
        int(size + 2 * border - gap * (width - 1) - 1) // int(step) + 1
        for size, width, step, border, gap in zip(sizes, kernel, steps, borders, gaps, strict=True)
    )


def _flatten(node: Document, shape: Shape) -> Shape:
    start, end = flattened_axes(node, shape)
    return (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


_SHAPES: dict[str, Callable[[Document, Shape], Shape | None]] = {
    "Affine": _affine,
    "Linear": _affine,
    "Conv1d": _conv(1),
    "Conv2d": _conv(2),
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
}
