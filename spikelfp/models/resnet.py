"""Residual networks (He et al. 2016, arXiv:1512.03385), with activations and with LIF neurons."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch

from spikelfp import nn
from spikelfp.models.ann import Activation, maker
from spikelfp.models.base import (
    Noise,
    Width,
    check_classes,
    check_shape,
    check_width,
    he,
    he_convolutions_,
    models,
    noisy,
)
from spikelfp.options import option
from spikelfp.registry import check_name, checked_keywords

STEMS = ("auto", "7x7", "3x3")
"""How a network begins; ``auto`` is ``7x7`` for images of at least 64×64, else ``3x3``."""
Stem = Annotated[str, option("how a ResNet begins; auto goes by the size of the images", names=STEMS)]
RESNET18 = (2, 2, 2, 2)
RESNET34 = (3, 4, 6, 3)
"""Blocks of each of the four stages."""


@models.register("resnet18", spiking=False, normalizes=True)
@checked_keywords()
def resnet18(
    shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    activation: Activation = "relu",
    noise: Noise = 0.0,
    stem: Stem = "auto",
    width: Width = 64,
) -> nn.Sequential:
    """Make a ResNet-18 of basic blocks, with torchvision's shape for images of at least 64×64.

    Stem, four stages of ``width``, 2, 4 and 8 ``width`` channels, the last three starting with stride 2, average over
    space, dense layer. The layers have torchvision's names (``conv1``, ``layer1``, …, ``fc``), and convolutions start
    as there (He et al. 2015). It takes ``[T, B, *shape]`` and returns real values ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images.
        classes: number of outputs.
        activation: name of :data:`.activations`, or a function without arguments that makes the layer.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every convolution and dense layer, 0 for
            none.
        stem: ``7x7``, a 7×7 convolution of stride 2 and 3×3 max-pooling of stride 2; ``3x3``, a 3×3 convolution of
            stride 1 and no pooling, as is usual for CIFAR; or ``auto``, ``7x7`` for images of at least 64×64.
        width: channels of the first convolution, 64 in the paper.

    Raises:
        ShapeError: for a shape that is no image.
        UserError: for a width below 1.
        UnknownNameError: for another stem or activation.
    """
    return _resnet(RESNET18, shape, classes, activation, noise, stem, width)


@models.register("resnet34", spiking=False, normalizes=True)
@checked_keywords()
def resnet34(
    shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    activation: Activation = "relu",
    noise: Noise = 0.0,
    stem: Stem = "auto",
    width: Width = 64,
) -> nn.Sequential:
    """Make a ResNet-34 of basic blocks: as :func:`resnet18`, with 3, 4, 6 and 3 blocks in its stages.

    Args:
        shape: ``(channels, height, width)`` of the images.
        classes: number of outputs.
        activation: as for :func:`resnet18`.
        noise: as for :func:`resnet18`.
        stem: as for :func:`resnet18`.
        width: as for :func:`resnet18`.

    Raises:
        ShapeError: for a shape that is no image.
        UserError: for a width below 1.
        UnknownNameError: for another stem or activation.
    """
    return _resnet(RESNET34, shape, classes, activation, noise, stem, width)


def _resnet(
    blocks: Sequence[int],
    shape: Sequence[int],
    classes: int,
    activation: Activation,
    noise: float,
    stem: str,
    width: int,
) -> nn.Sequential:
    channels, height, side = check_shape(shape)
    check_classes(classes)
    phi = maker(activation)

    def block(inputs: int, outputs: int, stride: int) -> nn.Layer:
        inner = nn.Sequential(
            *convolution(inputs, outputs, 3, stride, noise), phi(), *convolution(outputs, outputs, 3, 1, noise)
        )
        return nn.Sequential(nn.Sum(inner, shortcut(inputs, outputs, stride, noise)), phi())

    layers = OrderedDict[str, torch.nn.Module]()
    large = is_large(stem, height, side)
    layers["conv1"] = nn.Sequential(*convolution(channels, check_width(width), *((7, 2) if large else (3, 1)), noise))
    layers["act1"] = phi()
    if large:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    layers |= stages(block, blocks, width)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Sequential(*noisy(nn.Linear(8 * width, classes), noise))
    return he_convolutions_(nn.Sequential(layers))


def is_large(stem: str, height: int, width: int) -> bool:
    """Whether a stem is ``7x7``, by name or, for ``auto``, by the size of the images."""
    return check_name("stem", stem, STEMS) == "7x7" or (stem == "auto" and min(height, width) >= 64)


def stages(block: Callable[[int, int, int], nn.Layer], blocks: Sequence[int], width: int) -> dict[str, nn.Layer]:
    """Make the stages ``layer1``, ``layer2``, … of a network.

    Args:
        block: function that makes a block of channels in, channels out, and stride.
        blocks: number of blocks of each stage.
        width: channels of the first stage; they double from stage to stage.
    """
    layers, inputs = dict[str, nn.Layer](), width
    for stage, repeats in enumerate(blocks):
        outputs = width << stage
        first = block(inputs, outputs, 2 if stage else 1)
        rest = (block(outputs, outputs, 1) for _ in range(repeats - 1))
        layers[f"layer{stage + 1}"], inputs = nn.Sequential(first, *rest), outputs
    return layers


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, noise: float = 0.0) -> list[nn.Layer]:
    """Make a convolution without bias and its BatchNorm; with stride 1 it keeps the size of the map."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [*noisy(conv, noise), nn.BatchNorm2d(outputs)]


def shortcut(inputs: int, outputs: int, stride: int, noise: float = 0.0) -> nn.Layer:
    """Make the shortcut of a block: identity, or where the shape changes a 1×1 convolution and BatchNorm (option B)."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(*convolution(inputs, outputs, 1, stride, noise))


@models.register("lif-resnet18", spiking=True, normalizes=False)
@checked_keywords(nn.LIF)
def lif_resnet18(
    shape: Sequence[int] = (3, 32, 32), classes: int = 10, *, stem: Stem = "auto", width: Width = 64, **neuron: Any
) -> nn.Sequential:
    """Make a ResNet-18 of LIF neurons with membrane shortcuts (MS-ResNet, Hu et al. 2021, arXiv:2112.08954).

    A block adds currents, ``I + conv(LIF(conv(LIF(I))))``, with a 1×1 convolution in the shortcut where the shape
    changes. Convolutions of a block see spikes, and the path from stem to output is linear, so a reward reaches every
    block without passing through neurons. Then ``LIF``, average over space, ``Linear, LIF``. Unlike the paper's network
    it has no BatchNorm; convolutions start as in He et al. 2015. It takes ``[T, B, *shape]`` and returns spikes ``[T,
    B, classes]``.

    Measured (digits of 16×16, width 8, 8 steps, 4 epochs, held-out accuracy at learning rates 2e-3 and 5e-3, one seed):
    0.85 and 0.90; with BatchNorm, its statistics constant, 0.39 and 0.78 (0.78 at 5e-3 with messages passing through
    them); adding spikes instead of currents (SEW, Fang et al. 2021), without BatchNorm, 0.69 and 0.80.

    Args:
        shape: ``(channels, height, width)`` of the images.
        classes: number of outputs.
        stem: as for :func:`resnet18`.
        width: as for :func:`resnet18`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        ShapeError: for a shape that is no image.
        UserError: for a width below 1.
        UnknownNameError: for another stem.
    """
    channels, height, side = check_shape(shape)
    check_classes(classes)
    check_width(width)

    def block(inputs: int, outputs: int, stride: int) -> nn.Layer:
        inner = nn.Sequential(
            nn.LIF(**neuron),
            he(nn.Conv2d(inputs, outputs, 3, stride, 1)),
            nn.LIF(**neuron),
            he(nn.Conv2d(outputs, outputs, 3, 1, 1)),
        )
        same = inputs == outputs and stride == 1
        return nn.Sum(inner, nn.Identity() if same else he(nn.Conv2d(inputs, outputs, 1, stride)))

    layers = OrderedDict[str, torch.nn.Module]()
    if is_large(stem, height, side):
        layers["conv1"] = he(nn.Conv2d(channels, width, 7, 2, 3))
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    else:
        layers["conv1"] = he(nn.Conv2d(channels, width, 3, 1, 1))
    layers |= stages(block, RESNET18, width)
    layers["lif"] = nn.LIF(**neuron)
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(8 * width, classes)
    layers["out"] = nn.LIF(**neuron)
    return nn.Sequential(layers)
