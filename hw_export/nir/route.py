"""The way from the input of a graph to its output: subgraphs opened, feedback of neurons to themselves found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import nir

from spikelfp.errors import DataError

SPIKING = (nir.LIF, nir.CubaLIF, nir.IF)
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv2d)


@dataclass(frozen=True)
class Stop:
    """A node on the way. feedback: the name and the node of the weights by which its spikes return to it."""

    name: str
    node: nir.NIRNode
    feedback: tuple[str, nir.NIRNode] | None = None


def route(graph: nir.NIRGraph, source: str) -> list[Stop]:
    """The nodes of ``graph`` behind its Input, in the order they run, up to its Output.

    Nested graphs are opened, their nodes named ``outer.inner``. Raises :class:`~spikelfp.errors.DataError` for
    branches, for feedback over more than one layer, and for nodes and edges that lead nowhere.
    """
    nodes, edges = opened(graph, source)
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
    stops = _walk(nodes, after, inputs[0], outputs[0], feedback, source)
    passed = {inputs[0], outputs[0], *feedback.values(), *(stop.name for stop in stops)}
    idle = sorted(set(nodes) - passed)
    if idle:
        raise DataError(f"{source}: {idle[0]!r} is not on the way from its input to its output")
    return stops


def opened(graph: nir.NIRGraph, source: str) -> tuple[dict[str, nir.NIRNode], list[tuple[str, str]]]:
    """Nodes and edges of ``graph`` with nested graphs in their place."""
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
            raise DataError(f"{source}: the subgraph {name!r} hands its input straight to its output: leave it out")
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
    """``edges`` with those at ``name`` led to ``firsts`` and from ``lasts``."""
    made = []
    for a, b in edges:
        made += [(start, end) for start in (lasts if a == name else [a]) for end in (firsts if b == name else [b])]
    return made


def _feedback(
    nodes: dict[str, nir.NIRNode], after: dict[str, list[str]], before: dict[str, list[str]]
) -> dict[str, str]:
    """Neurons and the weights that take their spikes and lead back to them alone."""
    return {
        start: back
        for start, node in nodes.items()
        if isinstance(node, SPIKING)
        for back in after[start]
        if isinstance(nodes[back], WEIGHTS) and after[back] == [start] and before[back] == [start]
    }


def _walk(
    nodes: dict[str, nir.NIRNode],
    after: dict[str, list[str]],
    name: str,
    last: str,
    feedback: dict[str, str],
    source: str,
) -> list[Stop]:
    stops: list[Stop] = []
    seen = {name}
    while name != last:
        ways = after[name]
        if not ways:
            raise DataError(f"{source}: {name!r} leads nowhere, so the output {last!r} is not reached")
        if len(ways) > 1:
            raise DataError(
                f"{source} branches behind {name!r} (to {', '.join(map(repr, sorted(ways)))}): only a chain of layers "
                "can be run here, with neurons that feed themselves through one layer of weights"
            )
        (name,) = ways
        if name in seen:
            raise DataError(
                f"{source} goes round in a circle at {name!r}: feedback over several layers is not run here"
            )
        seen.add(name)
        if name != last:
            back = feedback.get(name)
            stops.append(Stop(name, nodes[name], None if back is None else (back, nodes[back])))
    return stops
