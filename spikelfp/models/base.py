"""Models by name: their registry, their options, and the layers and checks that they share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import torch

from spikelfp import checks, nn
from spikelfp.errors import ShapeError, UserError
from spikelfp.models.adaptive import make_adaptive
from spikelfp.models.decays import spread_decays
from spikelfp.nn import graph
from spikelfp.nn.shape import DROPS, DROPS_OVER
from spikelfp.options import Condition, option, options_in
from spikelfp.registry import Registry, check_name, takes_any
from spikelfp.scalars import as_whole

Hidden = Annotated[tuple[int, ...], option("neurons of the hidden layers, such as 1000,1000", within="[1, ∞)")]
Pool = Annotated[str, option("pooling; every simulator can run avg", names=("max", "avg"))]
Noise = Annotated[float, option("deviation of the noise in front of layers with weights, in training", within="[0, ∞)")]
Width = Annotated[int, option("channels of the first convolution, or features of a token", within="[1, ∞)")]
Bias = Annotated[bool, option("biases of layers with weights; some chips have none")]
Dropout = Annotated[
    float, option("part of the hidden neurons that are left out at a time in training", within="[0, 1)")
]
_DROPS = Condition("--dropout", lambda view: bool(view.dropout), ("dropout",))  # models differ in their defaults
DropoutOver = Annotated[
    str,
    option(
        "whether the neurons that are left out are the same in a whole sequence, or drawn anew at every step",
        names=DROPS_OVER,
        owner=_DROPS,
    ),
]
DropoutOf = Annotated[
    str,
    option(
        "whether single neurons of the convolutions are left out, or whole channels",
        names=DROPS,
        owner=_DROPS,
    ),
]
Readout = Annotated[
    str | None,
    option(
        "last layer: neurons that fire, or leaky integrators, whose membranes are real values",
        names=("lif", "li"),
        automatic="lif for classes, li for other tasks and for methods that read integrators (e-prop)",
        name="output",
    ),
]
Delays = Annotated[
    tuple[int, ...],
    option(
        "delays in steps of which every connection has a weight each, such as 0,1,2,4,8; 0 alone is a plain connection",
        within="[0, 65535]",
    ),
]
Size = Annotated[int, option(within="[1, ∞)")]

models: Registry[Any] = Registry("model", takes=("shape", "classes"))
"""Functions ``(shape, classes, *, options…) → network``.

Their keywords are the options of the network (:mod:`spikelfp.options`), on the command line too. A function that also
takes ``**neuron`` takes the options of :class:`spikelfp.nn.LIF`. Facts about a network are stated where it is
registered::

    @models.register("mine", spiking=True, normalizes=False)
    def mine(shape, classes, *, hidden: tuple[int, ...] = (100,), bias: bool = True, **neuron): ...

``spiking`` says whether it has neurons that fire, ``normalizes`` whether it has normalisation layers. Without these a
network is built to find out.
"""


@dataclass(frozen=True, init=False)
class ModelSpec:
    """Description of a network, all that :func:`build` needs to make it: plain data.

    Args:
        name: of the network, in :data:`models`.
        shape: of one input, without batch.
        classes: number of outputs.
        options: those of the network by their names; one that it does not have changes nothing.
        neuron: arguments of :class:`spikelfp.nn.LIF`.
        decays: distribution of the decays of neurons, ``{"name": "gamma", "k": 3.0}``, of
            :data:`spikelfp.models.decay_starts`; empty where a layer shares one.
        adapt: arguments of :func:`spikelfp.models.make_adaptive`; empty for thresholds that stay.
        more: further options.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    neuron: Mapping[str, Any] = field(default_factory=dict)
    decays: Mapping[str, Any] = field(default_factory=dict)
    adapt: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        classes: int,
        options: Mapping[str, Any] | None = None,
        neuron: Mapping[str, Any] | None = None,
        decays: Mapping[str, Any] | None = None,
        adapt: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        for attribute, value in (("name", name), ("shape", tuple(shape)), ("classes", classes)):
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "options", {**(options or {}), **more})
        object.__setattr__(self, "neuron", dict(neuron or {}))
        object.__setattr__(self, "decays", dict(decays or {}))
        object.__setattr__(self, "adapt", dict(adapt or {}))


def build(spec: ModelSpec) -> nn.Sequential:
    """Make a network with fresh weights from torch's random state.

    Args:
        spec: its description.

    Raises:
        UnknownNameError: for a model that is not registered.
        UserError: for options that the network refuses.
    """
    own = options_in(models, spec.name)
    options = {own[name].parameter: value for name, value in spec.options.items() if name in own}
    neuron = spec.neuron if takes_any(models[spec.name]) else {}
    net: nn.Sequential = models[spec.name](spec.shape, spec.classes, **options, **neuron)
    if spec.adapt:
        make_adaptive(net, **spec.adapt)
    if spec.decays and spec.decays["name"] != "shared":
        spread_decays(
            net, spec.shape, **{"start" if name == "name" else name: own for name, own in spec.decays.items()}
        )
    return net


def takes_neuron(name: str) -> bool:
    """Whether a network takes options of its neurons.

    Args:
        name: of the model.
    """
    return takes_any(models[name])


def is_spiking(name: str) -> bool:
    """Whether a network has neurons that fire.

    Args:
        name: of the model; one that is not registered has none.
    """
    stated = models.fact(name, "spiking") if name in models else False
    return (
        any(graph.has_trait(each, "fires") for each in _example(models[name]).modules()) if stated is None else stated
    )


def normalizes(name: str) -> bool:
    """Whether a network has normalisation layers.

    Args:
        name: of the model.
    """
    stated = models.fact(name, "normalizes")
    return any("Norm" in type(each).__name__ for each in _example(models[name]).modules()) if stated is None else stated


@functools.cache
def _example(builder: Callable[..., torch.nn.Module]) -> torch.nn.Module:
    """Network of a function that does not state what is in it, without memory for its weights."""
    for shape in ((1, 32, 32), (3, 224, 224), (2, 128, 128), (64,), (8, 8)):
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                return builder(shape, 2)
        except (UserError, RuntimeError, ValueError, TypeError):
            continue
    name = next(each for each in models if models[each] is builder)
    raise UserError(
        f"the model {name} cannot be built for images to see whether it has spiking neurons: say so where it is "
        f'registered, models.register("{name}", spiking=True, normalizes=False)'
    )


Weighted = TypeVar("Weighted", nn.Conv2d, nn.Linear)


def noisy(layer: nn.Layer, noise: float) -> list[nn.Layer]:
    """List :class:`spikelfp.nn.Noise` of a standard deviation and the ``layer`` after it; for 0 only the layer."""
    return [nn.Noise(noise), layer] if noise else [layer]


def dropped(p: float, over: str, of: str = "elements") -> list[nn.Layer]:
    """List :class:`spikelfp.nn.Dropout` behind hidden neurons; for ``p`` = 0 nothing."""
    return [nn.Dropout(p, over, of)] if p else []


def last_layer(readout: str | None, neuron: dict[str, Any]) -> nn.Layer:
    """Make the layer after the last weights.

    Args:
        readout: ``lif`` or ``None``, neurons that fire, or ``li``, leaky integrators with the neurons' β, whose
            membranes are real values.
        neuron: arguments of :class:`spikelfp.nn.LIF`.

    Raises:
        UnknownNameError: for another readout.
    """
    if readout is not None:
        check_name("readout", readout, ("lif", "li"))
    if readout != "li":
        return nn.LIF(**neuron)
    return nn.LI(neuron["beta"]) if "beta" in neuron else nn.LI()


def he_convolutions_(net: nn.Sequential) -> nn.Sequential:
    """Draw the convolution weights of a network from ``N(0, 2 / fan_out)`` (He et al. 2015), as torchvision does.

    Torch's own initialisation lets signals shrink from layer to layer; sixteen layers without BatchNorm do not learn
    from it. Biases keep torch's: one of exactly 0 is never updated by LFP.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def he(layer: Weighted) -> Weighted:
    """Draw the weights of a layer from ``N(0, 2 / fan_in)`` (He et al. 2015).

    In front of LIF neurons this keeps the currents of each layer near the threshold, so that spikes reach the output of
    a deep network; with torch's own initialisation they die out on the way.
    """
    torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def dense(inputs: int, outputs: int, bias: bool, delays: Sequence[int]) -> nn.Linear | nn.DelayLinear:
    """Make a dense layer, with a weight for each delay unless the only one is 0.

    Args:
        inputs: features of its input.
        outputs: features of its output.
        bias: whether it has a bias.
        delays: steps, each once.

    Raises:
        UserError: for other delays.
    """
    if tuple(delays) == (0,):
        return nn.Linear(inputs, outputs, bias)
    return nn.DelayLinear(inputs, outputs, delays, bias)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1, of Python or numpy."""
    return (as_whole(value) or 0) >= 1


def check_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the sizes of dense layers: an input and an output at least, whole numbers of at least 1.

    Raises:
        UserError: for anything else.
    """
    if isinstance(sizes, str) or not hasattr(sizes, "__len__") or len(sizes) < 2 or not all(map(is_count, sizes)):
        raise UserError(
            "sizes need an input and an output, all whole numbers of at least 1, such as [784, 1000, 10], got "
            f"{sizes!r:.80}"
        )
    return [int(size) for size in sizes]


def check_classes(classes: int) -> int:
    """Return the number of outputs.

    Raises:
        UserError: for what is no whole number of at least 1.
    """
    return checks.count("classes, the number of outputs,", classes)


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of an image, ``(channels, height, width)``.

    Raises:
        ShapeError: if it is none.
    """
    fits = isinstance(shape, Sequence) and not isinstance(shape, str | bytes) and len(shape) == 3
    if not fits or not all(map(is_count, shape)):
        raise ShapeError(
            "an image shape is (channels, height, width), whole numbers of at least 1, got "
            f"{shape!r:.80}: networks of dense layers (mlp, lif-mlp, lif-rnn) take any"
        )
    channels, height, width = map(int, shape)
    return channels, height, width


def check_image(shape: Sequence[int], least: int, model: str) -> tuple[int, int, int]:
    """Check the shape of an image with sides of at least ``least`` pixels, and return it.

    Raises:
        ShapeError: if it is none, or too small.
    """
    channels, height, width = check_shape(shape)
    if min(height, width) < least:
        raise ShapeError(f"{model} needs images of at least {least}×{least}, got {height}×{width}")
    return channels, height, width


def check_width(width: int) -> int:
    """Return the width of a network.

    Raises:
        UserError: for what is no whole number of at least 1.
    """
    return checks.count("the width of a network", width)


def spatial(side: int, model: str) -> int:
    """Compute the side of the feature map after two rounds of 5×5 convolution and 2×2 pooling.

    Raises:
        ShapeError: for images below 16×16.
    """
    left = ((side - 4) // 2 - 4) // 2
    if left < 1:
        raise ShapeError(f"{model} needs images of at least 16×16, got a side of {side}; use an MLP for smaller ones")
    return left


def pooling(kind: str) -> nn.Layer:
    """Make 2×2 pooling, ``max`` or ``avg``.

    Raises:
        UnknownNameError: for another kind.
    """
    return {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[check_name("pool", kind, ("max", "avg"))](2)
