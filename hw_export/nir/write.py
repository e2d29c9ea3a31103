"""From a network to a NIR file."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.chain import leaves
from hw_export.nir.dialects import DIALECTS, DT, Dialect
from hw_export.quantize import QuantizedNetwork
from spikelfp import nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.files import write_whole


def to_nir(
    net: torch.nn.Module,
    path: str | Path | None,
    dialect: str = "default",
    *,
    input_shape: Sequence[int] | None = None,
) -> nir.NIRGraph:
    """Write ``net`` to the NIR file ``path`` and return the graph; ``path=None`` only returns it.

    The file says exactly what the network computes, step by step, with the conventions that importers share:

    * ``dt = 1e-4`` s a step, ``τ = dt / (1 − β)``, ``v_leak = v_reset = 0``; see
      :mod:`hw_export.nir.dialects` for ``r``. Weights stand in the file as they are, so integer weights are
      integers there too.
    * Every dense layer is an ``Affine``, with a bias of zeros where there is none; parameters have the full
      shape.
    * Average pooling is a ``SumPool2d``, which more importers know, and the neurons (and biases) behind it
      are scaled by the number of summed pixels: the same spikes, without a rounded weight.
    * NIR resets to ``v_reset`` at the step of the spike. ``reset="subtract"`` (delayed, snnTorch's) exists in
      no NIR node; it is written in the metadata, with ``dt``, ``beta``, ``threshold`` and
      ``threshold_op``, and a reader has to apply it (see :mod:`hw_export.simulators`).
    * Nodes are named ``layer_<number>_<name>``, in alphabetical order as they run, between ``input`` and
      ``output``. A ``Flatten`` at the start is left out: the graph takes the flat vector. ``Dropout`` is left
      out, as in inference.

    input_shape: of one sample, ``(channels, height, width)``; needed where the first layer does not tell it.

    Raises :class:`~spikelfp.errors.UserError` naming the first layer that NIR has no word for, neurons that do
    not leak among them, and :class:`~spikelfp.errors.SaveError` when ``path`` cannot be written (what was there
    before is intact).
    """
    layers = leaves(net)
    writer = _Writer(DIALECTS[dialect], dialect, len(str(len(layers) - 1)))
    shape = _input_shape(layers, input_shape)
    writer.start(shape)
    sample = torch.zeros(1, 1, *shape)
    for index, (name, layer) in enumerate(layers):
        sample = writer.add(index, name, layer, sample)
    graph = writer.finish(net)
    if path is not None:
        buffer = io.BytesIO()
        nir.write(buffer, graph)
        write_whole(path, lambda file: file.write(buffer.getvalue()))
    return graph


def _input_shape(layers: list[tuple[str, torch.nn.Module]], given: Sequence[int] | None) -> tuple[int, ...]:
    shape = None if given is None else tuple(int(size) for size in given)
    flat = False
    for _, layer in layers:
        if isinstance(layer, nn.Flatten):
            flat = True
        elif not isinstance(layer, nn.Dropout):
            break
    else:
        raise UserError("the network has no layer that NIR could hold")
    if isinstance(layer, nn.Linear):
        if shape is not None and math.prod(shape) != layer.in_features:
            raise ShapeError(
                f"the network takes {layer.in_features} inputs, input_shape {shape} has {math.prod(shape)}"
            )
        return (layer.in_features,)
    if shape is None:
        raise UserError(f"the network starts with {type(layer).__name__}: pass input_shape=(channels, height, width)")
    return (math.prod(shape),) if flat else shape


@dataclass
class _Writer:
    """Collects the nodes. ``gain``: how many times too large the values are that flow behind the last
    node."""

    dialect: Dialect
    dialect_name: str
    digits: int
    nodes: dict[str, nir.NIRNode] = field(default_factory=dict)
    neurons: list[nn.LIF] = field(default_factory=list)
    gain: int = 1

    def start(self, shape: tuple[int, ...]) -> None:
        self.nodes["input"] = nir.Input(np.array(shape))

    def add(self, index: int, name: str, layer: torch.nn.Module, sample: Tensor) -> Tensor:
        """Add the node of ``layer``, whose input looks like ``sample`` ``[1, 1, …]``; returns how its output
        looks."""
        shape = tuple(sample.shape[2:])
        node = self._node(name, layer, shape)
        if node is not None:
            word = type(layer).__name__.lower() if name.isdigit() else re.sub(r"\W", "_", name, flags=re.ASCII)
            self.nodes[f"layer_{index:0{self.digits}d}_{word}"] = node
        if isinstance(layer, (nn.LIF, nn.Dropout)):
            return sample
        try:
            with torch.no_grad():
                return _probe(layer, sample)
        except (RuntimeError, ShapeError) as error:
            raise ShapeError(
                f"layer {name!r} does not take an input of {shape}: {str(error).splitlines()[0]}"
            ) from None

    def finish(self, net: torch.nn.Module) -> nir.NIRGraph:
        if not self.neurons:
            raise UserError("the network has no LIF neurons: NIR is for spiking networks")
        if self.gain != 1:
            raise UserError(
                "the network ends in average pooling without neurons behind it, which NIR readers disagree on"
            )
        last = next(reversed(self.nodes.values()))
        names = [*self.nodes, "output"]
        self.nodes["output"] = nir.Output(last.output_type["output"])
        metadata: dict[str, object] = {"dialect": self.dialect_name, "dt": DT, "threshold_op": ">"}
        for key in ("beta", "reset"):
            values = {getattr(lif, key) for lif in self.neurons}
            metadata[key] = values.pop() if len(values) == 1 else "see nodes"
        if isinstance(net, QuantizedNetwork) and net.bits is not None:
            metadata |= {"bits": net.bits, "input_scale": net.input_scale or 1}
        return nir.NIRGraph(self.nodes, list(itertools.pairwise(names)), metadata=metadata)

    def _node(self, name: str, layer: torch.nn.Module, shape: tuple[int, ...]) -> nir.NIRNode | None:
        if isinstance(layer, nn.Dropout) or (isinstance(layer, nn.Flatten) and len(shape) == 1):
            return None
        if isinstance(layer, nn.Flatten):
            return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
        if isinstance(layer, nn.Linear):
            return nir.Affine(weight=_array(layer.weight, name), bias=self._bias(layer, name))
        if isinstance(layer, nn.Conv2d):
            return self._conv(name, layer, shape)
        if isinstance(layer, nn.AvgPool2d):
            return self._pool(name, layer)
        if isinstance(layer, nn.LIF):
            return self._lif(name, layer, shape)
        advice = {
            "MaxPool2d": "train with average pooling (--pool avg)",
            "ReLU": "train a spiking network, such as --model lif-mlp",
        }.get(type(layer).__name__, "leave it out or replace it")
        raise UserError(f"layer {name!r} is a {type(layer).__name__}, which NIR has no node for: {advice}")

    def _bias(self, layer: nn.Linear | nn.Conv2d, name: str) -> np.ndarray:
        if layer.bias is None:
            return np.zeros(layer.weight.shape[0])
        return _array(layer.bias, name) * self.gain

    def _conv(self, name: str, layer: nn.Conv2d, shape: tuple[int, ...]) -> nir.Conv2d:
        if layer.padding_mode != "zeros":
            raise UserError(f"layer {name!r} pads with {layer.padding_mode!r}, NIR only with zeros")
        if isinstance(layer.padding, str):
            raise UserError(f"layer {name!r} has padding={layer.padding!r}: give it as numbers for NIR")
        if len(set(layer.kernel_size)) > 1 or layer.groups != 1:
            raise UserError(
                f"layer {name!r} has a kernel of {layer.kernel_size} in {layer.groups} groups; nir gets "
                "the shapes right for square kernels in one group only"
            )
        return nir.Conv2d(
            input_shape=shape[1:],
            weight=_array(layer.weight, name),
            stride=tuple(layer.stride),
            padding=tuple(layer.padding),
            dilation=tuple(layer.dilation),
            groups=1,
            bias=self._bias(layer, name),
        )

    def _pool(self, name: str, layer: nn.AvgPool2d) -> nir.SumPool2d:
        kernel, stride, padding = (_pair(size) for size in (layer.kernel_size, layer.stride, layer.padding))
        if any(padding) or layer.ceil_mode or layer.divisor_override is not None:
            raise UserError(f"layer {name!r} pools over the border or with another divisor, which NIR cannot say")
        self.gain *= math.prod(kernel)
        return nir.SumPool2d(
            kernel_size=np.array(kernel),
            stride=np.array(stride),
            padding=np.array(padding),
            metadata={"pool": "average"},
        )

    def _lif(self, name: str, layer: nn.LIF, shape: tuple[int, ...]) -> nir.LIF:
        if layer.beta == 1.0:
            raise UserError(
                f"the neurons {name!r} do not leak (beta=1): NIR's LIF would need an infinite time constant, "
                "and its IF is read as three different neurons by snnTorch, norse and sinabs. Train with beta below 1"
            )
        metadata: dict[str, object] = {
            "dt": DT,
            "beta": layer.beta,
            "threshold": layer.threshold,
            "threshold_op": ">",
            "reset": layer.reset,
            "layer": name,
        }
        node = self.dialect.lif(layer.constants, shape, self.gain, metadata)
        self.gain = 1
        self.neurons.append(layer)
        return node


def _probe(layer: torch.nn.Module, sample: Tensor) -> Tensor:
    """Output of ``layer`` for ``sample``, wherever its weights are."""
    weight = next(layer.parameters(), sample)
    return layer(sample.to(weight)).to(sample)


def _array(tensor: Tensor, name: str) -> np.ndarray:
    array = tensor.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(array).all():
        raise UserError(f"layer {name!r} has weights that are not finite")
    return array


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
