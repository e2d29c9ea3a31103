"""Networks by name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.models.activations import Activation
from spikelfp.models.ann import lenet, mlp
from spikelfp.models.base import Bias, Hidden, ModelSpec, Noise, Readout, Size, Width, models
from spikelfp.models.lif import lif_lenet, lif_mlp
from spikelfp.models.lif_conv import lif_conv
from spikelfp.models.lif_resnet import lif_resnet18
from spikelfp.models.lif_rnn import lif_rnn
from spikelfp.models.lif_vgg import lif_vgg_like
from spikelfp.models.lif_vit import lif_vit
from spikelfp.models.resnet import resnet18, resnet34
from spikelfp.models.vgg import vgg16, vgg_like
from spikelfp.models.vit import vit
from spikelfp.nn import graph
from spikelfp.options import options_in, takes_any

Shape = tuple[int, ...]


@models.register("mlp", spiking=False, normalizes=False)
def _mlp(
    shape: Shape, classes: int, *, hidden: Hidden = (1000,), activation: Activation = "relu", noise: Noise = 0.0
) -> nn.Sequential:
    return mlp([math.prod(shape), *hidden, classes], activation=activation, noise=noise)


@models.register("lif-mlp", spiking=True, normalizes=False)
def _lif_mlp(
    shape: Shape,
    classes: int,
    *,
    hidden: Hidden = (1000,),
    bias: Bias = True,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    return lif_mlp([math.prod(shape), *hidden, classes], bias=bias, readout=readout, **neuron)


@models.register("lif-rnn", spiking=True, normalizes=False)
def _lif_rnn(
    shape: Shape,
    classes: int,
    *,
    hidden: Hidden = (1000,),
    bias: Bias = True,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    return lif_rnn([math.prod(shape), *hidden, classes], bias=bias, readout=readout, **neuron)


models.register("lenet", spiking=False, normalizes=False)(lenet)
models.register("lif-lenet", spiking=True, normalizes=False)(lif_lenet)
models.register("lif-conv", spiking=True, normalizes=False)(lif_conv)
models.register("vgg-like", spiking=False, normalizes=False)(vgg_like)
models.register("vgg16", spiking=False, normalizes=False)(functools.partial(vgg16, batch_norm=False))
models.register("vgg16-bn", spiking=False, normalizes=True)(functools.partial(vgg16, batch_norm=True))
models.register("resnet18", spiking=False, normalizes=True)(resnet18)
models.register("resnet34", spiking=False, normalizes=True)(resnet34)
models.register("lif-vgg-like", spiking=True, normalizes=False)(lif_vgg_like)
models.register("lif-resnet18", spiking=True, normalizes=False)(lif_resnet18)


@models.register("vit", spiking=False, normalizes=True)
def _vit(
    shape: Shape, classes: int, *, width: Width = 192, depth: Size = 6, heads: Size = 3, patch: Size = 4
) -> nn.Sequential:
    """Vision Transformer.

    Args:
        depth: blocks of a transformer.
        heads: of the attention.
        patch: side of a patch that becomes a token.
    """
    return vit(shape, classes, dim=width, depth=depth, heads=heads, patch=patch)


@models.register("lif-vit", spiking=True, normalizes=True)
def _lif_vit(
    shape: Shape, classes: int, *, width: Width = 192, depth: Size = 6, heads: Size = 3, patch: Size = 4, **neuron: Any
) -> nn.Sequential:
    """Spiking Vision Transformer.

    Args:
        depth: blocks of a transformer.
        heads: of the attention.
        patch: side of a patch that becomes a token.
    """
    return lif_vit(shape, classes, dim=width, depth=depth, heads=heads, patch=patch, **neuron)


def build(spec: ModelSpec) -> nn.Sequential:
    """Make the network that ``spec`` describes, with fresh weights from torch's random state."""
    own = options_in(models, spec.name)
    options = {own[name].parameter: value for name, value in spec.options.items() if name in own}
    neuron = spec.neuron if takes_any(models[spec.name]) else {}
    return models[spec.name](spec.shape, spec.classes, **options, **neuron)


def takes_neuron(name: str) -> bool:
    """Whether the network of that ``name`` takes options of its neurons."""
    return takes_any(models[name])


def is_spiking(name: str) -> bool:
    """Whether the network of that ``name`` has neurons that fire."""
    told = models.fact(name, "spiking") if name in models else False
    return any(graph.has_trait(each, "fires") for each in _example(models[name]).modules()) if told is None else told


def normalizes(name: str) -> bool:
    """Whether the network of that ``name`` has normalisation layers."""
    told = models.fact(name, "normalizes")
    return any("Norm" in type(each).__name__ for each in _example(models[name]).modules()) if told is None else told


@functools.cache
def _example(builder: Callable[..., torch.nn.Module]) -> torch.nn.Module:
    """A network of a function that does not say what is in it, without memory for its weights."""
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
