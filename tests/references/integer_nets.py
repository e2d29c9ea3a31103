"""Small networks of whole numbers, and inputs for them."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from hw_export.integer.network import IntegerConv, IntegerDense, IntegerFlatten, IntegerLIF, IntegerNetwork, IntegerPool


def weights(*shape: int, largest: int, generator: torch.Generator) -> torch.Tensor:
    """Whole numbers within ±``largest``, a quarter of them 0."""
    drawn = torch.randint(-largest, largest + 1, shape, generator=generator, dtype=torch.int32)
    return drawn * (torch.rand(shape, generator=generator) < 0.75)


def biases(size: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(-2, 4, (size,), generator=generator)


def dense(
    reset: str, beta: float, threshold: int = 7, largest: int = 8, seed: int = 0, own: bool = False
) -> IntegerNetwork:
    """9-11-6-3. own: the neurons have thresholds and decays of their own, else those of a layer have one."""
    g = torch.Generator().manual_seed(seed)
    sizes, layers = (9, 11, 6, 3), []
    for k, (inner, outer) in enumerate(pairwise(sizes)):
        layers.append(IntegerDense(f"w{k}", weights(outer, inner, largest=largest, generator=g), biases(outer, g)))
        thetas = torch.arange(outer) % 5 + threshold if own else torch.tensor(threshold + k)
        layers.append(IntegerLIF(f"n{k}", decays(beta, outer) if own else beta, thetas, reset))
    shapes = tuple((size,) for size in sizes[1:] for _ in range(2))
    return IntegerNetwork(tuple(layers), 8, 1, (9,), shapes)


def decays(beta: float, *shape: int) -> float | torch.Tensor:
    """Decays of their own, from ``beta`` down, for neurons that leak."""
    if beta == 1.0:
        return beta
    return beta * (1 - torch.arange(math.prod(shape), dtype=torch.float64) % 4 / 7).reshape(shape)


def convolutional(reset: str, beta: float, pool: str, own: bool = False, seed: int = 1) -> IntegerNetwork:
    """Convolutions with borders, strides, groups and dilation, pools in front of and behind weights.

    own: the first neurons have decays of their own and their channels thresholds, the channels behind them decays.
    """
    g = torch.Generator().manual_seed(seed)
    layers = (
        IntegerConv("c0", weights(4, 2, 3, 3, largest=5, generator=g), biases(4, g), (1, 1), (1, 1), (1, 1), 1),
        IntegerPool("p0", pool, (2, 2), (1, 2)),
        IntegerLIF("n0", decays(beta, 4, 6, 3) if own else beta, torch.tensor([9, 5, 12, 7] if own else 9), reset),
        IntegerPool("p1", pool, (2, 1), (1, 1)),
        IntegerConv("c1", weights(6, 2, 2, 2, largest=5, generator=g), biases(6, g), (2, 1), (0, 1), (2, 1), 2),
        IntegerLIF("n1", decays(beta, 6) if own else beta, torch.tensor(6), reset),
        IntegerFlatten("f"),
        IntegerDense("w", weights(5, 6 * 2 * 4, largest=5, generator=g), biases(5, g)),
        IntegerLIF("n2", beta, torch.tensor(8), reset),
    )
    shapes = ((4, 7, 6), (4, 6, 3), (4, 6, 3), (4, 5, 3), (6, 2, 4), (6, 2, 4), (48,), (5,), (5,))
    return IntegerNetwork(layers, 8, 1, (2, 7, 6), shapes)


def inputs(
    steps: int, shape: tuple[int, ...], samples: int, low: int = 0, high: int = 1, seed: int = 0
) -> torch.Tensor:
    """Whole numbers from ``low`` to ``high`` in float32, half of them 0: ``[T, B, *shape]``."""
    g = torch.Generator().manual_seed(seed)
    drawn = torch.randint(low, high + 1, (steps, samples, *shape), generator=g)
    return (drawn * (torch.rand(drawn.shape, generator=g) < 0.5)).float()
