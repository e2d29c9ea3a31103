"""From a NIR file to a network."""

from __future__ import annotations

import math
from pathlib import Path

import nir
import numpy as np
import torch

from hw_export.nir.assemble import Assembly
from hw_export.nir.dialects import Scheme, dialect_of
from hw_export.nir.document import Document, build_graph, copied, read_document
from hw_export.nir.imported import ImportedNetwork
from hw_export.nir.metadata import check_integers, in_order, plain
from hw_export.nir.migration import mend
from hw_export.nir.reading import Integrators, Reading, Spikes
from hw_export.nir.route import route
from hw_export.nir.shapes import MOST
from spikelfp.errors import DataError
from spikelfp.functional.lif import Reset


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
    """The network of a NIR file, ours or another program's, or of a graph in memory; float32, for inference
    (``requires_grad_()`` makes it trainable).

    A file of :func:`~hw_export.nir.write.to_nir` states everything: the network comes back with identical spikes, in
    any dialect. What others leave open is decided by the arguments, and listed in ``notes`` of the result:

    * dt: the time step, in the unit of the file's time constants; else the metadata's, else 1e-4 (s).
    * reset: ``zero`` is NIR's own equation and the default; ``subtract`` (delayed, snnTorch's) and ``immediate``
      have no place in NIR but in metadata (``reset``).
    * scheme: ``euler``, ``β = 1 − dt/τ``, the default, or ``exact``, ``β = exp(−dt/τ)``.
    * spikes: ``multiple`` lets a neuron fire as often in a step as θ can be subtracted, as sinabs and rockpool do
      (:class:`~spikelfp.nn.MultiSpikeLIF`, for inference).
    * integrators: what ``v' = r I`` of an IF or I gains: ``r I`` a ``step``, or ``dt · r I``. By default the one by
      which that is ``I``: ``step`` for ``r = 1``, ``dt`` for ``r dt = 1``; any other ``r`` is asked about.
    * migrate: mend files of older versions first, as :func:`~hw_export.nir.migration.migrate` does.

    Read are chains of Affine, Linear, Conv2d, SumPool2d, AvgPool2d, Flatten, Scale, Threshold, IF, LIF, CubaLIF, I, LI
    and CubaLI, neurons that feed themselves through one layer of weights, and nested graphs. How the equations become
    steps is told in :mod:`hw_export.nir.neurons`. Layers carry the names of their nodes, dots replaced by ``_``.

    Raises :class:`~spikelfp.errors.DataError` naming node and field for a file that is broken or inconsistent (every
    field is checked first, :mod:`hw_export.nir.schema`), branches, or has nodes or parameters that no layer here can
    stand for, and :class:`~spikelfp.errors.UserError` for arguments
    that contradict the file.
    """
    name = "the NIR graph" if isinstance(source, nir.NIRGraph) else str(source)
    document = read_document(source)
    untouched = document
    if migrate:
        document = copied(document)
        changes = mend(document, name)
        if changes:
            document["metadata"] = in_order(document["metadata"], {"migrated": "; ".join(changes)})
    try:
        metadata = plain(document["metadata"])
        reading = Reading(dialect_of(metadata), metadata, dt, reset, scheme, spikes, integrators)
        return _network(build_graph(document, name), name, reading)
    except DataError as error:
        hint = "" if migrate else _hint(copied(untouched), name)
        raise DataError(f"{error}{hint}") from None


def _network(graph: nir.NIRGraph, source: str, reading: Reading) -> ImportedNetwork:
    stops = route(graph, source)
    (start,), (end,) = (
        [np.atleast_1d(getattr(node, key)[word]) for node in ends.values()]
        for ends, key, word in ((graph.inputs, "input_type", "input"), (graph.outputs, "output_type", "output"))
    )
    shape = tuple(int(size) for size in start)
    if math.prod(shape) > MOST:
        raise DataError(f"{source} takes an input of {list(shape)}, more values a step than are read here")
    if reading.dialect is not None:
        check_integers(reading.metadata, f"{source}: ", "the graph")
    assembly = Assembly(reading, shape)
    with torch.random.fork_rng(devices=[]):  # layers are made with random weights first
        for stop in stops:
            assembly.add(stop)
    if assembly.shape != tuple(end):
        raise DataError(f"{source} promises an output of {end.tolist()}, {list(assembly.shape)} arrives there")
    net = ImportedNetwork(assembly.made)
    net.notes = (*reading.notes, *_migrated(reading))
    net.dt, net.scheme = reading.step_length({}), reading.used_scheme
    net.input_shape, net.metadata, net.node_metadata = shape, reading.metadata, assembly.node_metadata
    return net.eval().requires_grad_(False)


def _migrated(reading: Reading) -> list[str]:
    done = reading.metadata.get("migrated")
    return [] if done is None else [f"migrated: {done}"]


def _hint(document: Document, source: str) -> str:
    """Whether mending would change the file, for the end of an error."""
    try:
        changes = mend(document, source)
    except DataError:  # a file that cannot be mended gets no hint
        return ""
    if not changes:
        return ""
    return f"; from_nir(…, migrate=True) or hw_export.nir.migrate(path) would mend: {changes[0]}"
