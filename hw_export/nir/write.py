"""From a network to a NIR file."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.chain import leaves
from hw_export.nir.dialects import DIALECTS
from hw_export.nir.document import reason
from hw_export.nir.imported import ImportedNetwork, kept_metadata, kept_names
from hw_export.nir.metadata import in_order
from hw_export.nir.nodes import TAKERS, Maker
from hw_export.quantize import QuantizedNetwork
from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.files import write_whole

READ_WITH = "nir.read(path, type_check=False)"
"""In the metadata of graphs that nir 1.0 itself would refuse: it gets the shapes of some nodes wrong."""


def to_nir(
    net: torch.nn.Module,
    path: str | Path | None,
    dialect: str = "default",
    *,
    input_shape: Sequence[int] | None = None,
    write_if: bool = False,
) -> nir.NIRGraph:
    """Write ``net`` to the NIR file ``path`` and return the graph; ``path=None`` only returns it.

    The file says exactly what the network computes, step by step, with the conventions that importers share:

    * ``dt = 1e-4`` s a step, ``τ = dt / (1 − β)``, ``v_leak = v_reset = 0``; see
      :mod:`hw_export.nir.dialects` for ``r`` and for other dialects. Weights stand in the file as they are, so
      integer weights are integers there too.
    * Every dense layer is an ``Affine``, with a bias of zeros where there is none; parameters have the full
      shape.
    * Average pooling is a ``SumPool2d``, which more importers know, and the neurons (and biases) behind it
      are scaled by the number of summed pixels: the same spikes, without a rounded weight. Without neurons behind it,
      it is an ``AvgPool2d``.
    * A constant current, an ``nn.Scale`` with a shift, is ``v_leak`` of the neurons behind it, or the threshold of a
      ``Threshold``, which is a ``Heaviside``.
    * ``Synaptic`` neurons are ``CubaLIF``; those with feedback are followed by an ``Affine`` that leads back to them,
      one step later. A readout ``LI`` is a ``LI`` or ``I``, its membranes in our units.
    * NIR resets to ``v_reset`` at the step of the spike. ``subtract`` (delayed, snnTorch's) and ``immediate`` exist in
      no NIR node; they are written in the metadata, with ``dt``, ``beta``, ``threshold`` and
      ``threshold_op``, and a reader has to apply them (see :mod:`hw_export.simulators`). So are ``bits``,
      ``input_scale``, and by node ``scale`` and ``integer_threshold`` of a quantised network.
    * Nodes are named ``layer_<number>_<name>``, in alphabetical order as they run, between ``input`` and
      ``output``; a network that was read from such a file keeps its names and metadata, so it is written with the same
      bytes. A ``Flatten`` at the start is left out: the graph takes the flat vector (not where the network was read
      from a graph, whose input keeps its shape). ``Dropout`` is left out, as in inference.
    * nir 1.0 gets the shapes of grouped convolutions, kernels that are not square and dense layers on several axes
      wrong. They are written, and the metadata say how nir reads them (``read_with``).

    input_shape: of one sample, ``(channels, height, width)``; needed where the first layer does not tell it.
    write_if: write neurons without leak as ``IF`` (``v += r I`` a step), which importers disagree on.

    Raises :class:`~spikelfp.errors.UserError` naming the first layer that NIR has no word for, neurons that do
    not leak among them, and :class:`~spikelfp.errors.SaveError` when ``path`` cannot be written (what was there
    before is intact).
    """
    layers = leaves(net)
    maker = Maker(DIALECTS[dialect], dialect, write_if)
    if input_shape is None and isinstance(net, ImportedNetwork) and net.input_shape:
        shape = tuple(net.input_shape)
    else:
        shape = _input_shape(layers, input_shape)
    names = _node_names(net, layers)
    quantized = _quantization(net)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(shape))}
    edges: list[tuple[str, str]] = []
    sample, last, odd = torch.zeros(1, 1, *shape), "input", False
    ends = max((index for index, (_, layer) in enumerate(layers) if isinstance(layer, TAKERS)), default=-1)
    for index, (name, layer) in enumerate(layers):
        shape, gain, maker.ahead = tuple(sample.shape[2:]), maker.gain, index < ends
        node = maker.node(name, layer, shape, in_order(kept_metadata(net, name), quantized.get(name, {})))
        sample = _behind(name, layer, sample)
        if node is not None:
            nodes[names[name]] = node
            odd |= _type(node, shape, tuple(sample.shape[2:]))
            edges.append((last, names[name]))
            last = names[name]
            if isinstance(layer, nn.RecurrentLIF):
                back = f"{last}_recurrent"
                nodes[back] = maker.feedback(name, layer, shape, gain)
                odd |= _type(nodes[back], shape, shape)
                edges += [(last, back), (back, last)]
    if maker.offset is not None:
        raise maker.stranded()
    nodes["output"] = nir.Output(np.array(sample.shape[2:]))
    metadata = _metadata(net, maker) | ({"read_with": READ_WITH} if odd else {})
    graph = nir.NIRGraph(nodes, [*edges, (last, "output")], metadata=in_order(metadata), type_check=False)
    if path is not None:
        buffer = io.BytesIO()
        try:
            nir.write(buffer, graph)
        except (TypeError, ValueError) as error:
            raise UserError(f"the metadata of the network cannot be written to HDF5: {reason(error)}") from None
        write_whole(path, lambda file: file.write(buffer.getvalue()))
    return graph


def _type(node: nir.NIRNode, shape: tuple[int, ...], behind: tuple[int, ...]) -> bool:
    """Tell ``node`` the shapes it takes and gives; whether nir takes it for one of other shapes."""
    ours = {"input": np.array(shape)}, {"output": np.array(behind)}
    theirs = node.input_type, node.output_type
    node.input_type, node.output_type = ours
    return any(
        value is not None and not np.array_equal(value, mine[key])
        for said, mine in zip(theirs, ours, strict=True)
        for key, value in said.items()
    )


def _node_names(net: torch.nn.Module, layers: list[tuple[str, torch.nn.Module]]) -> dict[str, str]:
    """The node of each layer, by name."""
    if kept_names(net):
        return {name: name for name, _ in layers}
    digits = len(str(len(layers) - 1))
    names = {}
    for index, (name, layer) in enumerate(layers):
        word = type(layer).__name__.lower() if name.isdigit() else re.sub(r"\W", "_", name, flags=re.ASCII)
        names[name] = f"layer_{index:0{digits}d}_{word}"
    return names


def _quantization(net: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """By layer, what the integers of a quantised network stand for: ``scale`` of the weights, and
    ``integer_threshold`` of the neurons behind them."""
    facts: dict[str, dict[str, Any]] = {}
    if not isinstance(net, QuantizedNetwork) or net.bits is None:
        return facts
    for layer in net.report:
        facts[layer.layer] = {"scale": layer.scale}
        if layer.neurons is not None and layer.threshold is not None:
            facts[layer.neurons] = {"integer_threshold": layer.threshold}
    return facts


def _metadata(net: torch.nn.Module, maker: Maker) -> dict[str, Any]:
    facts: dict[str, Any] = {"dialect": maker.dialect_name, "dt": maker.dialect.dt, "threshold_op": ">"}
    for key in ("beta", "reset") if maker.neurons else ():
        values = {getattr(neurons, key) for neurons in maker.neurons}
        facts[key] = values.pop() if len(values) == 1 else "see nodes"
    if isinstance(net, QuantizedNetwork) and net.bits is not None:
        facts |= {"bits": net.bits, "input_scale": net.input_scale or 1}
    return in_order(kept_metadata(net), facts)


def _behind(name: str, layer: torch.nn.Module, sample: Tensor) -> Tensor:
    """What the output of ``layer`` looks like for an input that looks like ``sample``, wherever its weights are."""
    if isinstance(layer, (nn.Neurons, nn.LI, nn.Dropout)):
        return sample
    try:
        with torch.no_grad():
            weight = next(layer.parameters(), sample)
            return layer(sample.to(weight)).to(sample)
    except (RuntimeError, ShapeError) as error:
        shape = tuple(sample.shape[2:])
        raise ShapeError(f"layer {name!r} does not take an input of {shape}: {str(error).splitlines()[0]}") from None


def _input_shape(layers: list[tuple[str, torch.nn.Module]], given: Sequence[int] | None) -> tuple[int, ...]:
    shape = None if given is None else tuple(int(size) for size in given)
    flat = False
    for _, layer in layers:
        if isinstance(layer, nn.Flatten):
            flat = True
        elif not isinstance(layer, nn.Dropout):
            break
    else:
        raise UserError("the network has no layer that a file could hold")
    if isinstance(layer, nn.Linear):
        if shape is not None and not flat and shape[-1:] == (layer.in_features,):
            return shape if math.prod(shape) > layer.in_features else (layer.in_features,)
        if shape is not None and math.prod(shape) != layer.in_features:
            raise ShapeError(
                f"the network takes {layer.in_features} inputs, input_shape {shape} has {math.prod(shape)}"
            )
        return (layer.in_features,)
    if shape is None:
        raise UserError(f"the network starts with {type(layer).__name__}: pass input_shape=(channels, height, width)")
    return (math.prod(shape),) if flat else shape
