"""Small networks side by side: one pass trains many that differ in their learning rates, widths or first weights.

Experiments on points in the plane train hundreds of networks with a few hundred weights. Alone, each would spend its
time in calls of functions. Here ``K`` networks of one architecture are a single network whose signals are ``[K, B, …]``
and whose dense layers hold ``K`` matrices. No network sees another one: every update is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from spikelfp import nn, propagate
from spikelfp.errors import UserError
from spikelfp.rewards import Reward
from spikelfp.rules import Rule

LARGEST = 1e4
"""Largest weight; a network with a larger one has diverged."""


class Dense(nn.Layer):
    """Dense layers of ``K`` networks, ``z_k = W_k a_k + b_k``: ``[K, B, in]`` to ``[K, B, out]``.

    Args:
        weight: ``[K, out, in]``.
        bias: ``[K, out]``.
        rule: rule of this layer alone.
    """

    fires = False
    has_weights = True

    def __init__(self, weight: Tensor, bias: Tensor, *, rule: Rule | None = None) -> None:
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(bias.clone())
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule.outgoing(self.rule.linear(self._products, self.rule.incoming(x), self.weight, self.bias))

    @staticmethod
    def _products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        across = weight.transpose(1, 2)
        return torch.bmm(x, across) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, across)


class ScaledGradient(Function):
    """Identity whose backward pass divides the gradient of each sample by its largest magnitude (LFP v1, A.4)."""

    of_gradients = True

    @staticmethod
    def forward(ctx: object, a: Tensor) -> Tensor:
        return a.view_as(a)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        largest = grad.abs().amax(-1, keepdim=True)
        return grad / largest.where(largest > 0, 1)


class ScaleGradients(nn.Layer):
    """Layer that is :class:`ScaledGradient`."""

    fires = False

    def forward(self, x: Tensor) -> Tensor:
        return ScaledGradient.apply(x)


def first_weights(sizes: Sequence[int], seed: int, width: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Draw the weights of a network as torch does for ``Linear`` layers.

    Args:
        sizes: of the layers, from the inputs to the outputs.
        seed: of the draw.
        width: size to which hidden layers are filled up with neurons whose weights are all 0. Under any rule they stay
            silent and their weights 0, so that networks of several widths go side by side.

    Returns:
        Weight ``[out, in]`` and bias ``[out]`` of each layer.
    """
    random = torch.Generator().manual_seed(seed)
    found = []
    for place, (into, out) in enumerate(pairwise(sizes)):
        weight, bias = ((2 * torch.rand(shape, generator=random) - 1) / into**0.5 for shape in ((out, into), (out,)))
        if width is not None:
            more_in = 0 if place == 0 else width - into
            more_out = 0 if place == len(sizes) - 2 else width - out
            weight = torch.nn.functional.pad(weight, (0, more_in, 0, more_out))
            bias = torch.nn.functional.pad(bias, (0, more_out))
        found.append((weight, bias))
    return found


def networks(
    starts: Sequence[Sequence[tuple[Tensor, Tensor]]],
    rule: Rule,
    activation: Callable[..., nn.Layer] = nn.ReLU,
    *,
    activated_output: bool = False,
    scaled: bool = False,
) -> nn.Sequential:
    """Build ``K`` multilayer perceptrons side by side.

    Args:
        starts: first weights of each (:func:`first_weights`).
        rule: of all their layers.
        activation: makes the activation of a layer, given its ``rule``.
        activated_output: whether the outputs, too, go through the activation (v3, A.1).
        scaled: whether gradients are divided by their largest magnitude behind each layer; LFP rules do so by their
            ``normalize``.

    Returns:
        The network, ``[K, B, inputs]`` to ``[K, B, outputs]``.
    """
    layers: list[nn.Layer] = []
    for place, of_layer in enumerate(zip(*starts, strict=True)):
        if place:
            layers.append(activation(rule=rule))
            layers += [ScaleGradients()] if scaled else []
        layers.append(Dense(*(torch.stack(each) for each in zip(*of_layer, strict=True)), rule=rule))
    layers += [ScaleGradients()] if scaled else []
    return nn.Sequential(*layers, *([activation(rule=rule)] if activated_output else []))


def softmax_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Compute softmax cross-entropy, summed over samples.

    Args:
        outputs: ``[N, C]``.
        labels: classes ``[N]``.
    """
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="sum")


def sigmoid_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Compute sigmoid cross-entropy of all outputs, summed over samples; LFP v1, eq. 7 is its reward.

    Args:
        outputs: ``[N, C]``.
        labels: classes ``[N]``.
    """
    target = torch.nn.functional.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(outputs, target, reduction="sum")


class Training(NamedTuple):
    """How networks are trained.

    Attributes:
        rates: learning rate of each network, ``[K]``.
        sums: whether the update of each network is a sum over the batch (or a mean), ``[K]``.
        epochs: passes through the training data.
        batch: samples of an update; the last one of an epoch has the rest.
        momentum: as in ``torch.optim.SGD``.
        reward: of the outputs ``[K · B, C]`` under an LFP rule.
        loss: of the outputs and classes under gradients, a sum over samples.
        decay: every so many steps the learning rates are multiplied with 0.1; ``None``: never.
    """

    rates: Tensor
    sums: Tensor
    epochs: int
    batch: int
    momentum: float
    reward: Reward
    loss: Callable[[Tensor, Tensor], Tensor] = softmax_loss
    decay: int | None = None


@dataclass
class Trained:
    """Outcome of training.

    Attributes:
        curve: accuracy of each network in each batch, before its update, ``[steps, K]``.
        diverged: whether a weight has become larger than :data:`LARGEST`, ``[K]``; the weights of such a network are
            set to 0, so that it predicts class 0.
    """

    curve: NDArray[np.float32]
    diverged: NDArray[np.bool_]


def _first(net: nn.Sequential) -> Dense:
    first = net[0]
    assert isinstance(first, Dense)
    return first


def _batches(count: int, settings: Training, random: torch.Generator) -> Iterator[Tensor]:
    for _ in range(settings.epochs):
        yield from torch.randperm(count, generator=random).split(settings.batch)


def train(net: nn.Sequential, x: Tensor, y: Tensor, settings: Training, seed: int) -> Trained:
    """Train networks side by side by LFP or by gradients, as the rule of their layers says, with SGD and momentum.

    Args:
        net: of :func:`networks`, ``K`` networks.
        x: training samples ``[N, inputs]``, the same for all of them, or those of each, ``[K, N, inputs]``.
        y: classes ``[N]`` or ``[K, N]``.
        settings: of the training.
        seed: of the order of the samples.

    Raises:
        UserError: for rates or sums that are not one for each network.
    """
    parameters = list(net.parameters())
    count = len(parameters[0])
    if settings.rates.shape != (count,) or settings.sums.shape != (count,):
        raise UserError(f"{count} networks take as many rates and sums, got {settings.rates.numel()} rates")
    gradients = _first(net).rule.of_gradients
    rates, alive = settings.rates.to(x.dtype).clone(), torch.ones(count, dtype=torch.bool)
    velocity = [torch.zeros_like(p) for p in parameters]
    x, y = x.expand(count, *x.shape[-2:]), y.expand(count, y.shape[-1])
    curve = list[Tensor]()
    for step, chosen in enumerate(_batches(x.shape[1], settings, torch.Generator().manual_seed(seed))):
        if settings.decay and step and step % settings.decay == 0:
            rates = rates * 0.1
        labels = y[:, chosen]
        net.zero_grad()
        outputs = net(x[:, chosen])
        curve.append((outputs.detach().argmax(-1) == labels).float().mean(-1))
        if gradients:
            settings.loss(outputs.flatten(0, 1), labels.flatten()).backward()
        else:
            propagate(outputs, settings.reward(outputs.flatten(0, 1), labels.flatten()).view_as(outputs))
        share = torch.where(settings.sums, 1.0, 1 / len(chosen)).to(x.dtype)
        with torch.no_grad():
            largest = torch.zeros(count, dtype=x.dtype)
            for p, v in zip(parameters, velocity, strict=True):
                one_each = (count,) + (1,) * (p.dim() - 1)
                assert p.grad is not None
                v.mul_(settings.momentum).add_(p.grad * share.view(one_each))
                p.sub_(rates.view(one_each) * v)
                largest = largest.maximum(p.abs().flatten(1).amax(1).nan_to_num(torch.inf))
            _remove(alive & ~(largest <= LARGEST), alive, parameters, velocity)
    return Trained(torch.stack(curve).numpy(), (~alive).numpy())


def _remove(lost: Tensor, alive: Tensor, parameters: Sequence[Tensor], velocity: Sequence[Tensor]) -> None:
    """Set diverged networks to 0."""
    alive &= ~lost
    if not alive.all():
        for each in (*parameters, *velocity):
            each[~alive] = 0


def accuracy(net: nn.Sequential, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """Measure the accuracy of each network.

    Args:
        net: ``K`` networks.
        x: samples ``[N, inputs]`` or ``[K, N, inputs]``.
        y: classes ``[N]`` or ``[K, N]``.

    Returns:
        ``[K]``.
    """
    with torch.no_grad():
        right = net(x.expand(len(_first(net).weight), *x.shape[-2:])).argmax(-1) == y
    found: NDArray[np.float64] = right.double().mean(-1).numpy()
    return found
