"""Layer by layer from the nodes on the way through a graph to a network."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np
import torch

from hw_export.chain import window
from hw_export.nir import layers
from hw_export.nir.dialects import Dialect
from hw_export.nir.metadata import plain
from hw_export.nir.neurons import Constants, Step, constants, readouts
from hw_export.nir.reading import Reading
from hw_export.nir.route import SPIKING, Stop
from spikelfp import nn
from spikelfp.errors import DataError, ShapeError

READOUTS = (nir.LI, nir.I, nir.CubaLI)


@dataclass
class Assembly:
    """Collects layers. sample: what flows behind the last of them, ``[1, 1, …]``. gain: how many times larger the
    values of the file are there, which writes average pooling as a sum.
    """

    reading: Reading
    sample: torch.Tensor
    gain: int = 1
    made: OrderedDict[str, torch.nn.Module] = field(default_factory=OrderedDict)
    node_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample at one step."""
        return tuple(self.sample.shape[2:])

    def add(self, stop: Stop) -> None:
        """Add the layers of one node; :class:`~spikelfp.errors.DataError` naming it if there are none for it."""
        node, name = stop.node, stop.name
        if isinstance(node, (nir.Affine, nir.Linear, nir.Conv2d)):
            self._check_input_shape(name, node)
            self._append(name, node, layers.weights(name, node, self.gain))
        elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            self._pool(name, node)
        elif isinstance(node, nir.Flatten):
            self._check_input_shape(name, node)
            layer = layers.flatten(name, node, self.shape)
            if layer is not None:
                self._append(name, node, layer)
        elif isinstance(node, SPIKING):
            self._spiking(stop)
        elif isinstance(node, READOUTS):
            self._readout(name, node)
        elif isinstance(node, nir.Scale):
            self._check_parameters(name, node, "scale")
            self._append(name, node, nn.Scale(torch.as_tensor(np.asarray(node.scale, np.float32))))
        elif isinstance(node, nir.Threshold):
            self._check_parameters(name, node, "threshold")
            self._drive(name, 1.0, -np.asarray(node.threshold, np.float64) / self.gain)
            self._append(name, node, nn.Heaviside())
            self.gain = 1
        else:
            advice = {
                "Delay": "delays are not simulated here, take it out or write a network without",
                "Conv1d": "write it as a Conv2d of height 1",
            }.get(type(node).__name__, "leave it out or replace it")
            raise DataError(f"{name!r} is a {type(node).__name__}, which has no layer here: {advice}")

    def _append(self, name: str, node: nir.NIRNode | None, layer: torch.nn.Module) -> None:
        label = module_name(name, self.made)
        try:
            with torch.no_grad():
                self.sample = layer(self.sample)
        except (RuntimeError, ShapeError) as error:
            kind = "layer" if node is None else type(node).__name__
            reason = str(error).splitlines()[0]
            raise DataError(f"the {kind} {name!r} does not take an input of {list(self.shape)}: {reason}") from None
        self.made[label] = layer
        if node is not None and node.metadata:
            self.node_metadata[label] = plain(node.metadata)

    def _check_input_shape(self, name: str, node: nir.NIRNode) -> None:
        """A convolution and a Flatten say what they take."""
        if isinstance(node, nir.Flatten):
            said, arrives = node.input_type["input"], self.shape
        elif isinstance(node, nir.Conv2d):
            said, arrives = node.input_shape, self.shape[1:]
        else:
            return
        if said is not None and not np.array_equal(np.asarray(said), arrives):
            raise DataError(
                f"{name!r} is made for an input of {np.asarray(said).tolist()}, {list(arrives)} arrives there"
            )

    def _check_parameters(self, name: str, node: nir.NIRNode, key: str) -> None:
        shape = np.asarray(getattr(node, key)).shape
        if shape != self.shape:
            raise DataError(
                f"the parameters of the {type(node).__name__} {name!r} have shape {list(shape)}, an input of "
                f"{list(self.shape)} arrives there"
            )

    def _pool(self, name: str, node: nir.SumPool2d | nir.AvgPool2d) -> None:
        ours = self.reading.dialect is not None and plain(node.metadata.get("pool")) == "average"
        pool = layers.pooling(node, isinstance(node, nir.AvgPool2d) or ours)
        self._append(name, node, pool)
        if ours and isinstance(node, nir.SumPool2d):
            self.gain *= window(pool)

    def _drive(self, name: str, scale: Any, shift: Any) -> None:
        """``scale ⊙ x + shift`` in front of the neurons ``name``: by the weights there, else by a layer of its own."""
        layer = layers.elementwise(scale, shift, self.shape)
        if layer is None:
            return
        last = next(reversed(self.made.values()), None)
        if last is None or not layers.folded(last, scale, shift, self.shape):
            self._append(f"{name}_drive", None, layer)

    def _spiking(self, stop: Stop) -> None:
        node, name = stop.node, stop.name
        self._check_parameters(name, node, "v_threshold")
        metadata = plain(node.metadata)
        step = self.reading.step(name, metadata, node)
        found = constants(name, node, step)
        if self.reading.dialect is not None:
            found = as_written(name, node, found, step, metadata, self.reading.dialect, self.gain)
        else:
            found = replace(found, threshold=found.threshold / self.gain, shift=found.shift / self.gain)
        reset = self.reading.reset(name, node, metadata)
        feedback = None
        if stop.feedback is not None:
            back, back_node = stop.feedback
            feedback = layers.weights(back, back_node, self.gain, self.gain)
            if np.any(np.asarray(found.scale) != 1.0) and not layers.folded(feedback, found.scale, 0.0, self.shape):
                raise DataError(f"the neurons {name!r} differ within the channels of their feedback {back!r}")
        self._drive(name, found.scale, found.shift)
        self._append(name, node, self.reading.neurons(name, found, reset, feedback))
        self.gain = 1

    def _readout(self, name: str, node: nir.NIRNode) -> None:
        self._check_parameters(name, node, "r")
        metadata = plain(node.metadata)
        stages = readouts(name, node, self.reading.step(name, metadata, node))
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            beta = stage.beta
            if self.reading.dialect is not None and "beta" in metadata:
                beta = agreed(name, "beta", metadata["beta"], beta)
            self._drive(name, stage.scale * self.gain, stage.shift)
            self.gain = 1
            if beta:
                self._append(name if last else f"{name}_synapse", node if last else None, nn.LI(beta))


def as_written(
    name: str, node: nir.NIRNode, found: Constants, step: Step, metadata: dict[str, Any], dialect: Dialect, gain: int
) -> Constants:
    """The constants that a file of ours states exactly in its metadata, after a check against the node itself."""
    threshold = found.threshold
    if isinstance(node, nir.LIF):
        threshold = float(dialect.constants(node, step.dt)[1].flat[0])
    threshold /= gain
    for key in ("beta", "threshold"):
        if key not in metadata:
            raise DataError(f"the neurons {name!r} carry no {key!r} in their metadata, as files of ours do")
    if np.any(np.asarray(found.scale) != 1.0) or np.any(found.shift):
        raise DataError(f"the parameters of the neurons {name!r} were changed after the file was written")
    return Constants(
        beta=agreed(name, "beta", metadata["beta"], found.beta),
        threshold=agreed(name, "threshold", metadata["threshold"], threshold),
        alpha=agreed(name, "alpha", metadata["alpha"], found.alpha) if "alpha" in metadata else found.alpha,
    )


def agreed(name: str, key: str, stated: Any, computed: float) -> float:
    """``stated``, if the parameters of the node say the same but for rounding."""
    if not math.isclose(float(stated), computed, rel_tol=1e-6):
        raise DataError(
            f"the metadata of the neurons {name!r} say {key} = {float(stated):g}, their parameters {computed:g}: the "
            "file was changed after it was written"
        )
    return float(stated)


def module_name(name: str, taken: OrderedDict[str, torch.nn.Module]) -> str:
    """``name`` as that of a layer: without dots, and none that a network needs for itself."""
    label = name.replace(".", "_") or "_"
    while label in taken or hasattr(_EMPTY, label):
        label += "_"
    return label


_EMPTY = nn.Sequential()
