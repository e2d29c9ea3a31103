"""Networks by name, each made from the part of a :class:`ModelSpec` that it was registered with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from spikelfp import nn
from spikelfp.models.ann import lenet, mlp
from spikelfp.models.lif import lif_lenet, lif_mlp
from spikelfp.models.lif_conv import lif_conv
from spikelfp.models.lif_resnet import lif_resnet18
from spikelfp.models.lif_rnn import lif_rnn
from spikelfp.models.lif_vgg import lif_vgg_like
from spikelfp.models.lif_vit import lif_vit
from spikelfp.models.resnet import resnet18, resnet34
from spikelfp.models.spec import ModelSpec
from spikelfp.models.vgg import vgg16, vgg_like
from spikelfp.models.vit import vit
from spikelfp.registry import Registry

models: Registry[Callable[[ModelSpec], nn.Sequential]] = Registry("model")
"""Functions that make a network from a specification.

What is to be known about a network without making it stands where it is registered, also by users for their own::

    @models.register("mine", uses=("hidden", "neuron"), spiking=True, normalizes=False)

uses: fields of :class:`ModelSpec`; options of the others are refused with the network. spiking: whether it ends in
neurons that fire; a name that begins with ``lif-`` says so, too. normalizes: whether it has normalisation layers. What
is not said is taken for used.
"""

_TRANSFORMER = ("width", "depth", "heads", "patch")


@models.register("mlp", uses=("hidden", "activation", "noise"), normalizes=False)
def _mlp(spec: ModelSpec) -> nn.Sequential:
    return mlp([math.prod(spec.shape), *spec.hidden, spec.classes], activation=spec.activation, noise=spec.noise)


@models.register("lif-mlp", uses=("hidden", "bias", "neuron"), spiking=True, normalizes=False)
def _lif_mlp(spec: ModelSpec) -> nn.Sequential:
    return lif_mlp([math.prod(spec.shape), *spec.hidden, spec.classes], bias=spec.bias, **spec.neuron)


@models.register("lenet", uses=("pool", "activation", "noise"), normalizes=False)
def _lenet(spec: ModelSpec) -> nn.Sequential:
    return lenet(spec.shape, spec.classes, pool=spec.pool, activation=spec.activation, noise=spec.noise)


@models.register("lif-lenet", uses=("pool", "bias", "neuron"), spiking=True, normalizes=False)
def _lif_lenet(spec: ModelSpec) -> nn.Sequential:
    return lif_lenet(spec.shape, spec.classes, pool=spec.pool, bias=spec.bias, **spec.neuron)


@models.register("lif-conv", uses=("pool", "bias", "width", "neuron"), spiking=True, normalizes=False)
def _lif_conv(spec: ModelSpec) -> nn.Sequential:
    options = {"pool": spec.pool, "bias": spec.bias, **_given(width=spec.width)}
    return lif_conv(spec.shape, spec.classes, **options, **spec.neuron)


@models.register("lif-rnn", uses=("hidden", "bias", "neuron"), spiking=True, normalizes=False)
def _lif_rnn(spec: ModelSpec) -> nn.Sequential:
    return lif_rnn([math.prod(spec.shape), *spec.hidden, spec.classes], bias=spec.bias, **spec.neuron)


def _static(build: Callable[..., nn.Sequential], **fixed: Any) -> Callable[[ModelSpec], nn.Sequential]:
    """A convolutional network without memory from its builder."""

    def from_spec(spec: ModelSpec) -> nn.Sequential:
        options = {"activation": spec.activation, "noise": spec.noise, **_given(width=spec.width)}
        return build(spec.shape, spec.classes, **options, **fixed)

    return from_spec


_STATIC = {"uses": ("activation", "noise", "width"), "spiking": False}
models.register("vgg-like", **_STATIC, normalizes=False)(_static(vgg_like))
models.register("vgg16", **_STATIC, normalizes=False)(_static(vgg16))
models.register("vgg16-bn", **_STATIC, normalizes=True)(_static(vgg16, batch_norm=True))
models.register("resnet18", **_STATIC, normalizes=True)(_static(resnet18))
models.register("resnet34", **_STATIC, normalizes=True)(_static(resnet34))


@models.register("lif-vgg-like", uses=("pool", "width", "neuron"), spiking=True, normalizes=False)
def _lif_vgg_like(spec: ModelSpec) -> nn.Sequential:
    return lif_vgg_like(spec.shape, spec.classes, pool=spec.pool, **_given(width=spec.width), **spec.neuron)


@models.register("lif-resnet18", uses=("width", "neuron"), spiking=True, normalizes=False)
def _lif_resnet18(spec: ModelSpec) -> nn.Sequential:
    return lif_resnet18(spec.shape, spec.classes, **_given(width=spec.width), **spec.neuron)


@models.register("vit", uses=_TRANSFORMER, normalizes=True)
def _vit(spec: ModelSpec) -> nn.Sequential:
    return vit(spec.shape, spec.classes, **_transformer(spec))


@models.register("lif-vit", uses=(*_TRANSFORMER, "neuron"), spiking=True, normalizes=True)
def _lif_vit(spec: ModelSpec) -> nn.Sequential:
    return lif_vit(spec.shape, spec.classes, **_transformer(spec), **spec.neuron)


def _transformer(spec: ModelSpec) -> dict[str, Any]:
    return _given(dim=spec.width, depth=spec.depth, heads=spec.heads, patch=spec.patch)


def _given(**options: int | None) -> dict[str, Any]:
    """Those that are set; the others are left to the model."""
    return {name: value for name, value in options.items() if value is not None}


def build(spec: ModelSpec) -> nn.Sequential:
    """Make the network that ``spec`` describes, with fresh weights from torch's random state."""
    return models[spec.name](spec)


def uses(name: str, field: str) -> bool:
    """Whether the network of that ``name`` depends on the ``field`` of its specification."""
    told = models.fact(name, "uses")
    return told is None or field in told


def is_spiking(name: str) -> bool:
    """Whether the network of that ``name`` ends in neurons that fire."""
    told = models.fact(name, "spiking") if name in models else None
    return name.startswith("lif-") if told is None else told


def normalizes(name: str) -> bool:
    """Whether the network of that ``name`` has normalisation layers."""
    return models.fact(name, "normalizes") is not False
