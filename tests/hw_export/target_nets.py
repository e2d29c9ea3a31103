"""Small networks of whole numbers for the tests of targets."""

from __future__ import annotations

from itertools import pairwise

import torch

from hw_export.integer import IntegerNetwork
from hw_export.integer.network import IntegerConv, IntegerDense, IntegerFlatten, IntegerLayer, IntegerLIF, IntegerPool
from hw_export.quantize import QuantizedNetwork, quantize
from hw_export.targets import TARGETS, Chip
from spikelfp import models, nn

CHIPS = ("generic", "loihi", "speck", "spinnaker2", "tinyodin", "xylo", "xylo-a3")
FITTING = {
    "generic": (8, "subtract", 0.9),
    "loihi": (8, "zero", 0.9),
    "speck": (7, "zero", 1.0),
    "spinnaker2": (5, "immediate", 0.9),
    "tinyodin": (4, "zero", 0.9),
    "xylo": (8, "immediate", 0.9),
    "xylo-a3": (8, "immediate", 0.8),
}
"""Bits, reset and β of a network that each chip takes."""


def chip_of(name: str) -> Chip:
    chip = TARGETS[name]()
    assert isinstance(chip, Chip)
    return chip


def trained(sizes=(12, 16, 14, 6), reset="zero", beta=0.9, bias=True, seed=0) -> torch.nn.Sequential:
    """A dense network whose layers all fire, with biases of both signs or none."""
    torch.manual_seed(seed)
    net = models.lif_mlp(sizes, beta=beta, threshold=1.0, reset=reset)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.mul_(3)
            if name.endswith("bias") and not bias:
                parameter.zero_()
    return net


def images(reset="zero", beta=0.9, pool=True, bias=True) -> torch.nn.Sequential:
    """Convolutions of inputs 2 x 8 x 6 with stride, padding and groups, pooling behind neurons, and a dense layer."""
    torch.manual_seed(1)
    neuron = {"beta": beta, "threshold": 0.3, "reset": reset}
    windows = [nn.AvgPool2d(2)] if pool else []
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.LIF(**neuron),
        *windows,
        nn.Conv2d(4, 6, 2, stride=(1, 1) if pool else 2, bias=bias),
        nn.LIF(**neuron),
        nn.Flatten(),
        nn.Linear(6 * (6 if pool else 12), 5, bias=bias),
        nn.LIF(**neuron),
    )


def fitting(name: str) -> QuantizedNetwork:
    """A quantised dense network that the chip takes; tinyODIN's without biases."""
    bits, reset, beta = FITTING[name]
    return quantize(trained(reset=reset, beta=beta, bias=name != "tinyodin"), bits, input_scale=1)


def whole(name: str, **changes) -> IntegerNetwork:
    """A dense network of two layers of whole numbers that the chip takes, with ``changes`` (:func:`dense`)."""
    _, reset, beta = FITTING[name]
    return dense(**{"reset": reset, "beta": beta} | changes)


def dense(
    sizes=(4, 5, 3), reset="zero", beta=0.9, threshold=20, weight=3, bias=0, input_scale=1, bits=8
) -> IntegerNetwork:
    """A dense network: all weights 1 but the first of each layer, ``weight``; the first bias is ``bias``.

    threshold and beta: one for all layers, or one for each.
    """
    layers: list[IntegerLayer] = []
    shapes = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        weights = torch.ones(outputs, inputs, dtype=torch.int32)
        weights[0, 0] = weight
        biases = torch.zeros(outputs, dtype=torch.int64)
        biases[0] = bias
        own = threshold[index] if isinstance(threshold, (list, tuple)) else threshold
        decay = beta[index] if isinstance(beta, (list, tuple)) else beta
        layers += [
            IntegerDense(f"fc{index}", weights, biases),
            IntegerLIF(f"lif{index}", decay, torch.as_tensor(own), reset),
        ]
        shapes += [(outputs,), (outputs,)]
    return IntegerNetwork(tuple(layers), bits, input_scale, (sizes[0],), tuple(shapes))


def conv(
    channels=(2, 3),
    kernel=(3, 3),
    stride=(1, 1),
    size=(8, 8),
    pool=None,
    beta=1.0,
    dilation=(1, 1),
    groups=1,
    outputs=2,
    weight=3,
    reset="zero",
) -> IntegerNetwork:
    """A convolution, neurons, sums of ``pool`` windows if asked for, and a dense layer with neurons."""  # fmt: skip
    inputs, maps = channels
    weights = torch.ones(maps, inputs // groups, *kernel, dtype=torch.int32)
    weights.view(-1)[0] = weight
    rows, columns = ((s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))
    threshold = torch.tensor(20)
    layers: list[IntegerLayer] = [
        IntegerConv("conv", weights, torch.zeros(maps, dtype=torch.int64), stride, (0, 0), dilation, groups),
        IntegerLIF("lif0", beta, threshold, reset),
    ]
    shapes: list[tuple[int, ...]] = [(maps, rows, columns)] * 2
    if pool is not None:
        window, step = pool
        layers.append(IntegerPool("pool", "sum", window, step))
        rows, columns = ((s - w) // t + 1 for s, w, t in zip((rows, columns), window, step, strict=True))
        shapes.append((maps, rows, columns))
    flat = maps * rows * columns
    layers += [
        IntegerFlatten("flat"),
        IntegerDense("fc", torch.ones(outputs, flat, dtype=torch.int32), torch.zeros(outputs, dtype=torch.int64)),
        IntegerLIF("lif1", beta, threshold, reset),
    ]
    shapes += [(flat,), (outputs,), (outputs,)]
    return IntegerNetwork(tuple(layers), 8, 1, (inputs, *size), tuple(shapes))


def spikes(*shape: int, steps=20, seed=0, probability=0.4) -> torch.Tensor:
    """Random spikes of one sample, ``[T, 1, *shape]``."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, 1, *shape, generator=generator) < probability).float()
