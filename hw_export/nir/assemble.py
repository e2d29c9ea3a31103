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
from hw_export.nir.imported import ImportedNetwork
from hw_export.nir.metadata import check_integers, is_number, plain, short
from hw_export.nir.neurons import Constants, Step, constants, readouts
from hw_export.nir.reading import Reading
from hw_export.nir.route import SPIKING, Stop
from hw_export.nir.shapes import Shape, fields, passed
from spikelfp import nn
from spikelfp.errors import DataError

READOUTS = (nir.LI, nir.I, nir.CubaLI)


@dataclass
class Assembly:
    """Collects layers. shape: of one sample at one step behind the last of them. gain: how many times larger the
    values of the file are there, which writes average pooling as a sum.
    """

    reading: Reading
    shape: Shape
    gain: int = 1
    made: OrderedDict[str, torch.nn.Module] = field(default_factory=OrderedDict)
    node_metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, stop: Stop) -> None:
        """Add the layers of one node; :class:`~spikelfp.errors.DataError` naming it if there are none for it."""
        node, name = stop.node, stop.name
        metadata = plain(node.metadata)
        if self.reading.dialect is not None:
            check_integers(metadata, "", f"the {type(node).__name__} {name!r}")
        if isinstance(node, (nir.Affine, nir.Linear, nir.Conv2d)):
            layer = layers.weights(name, node, self.gain)
            behind = passed(name, fields(node), self.shape)
            self._append(name, node, layer)
        elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
            behind = passed(name, fields(node), self.shape)
            self._pool(name, node)
        elif isinstance(node, nir.Flatten):
            flat = layers.flatten(name, node, self.shape)
            behind = passed(name, fields(node), self.shape)
            if flat is not None:
                self._append(name, node, flat)
        elif isinstance(node, SPIKING):
            behind = passed(name, fields(node), self.shape)
            self._spiking(stop)
        elif isinstance(node, READOUTS):
            behind = passed(name, fields(node), self.shape)
            self._readout(name, node)
        elif isinstance(node, nir.Scale):
            behind = passed(name, fields(node), self.shape)
            self._append(name, node, nn.Scale(layers.float32(name, "scale", node.scale)))
        elif isinstance(node, nir.Threshold):
            behind = passed(name, fields(node), self.shape)
            self._drive(name, 1.0, -np.asarray(node.threshold, np.float64) / self.gain)
            self._append(name, node, nn.Heaviside())
            self.gain = 1
        else:
            advice = {
                "Delay": "delays are not simulated here, take it out or write a network without",
                "Conv1d": "write it as a Conv2d of height 1",
            }.get(type(node).__name__, "leave it out or replace it")
            raise DataError(f"{name!r} is a {type(node).__name__}, which has no layer here: {advice}")
        self.shape = behind

    def _append(self, name: str, node: nir.NIRNode | None, layer: torch.nn.Module) -> None:
        label = module_name(name, self.made)
        self.made[label] = layer
        if node is not None and node.metadata:
            self.node_metadata[label] = plain(node.metadata)

    def _pool(self, name: str, node: nir.SumPool2d | nir.AvgPool2d) -> None:
        ours = self.reading.dialect is not None and plain(node.metadata.get("pool")) == "average"
        pool = layers.pooling(node, isinstance(node, nir.AvgPool2d) or ours)
        self._append(name, node, pool)
        if ours and isinstance(node, nir.SumPool2d):
            self.gain *= window(pool)

    def _drive(self, name: str, scale: Any, shift: Any) -> None:
        """``scale ⊙ x + shift`` in front of the neurons ``name``: by the weights there, else by a layer of its own."""
        layer = layers.elementwise(name, scale, shift, self.shape)
        if layer is None:
            return
        last = next(reversed(self.made.values()), None)
        apart = self.reading.dialect is not None  # what to_nir found apart stays apart: sums round as they did
        if apart or last is None or not layers.folded(name, last, scale, shift, self.shape):
            self._append(f"{name}_drive", None, layer)

    def _spiking(self, stop: Stop) -> None:
        node, name = stop.node, stop.name
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
            returned = passed(back, fields(back_node), self.shape)
            if returned != self.shape:
                raise DataError(
                    f"the feedback {back!r} gives {list(returned)}, the neurons {name!r} take {list(self.shape)}"
                )
            scaled = np.any(np.asarray(found.scale) != 1.0)
            if scaled and not layers.folded(back, feedback, found.scale, 0.0, self.shape):
                raise DataError(f"the neurons {name!r} differ within the channels of their feedback {back!r}")
        self._drive(name, found.scale, found.shift)
        self._append(name, node, self.reading.neurons(name, found, reset, feedback))
        self.gain = 1

    def _readout(self, name: str, node: nir.NIRNode) -> None:
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
    if np.any(np.asarray(found.scale) != 1.0) or (np.any(found.shift) and metadata.get("offset") != "v_leak"):
        raise DataError(f"the parameters of the neurons {name!r} were changed after the file was written")
    return Constants(
        beta=agreed(name, "beta", metadata["beta"], found.beta),
        threshold=agreed(name, "threshold", metadata["threshold"], threshold),
        alpha=agreed(name, "alpha", metadata["alpha"], found.alpha) if "alpha" in metadata else found.alpha,
        shift=found.shift / gain,
    )


def agreed(name: str, key: str, stated: Any, computed: float) -> float:
    """``stated``, if the parameters of the node say the same but for rounding."""
    if not is_number(stated):
        raise DataError(f"{key} in the metadata of the neurons {name!r} is {short(stated)}, expected a number")
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


_EMPTY = ImportedNetwork()
