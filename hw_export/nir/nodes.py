"""Layers as nodes of NIR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor

from hw_export.chain import window
from hw_export.nir.dialects import Dialect
from hw_export.nir.metadata import in_order
from hw_export.nir.shapes import pair
from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.functional.lif import LIFParameters

Shape = tuple[int, ...]


@dataclass
class Maker:
    """Makes the node of a layer, one method for each kind.

    gain: how many times too large the values are that flow behind the last node, since average pooling is written as a
    sum. neurons: the spiking layers so far. offset: what is to be added behind the last node, ``None`` for nothing: in
    NIR only neurons and thresholds can; adder: the layer that said so. ahead: whether such a layer is still to come.
    """

    dialect: Dialect
    dialect_name: str
    write_if: bool = False
    gain: int = 1
    neurons: list[nn.Neurons] = field(default_factory=list)
    offset: np.ndarray | None = None
    adder: str = ""
    ahead: bool = True

    def node(self, name: str, layer: torch.nn.Module, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode | None:
        """The node of ``layer``, which takes inputs of ``shape``; ``None`` if it does nothing here. facts: more for
        its metadata. :class:`~spikelfp.errors.UserError` where NIR has no word for it.
        """
        if isinstance(layer, nn.Dropout) or (isinstance(layer, nn.Flatten) and len(shape) == 1):
            return None
        if getattr(layer, "grid", None) is not None:
            raise UserError(
                f"layer {name!r} was trained with quantised weights: export the integers it computes with, by "
                "hw_export.quantize(net)"
            )
        make = _MAKERS.get(type(layer))
        if self.offset is not None and not isinstance(layer, TAKERS):
            raise self.stranded()
        if make is None:
            advice = {
                "MultiSpikeLIF": "read or train it with neurons that fire once a step (nn.LIF, spikes='single')",
                "MaxPool2d": "train with average pooling (--pool avg)",
                "ReLU": "train a spiking network, such as --model lif-mlp",
                "BatchNorm1d": "fold it into the weights in front of it first, hw_export.quantize.fold_batchnorm",
                "BatchNorm2d": "fold it into the weights in front of it first, hw_export.quantize.fold_batchnorm",
            }.get(type(layer).__name__, "leave it out or replace it")
            raise UserError(f"layer {name!r} is a {type(layer).__name__}, which NIR has no node for: {advice}")
        return make(self, name, layer, shape, facts)

    def stranded(self) -> UserError:
        """The error for an offset that no neurons take up."""
        return UserError(
            f"layer {self.adder!r} adds an offset, which NIR says by v_leak or a threshold of neurons directly behind, "
            "and there are none: put it into the bias of a layer of weights"
        )

    def taken(self, shape: Shape) -> np.ndarray | float:
        """The offset that the neurons at hand take up."""
        found, self.offset = self.offset, None
        return 0.0 if found is None else np.array(np.broadcast_to(found, shape))

    def feedback(self, name: str, layer: nn.RecurrentLIF, shape: Shape, gain: int) -> nir.NIRNode:
        """The node of the recurrent weights of ``layer``, whose currents must arrive ``gain`` times too large too."""
        weights = layer.recurrent
        if type(weights) is nn.Linear:
            node: nir.NIRNode = nir.Affine(_array(weights.weight, name) * gain, bias(weights, name, gain))
        elif type(weights) is nn.Conv2d:
            node = convolution(weights, name, shape, gain)
            node.weight = node.weight * gain
        else:
            raise UserError(f"layer {name!r} feeds back through a {type(weights).__name__}; NIR takes Linear or Conv2d")
        return node

    def flatten(self, name: str, layer: nn.Flatten, shape: Shape, facts: dict[str, Any]) -> nir.Flatten:
        return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1, metadata=facts)

    def flatten_axes(self, name: str, layer: nn.FlattenAxes, shape: Shape, facts: dict[str, Any]) -> nir.Flatten:
        return nir.Flatten({"input": np.array(shape)}, start_dim=layer.start, end_dim=layer.end, metadata=facts)

    def linear(self, name: str, layer: nn.Linear, shape: Shape, facts: dict[str, Any]) -> nir.Affine:
        return nir.Affine(_array(layer.weight, name), bias(layer, name, self.gain), metadata=facts)

    def conv(self, name: str, layer: nn.Conv2d, shape: Shape, facts: dict[str, Any]) -> nir.Conv2d:
        node = convolution(layer, name, shape, self.gain)
        node.metadata = facts
        return node

    def scale(self, name: str, layer: nn.Scale, shape: Shape, facts: dict[str, Any]) -> nir.Scale | None:
        if layer.shift.any():
            self.offset, self.adder = _array(layer.shift, name), name
            if bool((layer.scale == 1).all()):
                return None
        return nir.Scale(np.array(np.broadcast_to(_array(layer.scale, name), shape)), metadata=facts)

    def heaviside(self, name: str, layer: nn.Heaviside, shape: Shape, facts: dict[str, Any]) -> nir.Threshold:
        threshold = np.zeros(shape) - self.taken(shape) * self.gain
        self.gain = 1
        return nir.Threshold(threshold, metadata=facts)

    def pool(self, name: str, layer: nn.AvgPool2d, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode:
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
        if not self.ahead:  # no neurons behind that could be scaled instead
            return nir.AvgPool2d(*sizes, metadata=facts)
        self.gain *= window(layer)
        return nir.SumPool2d(*sizes, metadata=in_order(facts, {"pool": "average"}))

    def readout(self, name: str, layer: nn.LI, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode:
        """Membranes are the output, so they stand in our units, whatever the dialect."""
        facts = in_order(facts, {"beta": layer.beta, "dt": self.dialect.dt})
        gain, self.gain = self.gain, 1
        ones = np.ones(shape, np.float64)
        if layer.beta == 1.0:
            if self.offset is not None:
                raise UserError(
                    f"layer {self.adder!r} adds an offset in front of {name!r}, which does not leak (beta=1): NIR's I "
                    "has no v_leak for it"
                )
            return nir.I(r=ones / gain, metadata=facts)
        tau = ones * self.dialect.tau(layer.beta)
        v_leak = ones * self.taken(shape) / (1.0 - layer.beta)
        return nir.LI(tau=tau, r=ones / ((1.0 - layer.beta) * gain), v_leak=v_leak, metadata=facts)

    def spiking(self, name: str, layer: nn.Neurons, shape: Shape, facts: dict[str, Any]) -> nir.NIRNode:
        p, gain = layer.constants, self.gain
        facts = in_order(
            {"layer": name},
            facts,
            {"dt": self.dialect.dt, "beta": p.beta, "threshold": p.threshold, "threshold_op": ">", "reset": p.reset},
        )
        self.neurons.append(layer)
        self.gain = 1
        if self.offset is not None:
            facts = in_order(facts, {"offset": "v_leak"})
            self._check_offset(name, layer)
        offset = self.taken(shape)
        if isinstance(layer, (nn.Synaptic, nn.RecurrentSynaptic)):
            return self._cuba(name, p, layer.alpha, shape, gain, facts)
        if p.beta < 1.0:
            return self.dialect.lif(p, shape, gain, facts, offset)
        if not self.write_if:
            raise UserError(
                f"the neurons {name!r} do not leak (beta=1): NIR's LIF would need an infinite time constant, and its "
                "IF is read as three different neurons by snnTorch, norse and sinabs. Train with beta below 1, or pass "
                "write_if=True if what reads the file steps an IF by v += r I"
            )
        ones = np.ones(shape, np.float64)
        return nir.IF(r=ones, v_threshold=ones * (p.threshold * gain), v_reset=ones * 0, metadata=facts)

    def _check_offset(self, name: str, layer: nn.Neurons) -> None:
        """Refuse an offset in front of neurons whose node has no place for it."""
        begun = f"layer {self.adder!r} adds an offset in front of the neurons {name!r}, "
        if isinstance(layer, (nn.Synaptic, nn.RecurrentSynaptic)):
            raise UserError(f"{begun}whose synapses sum it up; v_leak of NIR's CubaLIF acts on the membrane alone")
        if layer.constants.beta == 1.0:
            raise UserError(f"{begun}which do not leak (beta=1): NIR's IF has no v_leak for it")
        if not self.dialect.offsets:
            raise UserError(
                f"{begun}which is a v_leak in NIR: the dialect {self.dialect_name!r} is written with v_leak = 0, take "
                "the default one"
            )

    def _cuba(
        self, name: str, p: LIFParameters, alpha: float, shape: Shape, gain: int, facts: dict[str, Any]
    ) -> nir.CubaLIF:
        if not self.dialect.synapses:
            raise UserError(
                f"the neurons {name!r} have a synaptic current, which the dialect {self.dialect_name!r} has no neurons "
                "for: write them in the default dialect"
            )
        if p.beta == 1.0 or alpha == 1.0:
            raise UserError(
                f"the neurons {name!r} do not leak (alpha={alpha}, beta={p.beta}): NIR's CubaLIF always does"
            )
        return self.dialect.cuba(p, alpha, shape, gain, in_order(facts, {"alpha": alpha}))


def bias(layer: nn.Linear | nn.Conv2d, name: str, gain: int) -> np.ndarray:
    """The bias of ``layer`` times ``gain``; zeros where there is none."""
    return np.zeros(layer.weight.shape[0]) if layer.bias is None else _array(layer.bias, name) * gain


def convolution(layer: nn.Conv2d, name: str, shape: Shape, gain: int) -> nir.Conv2d:
    """The node of a convolution; the bias ``gain`` times too large."""
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
    """The padding in numbers, which more importers read; ``same`` where its two borders differ."""
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    if layer.padding == "valid":
        return (0, 0)
    total = [gap * (width - 1) for gap, width in zip(layer.dilation, layer.kernel_size, strict=True)]
    return "same" if any(border % 2 for border in total) else tuple(border // 2 for border in total)


TAKERS = (nn.Neurons, nn.LI, nn.Heaviside)
"""Layers that end sums: what is behind them is in our units again."""

_MAKERS: dict[type[torch.nn.Module], Callable[..., nir.NIRNode]] = {
    nn.Flatten: Maker.flatten, nn.FlattenAxes: Maker.flatten_axes, nn.Linear: Maker.linear, nn.Conv2d: Maker.conv,
    nn.Scale: Maker.scale, nn.AvgPool2d: Maker.pool, nn.LI: Maker.readout, nn.LIF: Maker.spiking,
    nn.Heaviside: Maker.heaviside, nn.Synaptic: Maker.spiking, nn.RecurrentLIF: Maker.spiking,
    nn.RecurrentSynaptic: Maker.spiking,
}  # fmt: skip


def _array(tensor: Tensor, name: str) -> np.ndarray:
    array = tensor.detach().to("cpu", torch.float64).numpy()
    if not math.isfinite(float(np.abs(array).sum())):
        raise UserError(f"layer {name!r} has weights that are not finite")
    return array
