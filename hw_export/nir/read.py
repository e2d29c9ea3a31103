"""Networks read from NIR files, and files of older versions mended."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import nir
import numpy as np
import torch

from hw_export.layers import window
from hw_export.neurons import LIFConstants, NodeContext, Numbers, constant, export_named, standard
from hw_export.neurons.base import ARGUMENT
from hw_export.nir.chain import SPIKING, WEIGHTS, ChainNode, Shape, fields, output_shape, pair, passed, walk
from hw_export.nir.dialects import (
    DIALECTS,
    Dialect,
    Integrators,
    NeuronReading,
    Scheme,
    TimeStep,
    constants,
    dialect_of,
    readouts,
)
from hw_export.nir.document import (
    CHOSEN,
    NEURONS,
    Document,
    build_graph,
    check_integers,
    copied,
    flattened_axes,
    in_order,
    is_number,
    plain,
    read_document,
    short,
)
from spikelfp import checks, nn
from spikelfp.errors import DataError, UserError
from spikelfp.functional.lif import Reset
from spikelfp.registry import check_name, checked_keywords


def migrate(source: str | Path | nir.NIRGraph) -> nir.NIRGraph:
    """Mends a graph that current nir rejects, where only one thing can be meant; ``nir.write`` stores it.

    * An edge to a node that does not exist means the one node of that graph that no edge names.
    * Shapes that count a batch of one sample (``[1, C, H, W]``) lose that axis, and a Flatten counts one less.
    * Parameters of neurons given as one number, shape ``[]`` or ``[1]``, are repeated to the shape of the layer.
    * A missing ``input_shape`` of a convolution or ``input_type`` of a Flatten is the shape that arrives there.
    * An Output, or the Input of a nested graph, of another shape with as many elements takes the shape that arrives.

    Values are left as they are: the reader has to know whether time constants are in seconds.

    Args:
        source: path of the file, or a graph.

    Returns:
        The graph, with a list of the changes in its metadata, ``migrated``; unchanged where nothing had to be mended.

    Raises:
        DataError: where more than one thing could be meant.
    """
    source_name = "the NIR graph" if isinstance(source, nir.NIRGraph) else str(source)
    document = read_document(source)
    mend(document, source_name)
    return build_graph(document, source_name)


def mend(document: Document, source: str) -> list[str]:
    """Mend ``document`` in place and list the changes in its metadata; return them, a line each."""
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
    if changes:
        document["metadata"] = in_order(document["metadata"], {"migrated": "; ".join(changes)})
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
    """Whether the nodes after ``name``, up to the first layer of weights, take ``shape``."""
    for start, end in graph["edges"]:
        if start != name or end == name:
            continue
        node = graph["nodes"][end]
        if node["type"] in ("Affine", "Linear") and len(shape) != 1:
            return False
        if node["type"] in NEURONS:
            return all(node[key].shape in ((), (1,), shape) for key in NEURONS[node["type"]])
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
    """Carry ``shape`` from ``start`` along the edges and complete missing ones; return that of the Output."""
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
        scalars = [key for key in NEURONS[kind] if node[key].shape in ((), (1,)) and node[key].shape != shape]
        for key in scalars:
            node[key] = np.array(np.broadcast_to(node[key].reshape(()), shape))
        if scalars:
            what = "parameters" if len(scalars) == len(NEURONS[kind]) else ", ".join(scalars)
            changes.append(f"{what} of {name!r} repeated to {list(shape)}")
    elif kind in ("Input", "Output") and not np.array_equal(node["shape"], shape):
        if np.prod(node["shape"]) != np.prod(shape):
            raise DataError(f"the {kind} {name!r} is {np.asarray(node['shape']).tolist()}, {list(shape)} arrives there")
        node["shape"] = np.array(shape)
        changes.append(f"shape of {name!r} set to {list(shape)}")


Spikes = Literal["single", "multiple"]


@checked_keywords()
def from_nir(
    source: str | Path | nir.NIRGraph,
    *,
    dt: float | None = None,
    reset: Reset | None = None,
    scheme: Scheme | None = None,
    spikes: Spikes = "single",
    integrators: Integrators | None = None,
    migrate: bool = False,
) -> ImportedNetwork:
    """Read a network from a NIR file, of this package or another program, or from a graph in memory.

    A file of :func:`~hw_export.nir.to_nir` states everything: the network comes back with identical spikes, in any
    dialect. What other files leave open is decided by the arguments, and listed in ``notes`` of the result.

    It reads chains of Affine, Linear, Conv2d, SumPool2d, AvgPool2d, Flatten, Scale, Delay, Threshold, IF, LIF, CubaLIF,
    I, LI and CubaLI, neurons that feed themselves through one layer of weights, nested graphs, and kinds of neurons
    that users registered (:mod:`hw_export.neurons`). Affine or Linear nodes side by side, behind a Delay each or none,
    become a :class:`~spikelfp.nn.DelayLinear`. :mod:`hw_export.nir.dialects` has the equations. Decays and thresholds
    that differ between the neurons of a layer are vectors. Layers carry the names of their nodes, dots replaced by
    ``_``.

    Args:
        source: path of the file, or a graph.
        dt: the time step, in the unit of the file's time constants; by default that of the metadata, else 1e-4 (s).
        reset: ``zero``, NIR's own equation and the default, ``subtract`` (delayed, snnTorch's) or ``immediate``, for
            files that do not name their reset in metadata.
        scheme: ``euler``, ``β = 1 − dt/τ``, the default, or ``exact``, ``β = exp(−dt/τ)``.
        spikes: ``multiple`` lets a neuron fire as often in a step as θ can be subtracted, as sinabs and rockpool do
            (:class:`~spikelfp.nn.MultiSpikeLIF`, for inference).
        integrators: gain of ``v' = r I`` of an IF or I: ``step`` for ``r I`` a step, ``dt`` for ``dt · r I``. By
            default the one that makes it ``I``: ``step`` for ``r = 1``, ``dt`` for ``r dt = 1``; any other ``r`` needs
            the argument.
        migrate: mend files of older versions first, as :func:`~hw_export.nir.migrate` does.

    Returns:
        The network in float32, in evaluation mode and without gradients (``requires_grad_()`` makes it trainable), with
        ``notes`` and the metadata of the file.

    Raises:
        DataError: naming node and field, for a file that is broken or inconsistent (every field is checked first,
            :mod:`hw_export.nir.document`), that branches, or that has nodes or parameters for which there is no layer.
        UserError: for arguments that contradict the file.
    """
    name = "the NIR graph" if isinstance(source, nir.NIRGraph) else str(source)
    document = read_document(source)
    untouched = document
    if checks.truth("migrate", migrate):
        document = copied(document)
        mend(document, name)
    try:
        metadata = plain(document["metadata"])
        check_name("spikes", spikes, get_args(Spikes))
        reading = NeuronReading(dialect_of(metadata), metadata, dt, reset, scheme, integrators)
        return _network(build_graph(document, name), name, reading, spikes)
    except DataError as error:
        hint = "" if migrate else _hint(copied(untouched), name)
        raise DataError(f"{error}{hint}") from None


def _network(graph: nir.NIRGraph, source: str, reading: NeuronReading, spikes: Spikes) -> ImportedNetwork:
    chain = walk(graph, source)
    if reading.dialect is not None:
        check_integers(reading.metadata, f"{source}: ", "the graph")
    assembly = Assembly(reading, spikes)
    with torch.random.fork_rng(devices=[]):  # layers are made with random weights first
        for place in chain.path:
            assembly.add(place)
    net = ImportedNetwork(assembly.made)
    net.notes = tuple(reading.notes)
    if reading.metadata.get("migrated") is not None:
        net.notes += (f"migrated: {reading.metadata['migrated']}",)
    net.dt, net.scheme = reading.step_length({}), reading.used_scheme
    net.input_shape, net.metadata, net.node_metadata = chain.input_shape, reading.metadata, assembly.node_metadata
    return net.eval().requires_grad_(False)


def _hint(document: Document, source: str) -> str:
    """Write the end of an error if mending would change the file."""
    try:
        changes = mend(document, source)
    except DataError:  # a file that cannot be mended gets no hint
        return ""
    if not changes:
        return ""
    return f"; from_nir(…, migrate=True) or hw_export.nir.migrate(path) would mend: {changes[0]}"


class ImportedNetwork(nn.Sequential):
    """A network read from a NIR graph: it runs, trains, quantises and exports as any other.

    Args:
        layers: in the order they run, by name.

    Attributes:
        notes: assumptions that the file does not state, and what was done, a line each.
        dt: time step, in the unit of the file's time constants.
        scheme: how time constants became decays, ``euler`` or ``exact``.
        input_shape: of one sample at one step.
        metadata: of the graph, in Python's types.
        node_metadata: of the node that each layer was read from, by name of the layer.
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
        """Bits of a weight, where the file says that weights are integers."""
        return self._whole("bits")

    @property
    def input_scale(self) -> int | None:
        """``σ`` where inputs are the integers ``x · σ``; ``None`` where the file does not say."""
        return self._whole("input_scale")

    def _whole(self, key: str) -> int | None:
        """Return a whole number of the metadata; ``None`` for what other programs may store by that name."""
        value: Any = self.metadata.get(key)
        return int(value) if is_number(value) and value == int(value) else None

    @property
    def scales(self) -> dict[str, Any]:
        """Value of one step of an integer weight, by layer: a number, or an array with one for each channel."""
        return {name: facts["scale"] for name, facts in self.node_metadata.items() if "scale" in facts}

    @property
    def integer_thresholds(self) -> dict[str, Any]:
        """Integer thresholds of the layers of neurons that have one."""
        key = "integer_threshold"
        return {name: facts[key] for name, facts in self.node_metadata.items() if key in facts}


READOUTS = (nir.LI, nir.I, nir.CubaLI)

TAP_WEIGHTS = re.compile(r"_tap\d+_weights$")
"""End of the names that :func:`~hw_export.nir.write.to_nir` gives to the weights of a tap."""


@dataclass
class Assembly:
    """Collects the layers of a graph, node by node.

    Attributes:
        reading: decides what the file leaves open.
        spikes: ``multiple`` where neurons may fire several times in a step.
        gain: how many times too large values are after the last node, where average pooling was written as a sum.
        made: layers so far, by name.
        node_metadata: of the nodes they were read from.
    """

    reading: NeuronReading
    spikes: Spikes = "single"
    gain: int = 1
    made: OrderedDict[str, torch.nn.Module] = field(default_factory=OrderedDict)
    node_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, place: ChainNode) -> None:
        """Add the layers of one node.

        Raises:
            DataError: naming the node, if there are no layers for it.
        """
        node, name = place.node, place.name
        metadata = plain(node.metadata)
        if self.reading.dialect is not None:
            check_integers(metadata, "", f"the {type(node).__name__} {name!r}")
        if self.reading.dialect is not None and "neuron" in metadata:
            self._own(place, metadata)
        elif place.branches:
            self._branches(place)
        elif isinstance(node, WEIGHTS):
            self._append(name, node, weights(name, node, self.gain))
        elif isinstance(node, nir.Delay):
            self._append(name, node, nn.Delay(torch.from_numpy(_fewest_delays(self.reading.delay(name, node)))))
        elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            self._pool(name, node)
        elif isinstance(node, nir.Flatten):
            flat = flatten(name, node, place.input_shape)
            if flat is not None:
                self._append(name, node, flat)
        elif isinstance(node, SPIKING):
            self._spiking(place, metadata)
        elif isinstance(node, READOUTS):
            self._readout(place, metadata)
        elif isinstance(node, nir.Scale):
            self._append(name, node, nn.Scale(float32(name, "scale", node.scale)))
        elif isinstance(node, nir.Threshold):
            self._drive(place, 1.0, -np.asarray(node.threshold, np.float64) / self.gain)
            self._append(name, node, nn.Heaviside())
            self.gain = 1
        else:
            raise DataError(f"{name!r} is a {type(node).__name__}, which has no layer here: leave it out or replace it")

    def _append(self, name: str, node: nir.NIRNode | None, layer: torch.nn.Module) -> None:
        label = name.replace(".", "_") or "_"
        while label in self.made or hasattr(_EMPTY, label):  # taken by another layer, or by torch
            label += "_"
        self.made[label] = layer
        if node is not None and node.metadata:
            self.node_metadata[label] = plain(node.metadata)

    def _branches(self, place: ChainNode) -> None:
        """Add the dense layer of weights side by side, each behind a delay that is the same for all of its inputs."""
        parts: dict[int, np.ndarray] = {}
        bias: np.ndarray | None = None
        for way in place.branches:
            steps = np.zeros((), np.int64) if way.delay is None else self.reading.delay(*way.delay)
            if np.ptp(steps):
                raise DataError(
                    f"the Delay {way.delay[0] if way.delay else way.name!r} differs within a branch, from "
                    f"{int(steps.min())} to {int(steps.max())} steps, and the branches of nn.DelayLinear have one each"
                )
            delay, weight = int(steps.flat[0]), np.asarray(way.node.weight, np.float64)
            parts[delay] = parts[delay] + weight if delay in parts else weight
            if isinstance(way.node, nir.Affine):
                own = np.asarray(way.node.bias, np.float64) / self.gain
                if own.shape != (weight.shape[0],):
                    raise DataError(
                        f"the bias of {way.name!r} has shape {list(own.shape)}, expected [{weight.shape[0]}]"
                    )
                bias = own if bias is None else bias + own
        delays = tuple(parts)
        outputs, inputs = parts[delays[0]].shape
        layer = nn.DelayLinear(inputs, outputs, delays, bias is not None)
        layer.dense.weight.data = float32(place.name, "weight", np.concatenate([parts[d] for d in delays], 1))
        if bias is not None:
            layer.dense.bias.data = float32(place.name, "bias", bias)
        layer.dense.mask = self._chosen(place, layer)
        if self.reading.dialect is not None and TAP_WEIGHTS.search(place.name):
            self._append(TAP_WEIGHTS.sub("", place.name), place.node, layer)
        else:
            self._append(place.name, place.node, layer)

    def _chosen(self, place: ChainNode, layer: nn.DelayLinear) -> torch.Tensor | None:
        """Return the mask of a layer whose connections keep one delay each, as the metadata of its weights tell."""
        told = [plain(way.node.metadata).get(CHOSEN) for way in place.branches]
        if self.reading.dialect is None or all(each is None for each in told):
            return None
        shape = layer.by_tap.shape
        kept = [np.asarray(each) for each in told]
        fits = len(kept) == shape[0] and all(each.shape == shape[1:] and each.dtype.kind in "iub" for each in kept)
        mask = torch.from_numpy(np.stack(kept)).bool() if fits else None
        if mask is None or not bool((mask.sum(0) == 1).all()) or bool(layer.by_tap.detach()[~mask].any()):
            raise DataError(
                f"{CHOSEN} in the metadata of {place.name!r} and the weights beside it is not the one delay of each "
                "connection, to which its weights belong"
            )
        return mask.movedim(0, 1).flatten(1)

    def _pool(self, name: str, node: nir.SumPool2d | nir.AvgPool2d) -> None:
        ours = self.reading.dialect is not None and plain(node.metadata.get("pool")) == "average"
        pool = pooling(node, isinstance(node, nir.AvgPool2d) or ours)
        self._append(name, node, pool)
        if ours and isinstance(node, nir.SumPool2d):
            self.gain *= window(pool)

    def _drive(self, place: ChainNode, scale: Any, shift: Any) -> None:
        """Add ``scale ⊙ x + shift`` in front of neurons: in the weights there, else as a layer of its own."""
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise DataError(f"the parameters of the neurons {place.name!r} are too far apart: their quotients overflow")
        layer = elementwise(place.name, scale, shift, place.input_shape)
        if layer is None:
            return
        last = next(reversed(self.made.values()), None)
        apart = (
            self.reading.dialect is not None
        )  # layers that to_nir wrote apart stay apart, so that sums round as before
        if apart or last is None or not folded(place.name, last, scale, shift, place.input_shape):
            self._append(f"{place.name}_drive", None, layer)

    def _spiking(self, place: ChainNode, metadata: dict[str, Any]) -> None:
        node, name = place.node, place.name
        step = self.reading.step(name, metadata, node)
        found = constants(name, node, step, self.reading.dialect)
        if self.reading.dialect is not None:
            found = as_written(name, node, found, step, metadata, self.reading.dialect, self.gain)
        else:
            found = replace(found, threshold=found.threshold / self.gain, shift=found.shift / self.gain)
        reset = self.reading.reset(name, node, metadata)
        feedback = self._feedback(place, found.scale)
        self._drive(place, found.scale, found.shift)
        if self.spikes == "multiple":
            layer: torch.nn.Module = _multi_spike(name, found, reset, feedback)
        else:
            layer = standard(bool(np.any(np.asarray(found.alpha))), feedback is not None).read(found, reset, feedback)
        self._append(name, node, layer)
        self.gain = 1

    def _feedback(self, place: ChainNode, scale: Any = 1.0) -> Weights | None:
        """Read the weights by which spikes return to the neurons, times ``scale``."""
        if place.feedback is None:
            return None
        back, node = place.feedback
        layer = weights(back, node, self.gain, self.gain)
        if np.any(np.asarray(scale) != 1.0) and not folded(back, layer, scale, 0.0, place.input_shape):
            raise DataError(f"the neurons {place.name!r} differ within the channels of their feedback {back!r}")
        return layer

    def _readout(self, place: ChainNode, metadata: dict[str, Any]) -> None:
        node, name = place.node, place.name
        stages = readouts(name, node, self.reading.step(name, metadata, node))
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            beta = stage.beta
            if self.reading.dialect is not None and "beta" in metadata:
                beta = agreed(name, "beta", metadata["beta"], beta, place.input_shape)
            self._drive(place, stage.scale * self.gain, stage.shift)
            self.gain = 1
            if np.any(np.asarray(beta)):
                self._append(name if last else f"{name}_synapse", node if last else None, nn.LI(constant(beta)))

    def _own(self, place: ChainNode, metadata: dict[str, Any]) -> None:
        """Add neurons of a registered kind: made from the arguments in the metadata, and compared with the node."""
        node, name, kind = place.node, place.name, metadata["neuron"]
        export = export_named(kind) if isinstance(kind, str) else None
        if export is None:
            raise DataError(
                f"the neurons {name!r} were written from a layer {short(kind)}, whose export is not registered here: "
                "import the module that does so (hw_export.neurons.exports)"
            )
        if self.reading.chosen_reset is not None or self.spikes == "multiple":
            raise UserError(
                f"the neurons {name!r} are {export.name}, which reset and fire as their class does: leave reset and "
                "spikes out"
            )
        dialect_name = plain(self.reading.metadata["dialect"])
        dialect = DIALECTS[dialect_name]
        if self.reading.step_length(metadata) != dialect.dt:
            raise DataError(
                f"the neurons {name!r} were written for steps of {dialect.dt:g}, and the file says dt = "
                f"{self.reading.step_length(metadata):g}: it was changed after it was written"
            )
        given = {
            key.removeprefix(ARGUMENT): torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in metadata.items()
            if key.startswith(ARGUMENT)
        }
        try:
            layer = export.make(given, self._feedback(place))
        except (UserError, TypeError, ValueError) as error:
            raise DataError(f"the neurons {name!r} cannot be made from what their metadata say: {error}") from None
        at = NodeContext(name, place.input_shape, (dialect_name, dialect), self.gain)
        again = fields(export.write(layer, at))
        mine = fields(node)
        for key in again.keys() - {"metadata", "input_type", "output_type"}:
            same = mine.get(key) == again[key] if isinstance(again[key], str) else _close(mine.get(key), again[key])
            if not same:
                raise DataError(
                    f"the metadata of the neurons {name!r} say another {key} than their node: the file was changed "
                    "after it was written"
                )
        self._append(name, node, layer)
        self.gain = 1


def _close(found: Any, made: Any) -> bool:
    """Whether two fields of a node are the same up to rounding."""
    if found is None or np.shape(found) != np.shape(made):
        return False
    return np.allclose(np.asarray(found, np.float64), np.asarray(made, np.float64), rtol=1e-6, atol=0)


def _multi_spike(name: str, p: LIFConstants, reset: Reset, feedback: torch.nn.Module | None) -> nn.MultiSpikeLIF:
    if feedback is not None or np.any(np.asarray(p.alpha)):
        raise UserError(f"spikes='multiple' is for LIF and IF neurons without feedback, {name!r} are others")
    if reset != "immediate" and not (reset == "subtract" and np.all(np.asarray(p.beta) == 1.0)):
        raise UserError(
            f"neurons that fire several times in a step subtract at scalars, {name!r} reset by {reset!r}: pass "
            "reset='immediate' with spikes='multiple'"
        )
    if not (isinstance(p.beta, float) and isinstance(p.threshold, float)):
        raise DataError(
            f"the neurons {name!r} differ in decay or threshold, and those that fire several times in a step have one "
            "of each: give each value a layer of its own"
        )
    return nn.MultiSpikeLIF(p.beta, p.threshold)


def as_written(
    name: str,
    node: nir.NIRNode,
    found: LIFConstants,
    step: TimeStep,
    metadata: dict[str, Any],
    dialect: Dialect,
    gain: int,
) -> LIFConstants:
    """Take the constants that a file of this package states exactly in its metadata, checked against the node."""
    threshold = np.asarray(found.threshold, np.float64)
    if isinstance(node, nir.LIF):
        threshold = dialect.constants(node, step.dt)[1]
    for key in ("beta", "threshold"):
        if key not in metadata:
            raise DataError(f"the neurons {name!r} carry no {key!r} in their metadata, as files of ours do")
    if np.any(np.asarray(found.scale) != 1.0) or (np.any(found.shift) and metadata.get("offset") != "v_leak"):
        raise DataError(f"the parameters of the neurons {name!r} were changed after the file was written")
    shape = tuple(np.shape(node.v_threshold))
    return LIFConstants(
        beta=agreed(name, "beta", metadata["beta"], found.beta, shape),
        threshold=agreed(name, "threshold", metadata["threshold"], threshold / gain, shape),
        alpha=agreed(name, "alpha", metadata["alpha"], found.alpha, shape) if "alpha" in metadata else found.alpha,
        shift=found.shift / gain,
    )


def agreed(name: str, key: str, stated: Any, computed: Numbers, shape: Shape) -> Numbers:
    """Return ``stated``, a number or an array that broadcasts to ``shape``, if it agrees with the node up to rounding.

    Raises:
        DataError: where ``computed``, from the parameters of the node, differs.
    """
    label = f"{key} in the metadata of the neurons {name!r}"
    if isinstance(stated, np.ndarray):
        fits = stated.ndim == len(shape) and all(
            own in (1, size) for own, size in zip(stated.shape, shape, strict=True)
        )
        if not fits or stated.dtype.kind != "f" or not np.isfinite(stated).all():
            raise DataError(f"{label} is {short(stated)}, expected numbers that fit neurons of shape {list(shape)}")
    elif not is_number(stated):
        raise DataError(f"{label} is {short(stated)}, expected a number")
    claimed, found = (np.broadcast_to(np.asarray(value, np.float64), shape) for value in (stated, computed))
    wrong = ~np.isclose(claimed, found, rtol=1e-6, atol=0)
    if wrong.any():
        raise DataError(
            f"the metadata of the neurons {name!r} say {key} = {claimed[wrong][0]:g}, their parameters "
            f"{found[wrong][0]:g}: the file was changed after it was written"
        )
    return stated.astype(np.float64) if isinstance(stated, np.ndarray) else float(stated)


_EMPTY = ImportedNetwork()


SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

Weights = nn.Linear | nn.Conv2d


def weights(name: str, node: nir.NIRNode, gain: int = 1, matrix_gain: int = 1) -> Weights:
    """Make the dense layer or convolution of an Affine, Linear or Conv2d node, float32.

    Args:
        name: of the node.
        node: with its parameters.
        gain: divisor of the bias.
        matrix_gain: divisor of the weights.
    """
    weight = np.asarray(node.weight, np.float64) / matrix_gain
    bias = None if isinstance(node, nir.Linear) else np.asarray(node.bias, np.float64) / gain
    layer: Weights
    if isinstance(node, nir.Conv2d):
        outputs, inputs, *kernel = weight.shape
        groups = int(node.groups)
        padding = node.padding if isinstance(node.padding, str) else pair(node.padding)
        try:
            layer = nn.Conv2d(
                inputs * groups, outputs, tuple(kernel), pair(node.stride), padding, pair(node.dilation), groups
            )
        except (ValueError, RuntimeError) as error:
            raise DataError(f"the convolution {name!r} cannot be built: {str(error).splitlines()[0]}") from None
    else:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    if bias is not None and bias.shape != (weight.shape[0],):
        raise DataError(f"the bias of {name!r} has shape {list(bias.shape)}, expected [{weight.shape[0]}]")
    layer.weight.data = float32(name, "weight", weight)
    if bias is not None:
        assert layer.bias is not None
        layer.bias.data = float32(name, "bias", bias)
    return layer


def _fewest_delays(steps: np.ndarray) -> np.ndarray:
    """Write delays as one number, or one for each channel, where they are no more."""
    if not np.ptp(steps):
        return np.array(steps.flat[0])
    each = steps.reshape(len(steps), -1)
    return each[:, 0].copy() if not np.any(each != each[:, :1]) else steps


def pooling(node: nir.SumPool2d | nir.AvgPool2d, average: bool) -> nn.AvgPool2d:
    """Make the layer of average pooling, or, with the divisor 1, of a sum over each window."""
    sizes = (pair(node.kernel_size), pair(node.stride), pair(node.padding))
    return nn.AvgPool2d(*sizes, divisor_override=None if average else 1)


def flatten(name: str, node: nir.Flatten, shape: tuple[int, ...]) -> torch.nn.Module | None:
    """Make the layer of a Flatten of ``shape``; ``None`` where it changes nothing."""
    try:
        start, end = flattened_axes({"start_dim": node.start_dim, "end_dim": node.end_dim}, shape)
    except ValueError:
        raise DataError(
            f"the Flatten {name!r} joins axes {int(node.start_dim)} to {int(node.end_dim)} of an input of "
            f"{list(shape)} (time and batch are not counted)"
        ) from None
    if start == end:
        return None
    return nn.Flatten() if end - start + 1 == len(shape) else nn.FlattenAxes(start, end)


def elementwise(name: str, scale: Any, shift: Any, like: tuple[int, ...]) -> nn.Scale | None:
    """Make the layer of ``scale ⊙ x + shift`` for the neurons ``name``; ``None`` where it changes nothing."""
    arrays = (np.asarray(value, np.float64) for value in (scale, shift))
    scale, shift = (
        array.flat[0].reshape(()) if np.ptp(array) == 0 else np.array(np.broadcast_to(array, like)) for array in arrays
    )
    if np.allclose(scale, 1.0, rtol=1e-12, atol=0) and not np.any(shift):
        return None
    return nn.Scale(float32(name, "current", scale), float32(name, "current", shift))


def folded(name: str, layer: torch.nn.Module, scale: Any, shift: Any, shape: tuple[int, ...]) -> bool:
    """Fold ``scale ⊙ y + shift`` into the weights and bias of ``layer``, whose output ``y`` has ``shape``.

    Returns:
        Whether that was possible: only for a layer of weights, and for a convolution only if both are uniform within
            each
        channel.
    """
    if not isinstance(layer, (nn.Linear, nn.Conv2d)) or (isinstance(layer, nn.Linear) and len(shape) != 1):
        return False
    outputs = layer.weight.shape[0]
    rows = []
    for value in (scale, shift):
        row = np.broadcast_to(np.asarray(value, np.float64), shape).reshape(outputs, -1)
        if np.any(row != row[:, :1]):
            return False
        rows.append(row[:, 0])
    factors, offsets = rows
    weight, bias = layer.weight.detach().double().numpy(), layer.bias
    offsets = offsets + (0.0 if bias is None else bias.detach().double().numpy() * factors)
    layer.weight.data = float32(name, "current", weight * factors.reshape(-1, *[1] * (weight.ndim - 1)))
    if bias is not None or offsets.any():
        layer.bias = torch.nn.Parameter(float32(name, "current", offsets))
    return True


def float32(name: str, what: str, array: Any) -> torch.Tensor:
    """Round ``array`` to float32.

    Raises:
        DataError: where values become infinite, or all that are not 0 become 0: the network would be another.
    """
    values = np.array(array, np.float64)
    if not np.abs(values).max(initial=0.0) <= LARGEST:  # NaN too
        raise DataError(f"{what} of {name!r} reaches {np.abs(values).max():g}, which float32 does not hold")
    if values.any() and np.abs(values).max() < SMALLEST:
        raise DataError(
            f"{what} of {name!r} is at most {np.abs(values).max():g}, which float32 does not hold: choose other units"
        )
    return torch.from_numpy(values.astype(np.float32))
