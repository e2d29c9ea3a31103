"""Dense, convolutional and recurrent networks of LIF neurons; the dense one and the LeNet are of LFP v3, A.6.4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from spikelfp import checks, nn
from spikelfp.models.base import (
    Bias,
    Delays,
    Dropout,
    DropoutOf,
    DropoutOver,
    Hidden,
    Pool,
    Readout,
    Width,
    check_classes,
    check_shape,
    check_sizes,
    check_width,
    dense,
    dropped,
    he,
    last_layer,
    models,
    pooling,
    spatial,
)
from spikelfp.registry import checked_keywords


@checked_keywords(nn.LIF)
def lif_mlp(
    sizes: Sequence[int],
    *,
    bias: bool = True,
    readout: str | None = None,
    delays: Sequence[int] = (0,),
    dropout: float = 0.0,
    dropout_over: str = "sequence",
    **neuron: Any,
) -> nn.Sequential:
    """Make dense layers, each followed by LIF neurons: ``Linear, LIF, Linear, LIF, …`` (LFP v3, A.6.4).

    It takes ``[T, B, sizes[0]]``, or images ``[T, B, C, H, W]`` of as many pixels, and returns spikes
    ``[T, B, sizes[-1]]``.

    Args:
        sizes: neurons from input to output, such as ``[784, 1000, 10]``.
        bias: whether the dense layers have biases.
        readout: last layer: ``lif`` (``None``), neurons that fire, or ``li``, leaky integrators, whose membranes are
            real values.
        delays: steps by which spikes may arrive later; each connection of a dense layer has a weight for each of them
            (:class:`spikelfp.nn.DelayLinear`). ``(0,)`` makes plain dense layers.
        dropout: part of the hidden neurons that are left out at a time in training (:class:`spikelfp.nn.Dropout`).
        dropout_over: whether they are the same in a whole ``sequence``, or drawn at every ``step``.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        UserError: for fewer than two sizes, one below 1, and the same delay twice.
        UnknownNameError: for another readout, or another time of dropout.
    """
    sizes = check_sizes(sizes)
    checks.truth("bias", bias)
    layers: list[nn.Layer] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [dense(inputs, outputs, bias, delays), nn.LIF(**neuron), *dropped(dropout, dropout_over)]
    return nn.Sequential(*layers, dense(sizes[-2], sizes[-1], bias, delays), last_layer(readout, neuron))


@models.register("lif-mlp", spiking=True, normalizes=False)
def _lif_mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Hidden = (1000,),
    bias: Bias = True,
    readout: Readout = None,
    delays: Delays = (0,),
    dropout: Dropout = 0.0,
    dropout_over: DropoutOver = "sequence",
    **neuron: Any,
) -> nn.Sequential:
    options: dict[str, Any] = {"delays": delays, "dropout": dropout, "dropout_over": dropout_over}
    return lif_mlp([math.prod(shape), *hidden, classes], bias=bias, readout=readout, **options, **neuron)


@models.register("lif-lenet", spiking=True, normalizes=False)
@checked_keywords(nn.LIF)
def lif_lenet(
    shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    *,
    pool: Pool = "max",
    bias: Bias = True,
    readout: Readout = None,
    dropout: Dropout = 0.0,
    dropout_over: DropoutOver = "sequence",
    dropout_of: DropoutOf = "elements",
    **neuron: Any,
) -> nn.Sequential:
    """Make the spiking LeNet of LFP v3, A.6.4: twice 5×5 convolution, 2×2 pooling, LIF; dense 1024, LIF; dense, LIF.

    The convolutions have 12 and 64 channels. It takes ``[T, B, *shape]`` and returns spikes ``[T, B, classes]``.

    Args:
        shape: ``(channels, height, width)`` of the images, at least 16×16.
        classes: number of outputs.
        pool: ``max`` as in the paper, or ``avg``, which every simulator can run.
        bias: whether layers with weights have biases.
        readout: last layer, as in :func:`spikelfp.models.lif_mlp`.
        dropout: part of the hidden neurons that are left out at a time in training (:class:`spikelfp.nn.Dropout`).
        dropout_over: whether they are the same in a whole ``sequence``, or drawn at every ``step``.
        dropout_of: whether single neurons of the convolutions are left out, ``elements``, or whole ``channels``.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UnknownNameError: for another pooling, readout or kind of dropout.
    """
    channels, height, width = check_shape(shape)
    check_classes(classes)
    checks.truth("bias", bias)
    features = 64 * spatial(height, "lif-lenet") * spatial(width, "lif-lenet")
    return nn.Sequential(
        nn.Conv2d(channels, 12, 5, bias=bias),
        pooling(pool),
        nn.LIF(**neuron),
        *dropped(dropout, dropout_over, dropout_of),
        nn.Conv2d(12, 64, 5, bias=bias),
        pooling(pool),
        nn.LIF(**neuron),
        *dropped(dropout, dropout_over, dropout_of),
        nn.Flatten(),
        nn.Linear(features, 1024, bias),
        nn.LIF(**neuron),
        *dropped(dropout, dropout_over),
        nn.Linear(1024, classes, bias),
        last_layer(readout, neuron),
    )


@models.register("lif-conv", spiking=True, normalizes=False)
@checked_keywords(nn.LIF)
def lif_conv(
    shape: Sequence[int] = (2, 34, 34),
    classes: int = 10,
    *,
    width: Width = 12,
    pool: Pool = "max",
    bias: Bias = True,
    readout: Readout = None,
    dropout: Dropout = 0.0,
    dropout_over: DropoutOver = "sequence",
    dropout_of: DropoutOf = "elements",
    **neuron: Any,
) -> nn.Sequential:
    """Make a small network for event cameras: twice ``Conv2d 5×5, 2×2 pooling, LIF``, then ``Linear, LIF``.

    The convolutions have ``width`` and ``⌈8/3 width⌉`` channels: those of :func:`lif_lenet` with half as many channels
    in the second, and without its large dense layer, for which a thousand recordings are too few. Weights of the
    convolutions start as in He et al. 2015, so that layers fire although most pixels of a step are 0. It takes ``[T, B,
    *shape]`` and returns spikes ``[T, B, classes]``.

    Args:
        shape: ``(polarities, height, width)`` of the camera, sides of at least 16.
        classes: number of outputs.
        width: channels of the first convolution.
        pool: ``max``, or ``avg``, which every simulator can run.
        bias: whether layers with weights have biases.
        readout: last layer, as in :func:`spikelfp.models.lif_mlp`.
        dropout: part of the hidden neurons that are left out at a time in training (:class:`spikelfp.nn.Dropout`).
        dropout_over: whether they are the same in a whole ``sequence``, or drawn at every ``step``.
        dropout_of: whether single neurons of the convolutions are left out, ``elements``, or whole ``channels``.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        ShapeError: for a shape that is no image, or too small.
        UserError: for a width below 1.
        UnknownNameError: for another pooling, readout or kind of dropout.
    """
    channels, height, side = check_shape(shape)
    check_classes(classes)
    checks.truth("bias", bias)
    first, second = check_width(width), -(-8 * width // 3)
    features = second * spatial(height, "lif-conv") * spatial(side, "lif-conv")
    return nn.Sequential(
        he(nn.Conv2d(channels, first, 5, bias=bias)),
        pooling(pool),
        nn.LIF(**neuron),
        *dropped(dropout, dropout_over, dropout_of),
        he(nn.Conv2d(first, second, 5, bias=bias)),
        pooling(pool),
        nn.LIF(**neuron),
        *dropped(dropout, dropout_over, dropout_of),
        nn.Flatten(),
        nn.Linear(features, classes, bias),
        last_layer(readout, neuron),
    )


GAIN = 3.0
"""Factor on the initial weights of He et al. 2015 in front of hidden neurons."""


@checked_keywords(nn.LIF)
def lif_rnn(
    sizes: Sequence[int],
    *,
    bias: bool = True,
    readout: str | None = None,
    delays: Sequence[int] = (0,),
    dropout: float = 0.0,
    dropout_over: str = "sequence",
    **neuron: Any,
) -> nn.Sequential:
    """Make recurrent layers, whose spikes return to them one step later, and a dense output.

    The layers are ``Linear, RecurrentLIF, …, Linear, LIF``. The network takes ``[T, B, sizes[0]]``, or images
    ``[T, B, C, H, W]`` of as many pixels, and returns spikes ``[T, B, sizes[-1]]``.

    Args:
        sizes: neurons from input to output, such as ``[77, 256, 10]``.
        bias: whether the dense layers have biases. The recurrent connections, ``Linear(n, n)`` of each hidden layer,
            have none: it would be added to the current that the dense bias is added to.
        readout: last layer, as in :func:`spikelfp.models.lif_mlp`.
        delays: steps by which spikes may arrive later at the hidden layers, as in :func:`spikelfp.models.lif_mlp`; the
            recurrent connections take one step, and those to the output none.
        dropout: part of the hidden neurons that are left out at a time in training behind each hidden layer.
        dropout_over: whether they are the same in a whole ``sequence``, or drawn at every ``step``.
        neuron: arguments of :class:`spikelfp.nn.LIF`, for every layer.

    Raises:
        UserError: for fewer than two sizes, one below 1, and the same delay twice.
        UnknownNameError: for another readout, or another time of dropout.
    """
    sizes = check_sizes(sizes)
    checks.truth("bias", bias)
    layers: list[nn.Layer] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        arriving = dense(inputs, outputs, bias, delays)
        weights = he(arriving.dense if isinstance(arriving, nn.DelayLinear) else arriving)
        with torch.no_grad():
            weights.weight.mul_(GAIN)
        layers += [arriving, nn.RecurrentLIF(nn.Linear(outputs, outputs, bias=False), **neuron)]
        layers += dropped(dropout, dropout_over)
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], bias), last_layer(readout, neuron))


@models.register("lif-rnn", spiking=True, normalizes=False)
def _lif_rnn(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Hidden = (1000,),
    bias: Bias = True,
    readout: Readout = None,
    delays: Delays = (0,),
    dropout: Dropout = 0.0,
    dropout_over: DropoutOver = "sequence",
    **neuron: Any,
) -> nn.Sequential:
    options: dict[str, Any] = {"delays": delays, "dropout": dropout, "dropout_over": dropout_over}
    return lif_rnn([math.prod(shape), *hidden, classes], bias=bias, readout=readout, **options, **neuron)
