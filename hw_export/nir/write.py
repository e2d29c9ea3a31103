"""Networks written to NIR files."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.layers import leaves, window
from hw_export.neurons import NeuronExport, NodeContext, export_of, lowered
from hw_export.nir.chain import Shape, pair
from hw_export.nir.dialects import DIALECTS, Dialect, dialect_of
from hw_export.nir.document import CHOSEN, in_order, plain, reason
from hw_export.nir.read import ImportedNetwork
from hw_export.quantize import QuantizedNetwork
from hw_export.quantize.report import check_thresholds
from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.files import write_whole
from spikelfp.registry import checked_keywords

OWN_NAME = re.compile(r"layer_\d+_\w+")
"""Names that :func:`~hw_export.nir.write.to_nir` gives to nodes."""

OF_INTEGERS = ("bits", "input_scale", "scale", "integer_threshold")
"""Metadata that are valid for integer weights only."""

READ_WITH = "nir.read(path, type_check=False)"
"""Metadata of graphs that nir 1.0 would refuse, because it gets the shapes of some nodes wrong."""


@checked_keywords()
def to_nir(
    net: torch.nn.Module,
    path: str | Path | None,
    dialect: str = "default",
    *,
    input_shape: Sequence[int] | None = None,
    write_if: bool = False,
) -> nir.NIRGraph:
    """Write a network to a NIR file.

    The file states exactly what the network computes, step by step, with the conventions that importers share:

    * ``dt = 1e-4`` s a step, ``τ = dt / (1 − β)``, ``v_leak = v_reset = 0``; :mod:`hw_export.nir.dialects` has the
      equations, ``r`` and the other dialects. Weights stand in the file as they are, so integer weights stay integers.
    * Every dense layer is an ``Affine``, with a bias of zeros where there is none; parameters have the full shape.
    * Average pooling is a ``SumPool2d``, which more importers know, and the neurons (and biases) after it are scaled by
      the number of summed pixels: the same spikes, without a rounded weight. Without neurons after it, it is an
      ``AvgPool2d``.
    * A constant current, an ``nn.Scale`` with a shift, is ``v_leak`` of the neurons after it, or the threshold of a
      ``Threshold``, the node of a ``Heaviside``.
    * Decays and thresholds that differ between the neurons of a layer are written as they are, in the metadata too.
    * Neurons that are LIF neurons by other names are written as those, and kinds that users registered as their export
      says (:mod:`hw_export.neurons`).
    * A ``Delay`` is a ``Delay``, whose times are its steps times ``dt``. A ``DelayLinear`` becomes branches side by
      side, a ``Delay`` and an ``Affine`` for each tap, which NIR sums where they meet.
    * ``Synaptic`` neurons are ``CubaLIF``. Neurons with feedback are followed by an ``Affine`` that leads back to them,
      one step later. A readout ``LI`` is a ``LI`` or ``I``, with membranes as in :class:`spikelfp.nn.LI`.
    * NIR resets to ``v_reset`` at the step of the spike. ``subtract`` (delayed, snnTorch's) and ``immediate`` exist in
      no NIR node. They are written in the metadata, with ``dt``, ``beta``, ``threshold`` and ``threshold_op``, and a
      reader has to apply them (:mod:`hw_export.simulators`). Metadata also hold ``bits``, ``input_scale``, and by node
      ``scale`` and ``integer_threshold`` of a quantised network.
    * Nodes are named ``layer_<number>_<name>``, in alphabetical order as they run, between ``input`` and ``output``. A
      network that was read from such a file keeps its names and metadata, so it is written with the same bytes. A
      ``Flatten`` at the start is left out, and the graph takes the flat vector, unless the network was read from a
      graph, whose input keeps its shape. ``Dropout`` is left out, as in inference.
    * nir 1.0 gets the shapes of grouped convolutions, of kernels that are not square and of dense layers on several
      axes wrong. They are written, and the metadata say how nir reads them (``read_with``).

    Args:
        net: a chain of layers.
        path: of the file; with ``None`` the graph is only returned.
        dialect: conventions for neurons, one of :data:`~hw_export.nir.DIALECTS`.
        input_shape: of one sample, ``(channels, height, width)``; needed where the first layer does not tell it.
        write_if: write neurons without leak as ``IF`` (``v += r I`` a step), which importers disagree on.

    Returns:
        The graph.

    Raises:
        UserError: naming the first layer that NIR has no node for; neurons that do not leak are among them.
        ShapeError: where a layer does not take what arrives there.
        SaveError: when ``path`` cannot be written (a file that was there stays intact).
    """
    target = None if path is None else checks.path("path", path)
    given = None if input_shape is None else checks.sizes("input_shape", input_shape)
    net = lowered(net)
    layers = leaves(net)
    maker = Maker(DIALECTS[dialect], dialect, checks.truth("write_if", write_if))
    if given is None and isinstance(net, ImportedNetwork) and net.input_shape:
        shape = tuple(net.input_shape)
    else:
        shape = _input_shape(layers, given)
    names = _node_names(net, layers)
    quantized = _quantization(net)
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(shape))}
    edges: list[tuple[str, str]] = []
    sample, last, odd = torch.zeros(1, 1, *shape), ["input"], False
    taps: nn.Taps | None = None
    for index, (name, layer) in enumerate(layers):
        if taps is not None or isinstance(layer, (nn.Taps, nn.TapLinear)):
            if taps is None and isinstance(layer, nn.Taps):
                taps = layer
                continue
            if taps is None or type(layer) is not nn.TapLinear or layer.taps != len(taps.delays):
                raise UserError(
                    f"layer {name!r} is a {type(layer).__name__}, and NIR has nodes for Taps and the TapLinear right "
                    "after it only: use nn.DelayLinear"
                )
            shape, facts = tuple(sample.shape[2:]), in_order(kept_metadata(net, names[name]), quantized.get(name, {}))
            ends: list[str] = []
            for way in maker.branches(names[name], name, layer, taps.delays, shape, facts):
                before = last
                for own, node in way:
                    output = shape if isinstance(node, nir.Delay) else (*shape[:-1], layer.out_features)
                    nodes[own] = node
                    odd |= _type(node, shape, output)
                    edges += [(start, own) for start in before]
                    before = [own]
                ends += before
            sample, last, taps = _run_on(name, layer, taps(sample)), ends, None
            continue
        shape, gain, maker.ahead = tuple(sample.shape[2:]), maker.gain, _gain_is_taken(layers[index + 1 :])
        node = maker.node(name, layer, shape, in_order(kept_metadata(net, name), quantized.get(name, {})))
        sample = _run_on(name, layer, sample)
        if node is not None:
            nodes[names[name]] = node
            odd |= _type(node, shape, tuple(sample.shape[2:]))
            edges += [(start, names[name]) for start in last]
            last = [names[name]]
            export = export_of(layer)
            weights = None if export is None else export.feedback(layer)
            if weights is not None:
                back = f"{names[name]}_recurrent"
                nodes[back] = feedback(name, weights, shape, gain)
                odd |= _type(nodes[back], shape, shape)
                edges += [(names[name], back), (back, names[name])]
    if taps is not None:
        raise UserError(
            "the network ends with Taps, which NIR has nodes for before a TapLinear only: use nn.DelayLinear"
        )
    if maker.offset is not None:
        raise maker.stranded()
    nodes["output"] = nir.Output(np.array(sample.shape[2:]))
    metadata = _metadata(net, maker) | ({"read_with": READ_WITH} if odd else {})
    edges += [(start, "output") for start in last]
    graph = nir.NIRGraph(nodes, edges, metadata=in_order(metadata), type_check=False)
    if target is not None:
        buffer = io.BytesIO()
        try:
            nir.write(buffer, graph)
        except (TypeError, ValueError) as error:
            raise UserError(f"the metadata of the network cannot be written to HDF5: {reason(error)}") from None
        write_whole(target, lambda file: file.write(buffer.getvalue()))
    return graph


def _type(node: nir.NIRNode, shape: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Give ``node`` its input and output shapes; return whether nir computed others."""
    ours = {"input": np.array(shape)}, {"output": np.array(output)}
    theirs = node.input_type, node.output_type
    node.input_type, node.output_type = ours
    return any(
        value is not None and not np.array_equal(value, own[key])
        for types, own in zip(theirs, ours, strict=True)
        for key, value in types.items()
    )


def _node_names(net: torch.nn.Module, layers: list[tuple[str, torch.nn.Module]]) -> dict[str, str]:
    """Name the node of each layer."""
    if kept_names(net):
        return {name: _whole_name(name, layer) for name, layer in layers}
    digits = len(str(len(layers) - 1))
    names = {}
    for index, (name, layer) in enumerate(layers):
        own, kind = _whole_name(name, layer), type(layer).__name__
        kind = "DelayLinear" if own != name else kind
        word = kind.lower() if own.isdigit() else re.sub(r"\W", "_", own, flags=re.ASCII)
        names[name] = f"layer_{index:0{digits}d}_{word}"
    return names


def _whole_name(name: str, layer: torch.nn.Module) -> str:
    """Return the name of the ``DelayLinear`` around its weights; that of other layers."""
    outer, _, own = name.rpartition(".")
    return outer if outer and own == "dense" and isinstance(layer, nn.TapLinear) else name


def _quantization(net: torch.nn.Module) -> dict[str, dict[str, Any]]:
    """Collect facts of a quantised network by layer: ``scale`` of weights, ``integer_threshold`` of neurons."""
    facts: dict[str, dict[str, Any]] = {}
    if not isinstance(net, QuantizedNetwork) or net.bits is None:
        return facts
    check_thresholds(net)
    for layer in net.report:
        facts[layer.layer] = {"scale": layer.scale}
        if layer.neurons is not None and layer.threshold is not None:
            several = isinstance(layer.threshold, list)  # metadata hold arrays, and no lists
            facts[layer.neurons] = {"integer_threshold": np.array(layer.threshold) if several else layer.threshold}
    return facts


def _metadata(net: torch.nn.Module, maker: Maker) -> dict[str, Any]:
    facts: dict[str, Any] = {"dialect": maker.dialect_name, "dt": maker.dialect.dt, "threshold_op": ">"}
    for key in ("beta", "reset"):
        values = [each[key] for each in maker.neuron_facts if "reset" in each and key in each]
        if values:
            single = not any(isinstance(value, np.ndarray) for value in values) and len(set(values)) == 1
            facts[key] = values[0] if single else "see nodes"
    if isinstance(net, QuantizedNetwork) and net.bits is not None:
        facts |= {"bits": net.bits, "input_scale": net.input_scale or 1}
    return in_order(kept_metadata(net), facts)


def _run_on(name: str, layer: torch.nn.Module, sample: Tensor) -> Tensor:
    """Run ``layer`` on ``sample``, wherever its weights are; return an output of the right shape."""
    if isinstance(layer, nn.Dropout) or export_of(layer) is not None:
        return sample
    try:
        with torch.no_grad():
            weight = next(layer.parameters(), sample)
            return layer(sample.to(weight)).to(sample)
    except (RuntimeError, ShapeError) as error:
        shape = tuple(sample.shape[2:])
        raise ShapeError(f"layer {name!r} does not take an input of {shape}: {str(error).splitlines()[0]}") from None


def _input_shape(layers: list[tuple[str, torch.nn.Module]], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    flat, delayed = False, False
    for _, layer in layers:
        if isinstance(layer, nn.Delay) and shape is None:
            delayed = True
        elif isinstance(layer, nn.Flatten) and not delayed:
            flat = True
        elif not isinstance(layer, (nn.Dropout, nn.Taps)):
            break
    else:
        raise UserError("the network has no layer that a file could hold")
    if isinstance(layer, nn.Linear):
        features = layer.features if isinstance(layer, nn.TapLinear) else layer.in_features
        if shape is not None and not flat and shape[-1:] == (features,):
            return shape if math.prod(shape) > features else (features,)
        if shape is not None and math.prod(shape) != features:
            raise ShapeError(f"the network takes {features} inputs, input_shape {shape} has {math.prod(shape)}")
        return (features,)
    if shape is None:
        raise UserError(f"the network starts with {type(layer).__name__}: pass input_shape=(channels, height, width)")
    return (math.prod(shape),) if flat else shape


def kept_names(net: torch.nn.Module) -> bool:
    """Whether ``net`` was read from a file of this package, so that its layers already have the names of nodes."""
    if not isinstance(net, ImportedNetwork) or dialect_of(net.metadata) is None:
        return False
    return all(OWN_NAME.fullmatch(name) for name, _ in net.named_children())


def kept_metadata(net: torch.nn.Module, layer: str | None = None) -> dict[str, Any]:
    """Return the metadata that a file of this package had for the graph, or for ``layer``; none for other networks."""
    if not isinstance(net, ImportedNetwork) or not kept_names(net):
        return {}
    kept = plain(net.metadata if layer is None else net.node_metadata.get(layer, {}))
    weights = [layer.weight for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if net.bits is not None and not all(torch.equal(weight, weight.round()) for weight in weights):  # trained after it
        kept = {key: value for key, value in kept.items() if key not in OF_INTEGERS}
    return kept


@dataclass
class Maker:
    """Makes the node of a layer, one method for each kind.

    Attributes:
        dialect: conventions for neurons.
        dialect_name: its name.
        write_if: whether neurons without leak may be written as IF.
        gain: how many times too large values are after the last node, since average pooling is written as a sum.
        neuron_facts: metadata of the neurons so far.
        offset: constant that is to be added after the last node, ``None`` for none: in NIR only neurons and thresholds
            can.
        adder: layer that asked for it.
        ahead: whether a layer that heeds ``gain`` is still to come.
    """

    dialect: Dialect
    dialect_name: str
    write_if: bool = False
    gain: int = 1
    neuron_facts: list[dict[str, Any]] = field(default_factory=list)
    offset: np.ndarray | None = None
    adder: str = ""
    ahead: bool = True

    def node(self, name: str, layer: torch.nn.Module, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode | None:
        """Make the node of ``layer``, which takes inputs of ``shape``; ``None`` if the layer does nothing here.

        Args:
            name: of the layer.
            layer: to be written.
            shape: of its input.
            facts: more metadata of the node.

        Raises:
            UserError: where NIR has no node for it.
        """
        if isinstance(layer, nn.Dropout) or (isinstance(layer, nn.Flatten) and len(shape) == 1):
            return None
        if getattr(layer, "grid", None) is not None:
            raise UserError(
                f"layer {name!r} was trained with quantised weights: export the integers it computes with, by "
                "hw_export.quantize(net)"
            )
        if self.offset is not None and not (isinstance(layer, nn.Heaviside) or export_of(layer) is not None):
            raise self.stranded()
        export = export_of(layer)
        if export is not None:
            return self.neurons(name, layer, export, shape, facts)
        make = _MAKERS.get(type(layer))
        if make is None:
            advice = _ADVICE.get(type(layer).__name__, "leave it out or replace it")
            raise UserError(f"layer {name!r} is a {type(layer).__name__}, which NIR has no node for: {advice}")
        return make(self, name, layer, shape, facts)

    def stranded(self) -> UserError:
        """Make the error for an offset that no neurons take up."""
        return UserError(
            f"layer {self.adder!r} adds an offset, which NIR holds as v_leak or threshold of the neurons after it, "
            "and there are none: put it into the bias of a layer of weights"
        )

    def taken(self, shape: Shape) -> np.ndarray | float:
        """Hand the offset to the neurons at hand."""
        found, self.offset = self.offset, None
        return 0.0 if found is None else np.array(np.broadcast_to(found, shape))

    def neurons(
        self, name: str, layer: torch.nn.Module, export: NeuronExport, shape: Shape, facts: dict[str, Any]
    ) -> nir.NIRNode:
        """Make the node of a kind of neurons, by its export in :mod:`hw_export.neurons`."""
        offset, gain = self.taken(shape), self.gain
        self.gain = 1
        at = NodeContext(name, shape, (self.dialect_name, self.dialect), gain, offset, self.adder, self.write_if)
        if not export.takes_offset:
            at.no_offset(f"and {export.name} neurons have no place for it: put it into the bias of a layer of weights")
        node = export.write(layer, at)
        found = export.facts(layer, at)
        own = {"layer": found.pop("layer")} if "layer" in found else {}
        if np.any(np.asarray(offset)) and "reset" in found:
            found["offset"] = "v_leak"
        node.metadata = in_order(own, facts, found)
        self.neuron_facts.append(found)
        return node

    def flatten(self, name: str, layer: nn.Flatten, shape: Shape, facts: dict[str, Any]) -> nir.Flatten:
        """Make a Flatten of all axes."""
        return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1, metadata=facts)

    def flatten_axes(self, name: str, layer: nn.FlattenAxes, shape: Shape, facts: dict[str, Any]) -> nir.Flatten:
        """Make a Flatten of some axes."""
        return nir.Flatten({"input": np.array(shape)}, start_dim=layer.start, end_dim=layer.end, metadata=facts)

    def linear(self, name: str, layer: nn.Linear, shape: Shape, facts: dict[str, Any]) -> nir.Affine:
        """Make an Affine."""
        return nir.Affine(_array(layer.weight, name), bias(layer, name, self.gain), metadata=facts)

    def delay(self, name: str, layer: nn.Delay, shape: Shape, facts: dict[str, Any]) -> nir.Delay | None:
        """Make a Delay, in the unit of the time step; none where nothing is delayed."""
        if not layer.longest:
            return None
        steps = layer.for_shape(shape).expand(shape).cpu().numpy()
        return nir.Delay(steps * self.dialect.dt, metadata=facts)

    def branches(
        self, own: str, name: str, layer: nn.TapLinear, delays: Sequence[int], shape: Shape, facts: dict[str, Any]
    ) -> list[list[tuple[str, nir.NIRNode]]]:
        """Make the nodes of a dense layer with taps: for each a Delay, unless it is of 0 steps, and an Affine.

        Args:
            own: beginning of the names of the nodes.
            name: of the layer.
            layer: the weights.
            delays: of the taps, in steps.
            shape: of the input.
            facts: metadata of the Affines; where one delay of each connection was chosen, 1 for those that an Affine
                has is added, as :data:`CHOSEN`.

        Returns:
            The nodes of each branch with their names, in the order they run. The first branch has the bias.
        """
        if layer.grid is not None or self.offset is not None:
            self.node(name, layer, shape, facts)  # which refuses them
        matrices, whole = _array(layer.by_tap, name), bias(layer, name, self.gain)
        digits = len(str(len(delays) - 1))
        made = []
        kept = None if layer.mask is None else layer.mask.unflatten(1, (layer.taps, -1)).movedim(1, 0).cpu().numpy()
        facts = {key: value for key, value in facts.items() if key != CHOSEN}
        for number, (steps, weight) in enumerate(zip(delays, matrices, strict=True)):
            tap = f"{own}_tap{number:0{digits}d}"
            delay = nir.Delay(np.full(shape, steps * self.dialect.dt))
            own_facts = dict(facts) if kept is None else {**facts, CHOSEN: kept[number].astype(np.int8)}
            weights = nir.Affine(weight, whole if number == 0 else np.zeros_like(whole), metadata=own_facts)
            made.append([*([(f"{tap}_delay", delay)] if steps else []), (f"{tap}_weights", weights)])
        return made

    def conv(self, name: str, layer: nn.Conv2d, shape: Shape, facts: dict[str, Any]) -> nir.Conv2d:
        """Make a Conv2d."""
        node = convolution(layer, name, shape, self.gain)
        node.metadata = facts
        return node

    def scale(self, name: str, layer: nn.Scale, shape: Shape, facts: dict[str, Any]) -> nir.Scale | None:
        """Make a Scale; its shift waits for the next neurons."""
        if layer.shift.any():
            self.offset, self.adder = _array(layer.shift, name), name
            if bool((layer.scale == 1).all()):
                return None
        return nir.Scale(np.array(np.broadcast_to(_array(layer.scale, name), shape)), metadata=facts)

    def heaviside(self, name: str, layer: nn.Heaviside, shape: Shape, facts: dict[str, Any]) -> nir.Threshold:
        """Make a Threshold, which takes up the offset."""
        threshold = np.zeros(shape) - self.taken(shape) * self.gain
        self.gain = 1
        return nir.Threshold(threshold, metadata=facts)

    def pool(self, name: str, layer: nn.AvgPool2d, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode:
        """Make a SumPool2d, and the neurons after it take up the divisor; without any an AvgPool2d."""
        kernel, stride, padding = (pair(size) for size in (layer.kernel_size, layer.stride, layer.padding))
        is_sum = layer.divisor_override == 1
        if layer.ceil_mode:
            raise UserError(f"layer {name!r} pools windows that reach beyond the border (ceil_mode), NIR's lie within")
        if not is_sum:
            if layer.divisor_override is not None:
                raise UserError(
                    f"layer {name!r} divides its sums by {layer.divisor_override}; NIR's pooling divides by the "
                    "size of the window or not at all (divisor_override=1)"
                )
            if any(padding) and not layer.count_include_pad:
                raise UserError(
                    f"layer {name!r} leaves the border out of its averages (count_include_pad=False), NIR's counts it"
                )
        sizes = np.array(kernel), np.array(stride), np.array(padding)
        if is_sum:
            return nir.SumPool2d(*sizes, metadata=facts)
        if not self.ahead:  # no neurons follow that could be scaled instead
            return nir.AvgPool2d(*sizes, metadata=facts)
        self.gain *= window(layer)
        return nir.SumPool2d(*sizes, metadata=in_order(facts, {"pool": "average"}))


def _gain_is_taken(following: Sequence[tuple[str, torch.nn.Module]]) -> bool:
    """Whether the next neurons or thresholds can be scaled by what average pooling leaves out."""
    for _, layer in following:
        export = export_of(layer)
        if export is not None or isinstance(layer, nn.Heaviside):
            return export is None or export.takes_gain
    return False


def feedback(name: str, weights: torch.nn.Module, shape: Shape, gain: int) -> nir.NIRNode:
    """Make the node of the recurrent ``weights`` of neurons, with currents ``gain`` times too large too."""
    if type(weights) is nn.Linear:
        node: nir.NIRNode = nir.Affine(_array(weights.weight, name) * gain, bias(weights, name, gain))
    elif type(weights) is nn.Conv2d:
        node = convolution(weights, name, shape, gain)
        node.weight = node.weight * gain
    else:
        raise UserError(f"layer {name!r} feeds back through a {type(weights).__name__}; NIR takes Linear or Conv2d")
    return node


def bias(layer: nn.Linear | nn.Conv2d, name: str, gain: int) -> np.ndarray:
    """Return the bias of ``layer`` times ``gain``; zeros where there is none."""
    return np.zeros(layer.weight.shape[0]) if layer.bias is None else _array(layer.bias, name) * gain


def convolution(layer: nn.Conv2d, name: str, shape: Shape, gain: int) -> nir.Conv2d:
    """Make the node of a convolution, with the bias times ``gain``."""
    if layer.padding_mode != "zeros":
        raise UserError(f"layer {name!r} pads with {layer.padding_mode!r}, NIR only with zeros")
    return nir.Conv2d(
        input_shape=shape[1:],
        weight=_array(layer.weight, name),
        stride=tuple(layer.stride),
        padding=_padding(layer),
        dilation=tuple(layer.dilation),
        groups=layer.groups,
        bias=bias(layer, name, gain),
    )


def _padding(layer: nn.Conv2d) -> tuple[int, ...] | str:
    """Convert the padding to numbers, which more importers read; ``same`` where its two borders differ."""
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    if layer.padding == "valid":
        return (0, 0)
    total = [gap * (width - 1) for gap, width in zip(layer.dilation, layer.kernel_size, strict=True)]
    return "same" if any(border % 2 for border in total) else tuple(border // 2 for border in total)


_MAKERS: dict[type[torch.nn.Module], Callable[..., nir.NIRNode]] = {
    nn.Flatten: Maker.flatten, nn.FlattenAxes: Maker.flatten_axes, nn.Linear: Maker.linear, nn.Conv2d: Maker.conv,
    nn.Scale: Maker.scale, nn.Delay: Maker.delay, nn.AvgPool2d: Maker.pool, nn.Heaviside: Maker.heaviside,
}  # fmt: skip

_ADVICE = {
    "MultiSpikeLIF": "read or train it with neurons that fire once a step (nn.LIF, spikes='single')",
    "Alpha": "two synapses of one neuron would be two branches; train with nn.Synaptic or nn.LIF",
    "ALIF": "its thresholds move, and those of NIR stand still; train with nn.LIF (without --adapt)",
    "RecurrentALIF": "its thresholds move, and those of NIR stand still; train with nn.RecurrentLIF (without --adapt)",
    "MaxPool2d": "train with average pooling (--pool avg)",
    "ReLU": "train a spiking network, such as --model lif-mlp",
    "BatchNorm1d": "fold it into the weights in front of it first, hw_export.quantize.fold_batchnorm",
    "BatchNorm2d": "fold it into the weights in front of it first, hw_export.quantize.fold_batchnorm",
}


def _array(tensor: Tensor, name: str) -> np.ndarray:
    array = tensor.detach().to("cpu", torch.float64).numpy()
    if not math.isfinite(float(np.abs(array).sum())):
        raise UserError(f"layer {name!r} has weights that are not finite")
    return array
