"""Networks in the manner of VGG (Simonyan and Zisserman 2015, arXiv:1409.1556), with and without LIF neurons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from spikelfp import nn
from spikelfp.models.ann import Activation, maker
from spikelfp.models.base import (
    Dropout,
    Noise,
    Pool,
    Readout,
    Width,
    check_classes,
    check_image,
    check_width,
    he,
    he_convolutions_,
    last_layer,
    models,
    noisy,
    pooling,
)
from spikelfp.options import option
from spikelfp.registry import check_name, checked_keywords

HEADS = ("auto", "7x7")
"""Dense layers of VGG-16; ``auto`` goes by the size of the images, ``7x7`` are those for ImageNet."""
Head = Annotated[
    str, option("dense layers of VGG-16: 7x7 as for ImageNet; auto smaller ones for images below 224×224", names=HEADS)
]
VGG_LIKE = ((1, 2), (4, 4), (8, 8))
"""Channels of each block of "VGG-like", in units of its width."""
VGG16 = ((1, 1), (2, 2), (4, 4, 4), (8, 8, 8), (8, 8, 8))
"""Channels of each block of VGG-16, in units of its width."""


@models.register("vgg-like", spiking=False, normalizes=False)
@checked_keywords()
def vgg_like(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    activation: Activation = "relu",
    noise: Noise = 0.0,
    dropout: Dropout = 0.5,
    width: Width = 32,
) -> nn.Sequential:
    """Make the "VGG-like" network of LFP v3, A.6.2.

    Three blocks of two 3×3 convolutions (32, 64; 128, 128; 256, 256 channels) and 2×2 max-pooling, then dense layers of
    1024, 512 and ``classes`` neurons with dropout between them. Convolutions start as in He et al. 2015; from torch's
    own start neither LFP nor gradient descent left chance in an epoch of CIFAR-10. It takes ``[T, B, *shape]`` and
    returns real values ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images, sides of at least 8.
        classes: number of outputs.
        activation: name of :data:`.activations`, or a function without arguments that makes the layer.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.
        dropout: part of the hidden neurons that are left out at a time in training.
        width: channels of the first convolution; the other layers grow and shrink with it.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UserError: for a width below 1.
        UnknownNameError: for an activation that is not known.
    """
    channels, height, side = check_image(shape, 8, "vgg-like")
    check_classes(classes)
    layers = _convolutions(channels, VGG_LIKE, check_width(width), activation, noise)
    features = 8 * width * (height // 8) * (side // 8)
    layers += _classifier((features, 32 * width, 16 * width, classes), activation, noise, dropout)
    return he_convolutions_(nn.Sequential(*layers))


@checked_keywords()
def vgg16(
    shape: Sequence[int] = (3, 224, 224),
    classes: int = 1000,
    *,
    batch_norm: bool = False,
    activation: Activation = "relu",
    noise: Noise = 0.0,
    dropout: Dropout = 0.5,
    head: Head = "auto",
    width: Width = 64,
) -> nn.Sequential:
    """Make VGG-16 (configuration D of the paper), with BatchNorm after each convolution if ``batch_norm``.

    For images of at least 224×224 it has torchvision's shape: thirteen 3×3 convolutions with five 2×2 max-poolings, an
    average to 7×7, dense layers of 4096, 4096 and ``classes`` neurons with dropout between them. Smaller images leave a
    feature map of less than 7×7, which is not averaged, and the two hidden dense layers have 512 neurons (Liu and Deng
    2015, VGG-16 for CIFAR). Convolutions start as in torchvision (He et al. 2015). It takes ``[T, B, *shape]`` and
    returns real values ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images, sides of at least 32.
        classes: number of outputs.
        batch_norm: put BatchNorm after each convolution.
        activation: name of :data:`.activations`, or a function without arguments that makes the layer.
        noise: standard deviation of the :class:`spikelfp.nn.Noise` in front of every layer with weights, 0 for none.
        dropout: part of the hidden neurons that are left out at a time in training.
        head: ``auto``, or ``7x7``, which brings feature maps of any size to 7×7, in front of dense layers of 4096
            neurons, as torchvision does; weights that were trained on ImageNet fit it at any size of the images.
        width: channels of the first convolution, 64 in the paper; all other layers grow and shrink with it.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UserError: for a width below 1.
        UnknownNameError: for another head, and an activation that is not known.
    """
    channels, height, side = check_image(shape, 32, "vgg16")
    check_classes(classes)
    layers = _convolutions(channels, VGG16, check_width(width), activation, noise, batch_norm)
    size = (min(height // 32, 7), min(side // 32, 7))
    if check_name("head", head, HEADS) == "7x7":
        size = (7, 7)
    hidden = (64 if size == (7, 7) else 8) * width
    layers.append(nn.AdaptiveAvgPool2d(size))
    layers += _classifier((8 * width * size[0] * size[1], hidden, hidden, classes), activation, noise, dropout)
    return he_convolutions_(nn.Sequential(*layers))


models.register("vgg16", spiking=False, normalizes=False)(partial(vgg16, batch_norm=False))
models.register("vgg16-bn", spiking=False, normalizes=True)(partial(vgg16, batch_norm=True))


def _convolutions(
    channels: int,
    blocks: Sequence[Sequence[int]],
    width: int,
    activation: Activation,
    noise: float,
    batch_norm: bool = False,
) -> list[nn.Layer]:
    """Blocks of 3×3 convolutions, each with its activation, and 2×2 max-pooling at the end of a block."""
    phi, layers = maker(activation), list[nn.Layer]()
    for block in blocks:
        for outputs in (width * multiple for multiple in block):
            layers += noisy(nn.Conv2d(channels, outputs, 3, padding=1), noise)
            layers += [nn.BatchNorm2d(outputs), phi()] if batch_norm else [phi()]
            channels = outputs
        layers.append(nn.MaxPool2d(2))
    return layers


def _classifier(
    sizes: tuple[int, int, int, int], activation: Activation, noise: float, dropout: float
) -> list[nn.Layer]:
    """Three dense layers, the two hidden ones with an activation and dropout."""
    phi, (features, first, second, classes) = maker(activation), sizes
    return [
        nn.Flatten(),
        *noisy(nn.Linear(features, first), noise),
        phi(),
        nn.Dropout(dropout),
        *noisy(nn.Linear(first, second), noise),
        phi(),
        nn.Dropout(dropout),
        *noisy(nn.Linear(second, classes), noise),
    ]


@models.register("lif-vgg-like", spiking=True, normalizes=False)
@checked_keywords(nn.LIF)
def lif_vgg_like(
    shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    *,
    pool: Pool = "max",
    width: Width = 32,
    readout: Readout = None,
    **neuron: Any,
) -> nn.Sequential:
    """Make the convolutions and dense layers of :func:`spikelfp.models.vgg_like` with LIF neurons.

    ``Conv2d, LIF`` six times, 2×2 pooling in front of every second LIF; then ``Linear, LIF`` three times. There is no
    dropout and no BatchNorm: hidden weights start as in He et al. 2015, which keeps every layer firing. (Digits of
    16×16, width 8, 8 steps, 4 epochs, held-out accuracy at learning rates 5e-3 and 1e-2: 0.70 and 0.77; with BatchNorm
    in front of every hidden LIF 0.16 and 0.29 with its statistics constant, 0.75 at 5e-3 with messages passing through
    them; one seed.) It takes ``[T, B, *shape]`` and returns spikes ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images, sides of at least 8.
        classes: number of outputs.
        pool: ``max``, or ``avg``, which every simulator can run.
        width: channels of the first convolution; the other layers grow and shrink with it.
        readout: last layer, as in :func:`spikelfp.models.lif_mlp`.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UserError: for a width below 1.
        UnknownNameError: for another pooling or readout.
    """
    channels, height, side = check_image(shape, 8, "lif-vgg-like")
    check_classes(classes)
    check_width(width)
    layers: list[nn.Layer] = []
    for first, second in VGG_LIKE:
        layers += [he(nn.Conv2d(channels, first * width, 3, padding=1)), nn.LIF(**neuron)]
        layers += [he(nn.Conv2d(first * width, second * width, 3, padding=1)), pooling(pool), nn.LIF(**neuron)]
        channels = second * width
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        he(nn.Linear(channels * (height // 8) * (side // 8), 32 * width)),
        nn.LIF(**neuron),
        he(nn.Linear(32 * width, 16 * width)),
        nn.LIF(**neuron),
        nn.Linear(16 * width, classes),
        last_layer(readout, neuron),
    )
