"""What a network is made from, and what its options are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from spikelfp.options import option
from spikelfp.registry import Registry

Hidden = Annotated[tuple[int, ...], option("neurons of the hidden layers, such as 1000,1000", within="[1, ∞)")]
Pool = Annotated[str, option("pooling; every simulator can run avg", names=("max", "avg"))]
Noise = Annotated[float, option("deviation of the noise in front of layers with weights, in training", within="[0, ∞)")]
Width = Annotated[int, option("channels of the first convolution, or features of a token", within="[1, ∞)")]
Bias = Annotated[bool, option("biases of layers with weights; some chips have none")]
Dropout = Annotated[
    float, option("part of the hidden neurons that are left out at a time in training", within="[0, 1)")
]
Readout = Annotated[
    str | None,
    option(
        "last layer: neurons that fire, or leaky integrators, whose membranes are real values",
        names=("lif", "li"),
        automatic="lif for classes, li for other tasks",
        name="output",
    ),
]
Size = Annotated[int, option(within="[1, ∞)")]

models: Registry[Any] = Registry("model", takes=("shape", "classes"))
"""Functions ``(shape, classes, *, options…) → network``.

Their keywords are the options of the network (:mod:`spikelfp.options`), on the command line too; one that also takes
``**neuron`` takes those of :class:`spikelfp.nn.LIF`. What cannot be seen there may be said where it is registered::

    @models.register("mine", spiking=True, normalizes=False)
    def mine(shape, classes, *, hidden: tuple[int, ...] = (100,), bias: bool = True, **neuron): ...

spiking: whether it has neurons that fire. normalizes: whether it has normalisation layers. Where nothing is said a
network is built to see.
"""


@dataclass(frozen=True, init=False)
class ModelSpec:
    """All that :func:`build` needs to make a network again: plain data.

    Attributes:
        name: of the network, in :data:`models`.
        shape: of one input, without batch.
        classes: number of outputs.
        options: those of the network by their names; one that it does not have changes nothing.
        neuron: arguments of :class:`spikelfp.nn.LIF`.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    neuron: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        classes: int,
        options: Mapping[str, Any] | None = None,
        neuron: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        for attribute, value in (("name", name), ("shape", tuple(shape)), ("classes", classes)):
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "options", {**(options or {}), **more})
        object.__setattr__(self, "neuron", dict(neuron or {}))
