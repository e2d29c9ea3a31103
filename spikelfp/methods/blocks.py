"""Blocks of a network, each of which learns by itself, without credit from the blocks after it.

A network is a chain of layers. It is cut after every layer of neurons, every activation, and every composite layer with
weights inside, such as :class:`~spikelfp.nn.Sum`. The layers between two cuts are a *block*; a block without weights
joins its neighbour. The last block holds the output layer, all others are *hidden* blocks.

:func:`cutting` runs the network with these cuts: the output of a hidden block is handed over with its graph, and goes
on into the next block without it. So nothing flows back from one block to another, and the graph of a block can be
freed before the next block runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.nn import graph
from spikelfp.nn.activation import Activation
from spikelfp.nn.graph import Call


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive layers of a network that learn together.

    Attributes:
        name: name of its last layer in the network.
        layers: its layers, in the order they run.
    """

    name: str
    layers: tuple[Module, ...]

    @property
    def end(self) -> Module:
        """Last layer; its output is the output of the block."""
        return self.layers[-1]

    def parameters(self) -> list[torch.nn.Parameter]:
        """List the parameters of its layers, each once."""
        return list({id(p): p for layer in self.layers for p in layer.parameters()}.values())


def cut(net: Module) -> list[Segment]:
    """Cut a network into blocks; the last one holds the output layer.

    Args:
        net: a ``Sequential``, torch's or ours; those inside are opened, an :class:`~spikelfp.nn.Block` is not.

    Raises:
        UserError: for a network whose layers have no known order, a layer or a weight that stands in two blocks, and a
            network without weights.
    """
    found: list[list[tuple[str, Module]]] = [[]]
    for name, layer in _chain(net, ""):
        found[-1].append((name, layer))
        if _ends(layer):
            found.append([])
    segments = [Segment(group[-1][0], tuple(layer for _, layer in group)) for group in _joined(found)]
    if not segments:
        raise UserError(f"{type(net).__name__} has no weights, so that no block of it could learn")
    _check_apart(net, segments)
    return segments


def _chain(net: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """List the layers in the order they run, with dotted names."""
    if not graph.in_order(net):
        raise UserError(
            f"layer {prefix.rstrip('.') or '(the network itself)'} ({type(net).__name__}) does not run its layers one "
            "after the other, so that it cannot be cut into blocks: put them into an nn.Sequential, or the module as "
            "one layer into an nn.Block"
        )
    for own, layer in net._modules.items():
        assert layer is not None
        if graph.in_order(layer) and not _is_block(layer):
            yield from _chain(layer, f"{prefix}{own}.")
        else:
            yield prefix + own, layer


def _is_block(layer: Module) -> bool:
    return isinstance(layer, nn.Block)


def _ends(layer: Module) -> bool:
    """Whether a block ends with this layer."""
    kind = graph.twin_of(layer) or type(layer)
    composite = any(True for _ in layer.children()) and any(True for _ in layer.parameters())
    return issubclass(kind, Activation) or graph.is_neuron(layer) or _is_block(layer) or composite


def _joined(groups: list[list[tuple[str, Module]]]) -> list[list[tuple[str, Module]]]:
    """Join groups of layers without weights with a neighbour: what acts on outputs with the group before."""
    joined: list[list[tuple[str, Module]]] = []
    carried: list[tuple[str, Module]] = []
    for number, group in enumerate(groups):
        if not group:
            continue
        last = all(not later for later in groups[number + 1 :])
        if any(True for _, layer in group for _ in layer.parameters()):
            joined.append([*carried, *group])
            carried = []
        elif joined and not carried and (last or len(group) == 1):
            joined[-1] += group
        else:
            carried += group
    if joined:
        joined[-1] += carried
    return joined


def _check_apart(net: Module, segments: list[Segment]) -> None:
    """Refuse layers and weights that stand in more than one block."""
    names = {id(p): name for name, p in net.named_parameters()}
    seen: set[int] = set()
    for segment in segments:
        own = {id(p) for p in segment.parameters()}
        if shared := own & seen:
            raise UserError(
                f"the parameter {names[shared.pop()]} is used in two blocks, which learn one by one: each block needs "
                "its own weights"
            )
        seen |= own
        if len({id(layer) for layer in segment.layers}) < len(segment.layers):
            raise UserError(f"a layer runs twice in the block that ends with {segment.name}: give it two layers")
    for number, segment in enumerate(segments):
        others = [layer for other in (*segments[:number], *segments[number + 1 :]) for layer in other.layers]
        if any(layer is segment.end for layer in others):
            raise UserError(
                f"layer {segment.name} ({type(segment.end).__name__}) runs in two blocks, of which it ends one: give "
                "each its own layer"
            )


@contextmanager
def cutting(net: Module, segments: list[Segment], teach: Callable[[Segment, Tensor], object]) -> Iterator[None]:
    """Cut the network after each hidden block while it runs within the block of ``with``.

    Calls of the network, and its ``run`` on a chunk of a sequence, are cut alike.

    Args:
        net: the network.
        segments: its blocks (:func:`cut`).
        teach: function of a hidden block and its output ``[T, B, …]``, which has the graph of this block alone. It may
            run the graph backward; the next block gets the output without a graph.
    """
    ends = {segment.end: segment for segment in segments[:-1]}

    def look(call: Call) -> Tensor:
        teach(ends[call.layer], call.outputs)
        passed_on: Tensor = call.outputs.detach()
        return passed_on

    with graph.watching_these(net, look, {segment.name: segment.end for segment in segments[:-1]}):
        yield
