"""Networks by name, each made from the part of a :class:`ModelSpec` it has use for."""

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


@models.register("mlp")
def _mlp(spec: ModelSpec) -> nn.Sequential:
    return mlp([math.prod(spec.shape), *spec.hidden, spec.classes], activation=spec.activation, noise=spec.noise)


@models.register("lif-mlp")
def _lif_mlp(spec: ModelSpec) -> nn.Sequential:
    return lif_mlp([math.prod(spec.shape), *spec.hidden, spec.classes], bias=spec.bias, **spec.neuron)


@models.register("lenet")
def _lenet(spec: ModelSpec) -> nn.Sequential:
    return lenet(spec.shape, spec.classes, pool=spec.pool, activation=spec.activation, noise=spec.noise)


@models.register("lif-lenet")
def _lif_lenet(spec: ModelSpec) -> nn.Sequential:
    return lif_lenet(spec.shape, spec.classes, pool=spec.pool, bias=spec.bias, **spec.neuron)


@models.register("lif-conv")
def _lif_conv(spec: ModelSpec) -> nn.Sequential:
    options = {"pool": spec.pool, "bias": spec.bias, **_given(width=spec.width)}
    return lif_conv(spec.shape, spec.classes, **options, **spec.neuron)


@models.register("lif-rnn")
def _lif_rnn(spec: ModelSpec) -> nn.Sequential:
    return lif_rnn([math.prod(spec.shape), *spec.hidden, spec.classes], bias=spec.bias, **spec.neuron)


def _static(build: Callable[..., nn.Sequential], **fixed: Any) -> Callable[[ModelSpec], nn.Sequential]:
    """A convolutional network without memory from its builder."""

    def from_spec(spec: ModelSpec) -> nn.Sequential:
        options = {"activation": spec.activation, "noise": spec.noise, **_given(width=spec.width)}
        return build(spec.shape, spec.classes, **options, **fixed)

    return from_spec


models.register("vgg-like")(_static(vgg_like))
models.register("vgg16")(_static(vgg16))
models.register("vgg16-bn")(_static(vgg16, batch_norm=True))
models.register("resnet18")(_static(resnet18))
models.register("resnet34")(_static(resnet34))


@models.register("lif-vgg-like")
def _lif_vgg_like(spec: ModelSpec) -> nn.Sequential:
    return lif_vgg_like(spec.shape, spec.classes, pool=spec.pool, **_given(width=spec.width), **spec.neuron)


@models.register("lif-resnet18")
def _lif_resnet18(spec: ModelSpec) -> nn.Sequential:
    return lif_resnet18(spec.shape, spec.classes, **_given(width=spec.width), **spec.neuron)


@models.register("vit")
def _vit(spec: ModelSpec) -> nn.Sequential:
    return vit(spec.shape, spec.classes, **_transformer(spec))


@models.register("lif-vit")
def _lif_vit(spec: ModelSpec) -> nn.Sequential:
    return lif_vit(spec.shape, spec.classes, **_transformer(spec), **spec.neuron)


def _transformer(spec: ModelSpec) -> dict[str, Any]:
    return _given(dim=spec.width, depth=spec.depth, heads=spec.heads, patch=spec.patch)


def _given(**options: int | None) -> dict[str, Any]:
    """Those that are set; the others are left to the model."""
    return {name: value for name, value in options.items() if value is not None}


def build(spec: ModelSpec) -> nn.Sequential:
    """The network ``spec`` describes, with fresh weights from torch's random state."""
    return models[spec.name](spec)
