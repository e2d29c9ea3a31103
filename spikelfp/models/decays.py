"""Decays that differ from neuron to neuron: the distributions that they start from, by name.

Neurons of one layer with time constants of their own remember inputs of different ages. Networks of such neurons learn
tasks with temporal structure better, and the more so if the decays learn too (Perez-Nieves et al. 2021, Neural
heterogeneity promotes robust learning, Nature Communications 12, 5791, doi:10.1038/s41467-021-26022-3). A decay β
stands for the time constant ``τ = −1 / ln β``, in steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import UserError
from spikelfp.nn import graph
from spikelfp.nn.neurons.base import LEAST_DECAY
from spikelfp.options import option
from spikelfp.registry import Registry

MOST_DECAY = 0.995
"""Largest decay that :func:`gamma` draws, that of the paper's code: a time constant of 200 steps."""

decay_starts: Registry[Callable[..., float | Tensor]] = Registry("start of decays", takes=("beta", "shape"))
"""Functions ``(beta, shape, *, options…) → decays``, one number or float32 of ``shape``, from torch's random state."""

Low = Annotated[float, option("smallest decay that is drawn", name="beta_low", within="(0, 1]")]
High = Annotated[float, option("largest decay that is drawn", name="beta_high", within="(0, 1]")]


@decay_starts.register("shared")
def shared(beta: float, shape: tuple[int, ...]) -> float:
    """Return ``beta``, one number for all neurons of a layer.

    Args:
        beta: of the layer.
        shape: of the decays that it would have.
    """
    return beta


@decay_starts.register("equal")
def equal(beta: float, shape: tuple[int, ...]) -> Tensor:
    """Give each neuron a decay of its own, all of them ``beta`` at the start: they differ once they have learned.

    Args:
        beta: of the layer.
        shape: of the decays.
    """
    return torch.full(shape, beta)


@decay_starts.register("uniform")
def uniform(beta: float, shape: tuple[int, ...], *, low: Low = 0.5, high: High = 0.99) -> Tensor:
    """Draw each decay from the uniform distribution of ``[low, high]``.

    Args:
        beta: of the layer; not used.
        shape: of the decays.
        low: smallest decay.
        high: largest decay.

    Raises:
        UserError: for a range that is empty.
    """
    _check_range(low, high)
    return low + (high - low) * torch.rand(shape)


@decay_starts.register("log-uniform")
def log_uniform(beta: float, shape: tuple[int, ...], *, low: Low = 0.5, high: High = 0.99) -> Tensor:
    """Draw time constants whose logarithms are uniform, so that each order of magnitude is equally likely::

        ln τ ~ U(ln τ_low, ln τ_high),  τ_low = −1 / ln low,  τ_high = −1 / ln high,  β = exp(−1 / τ)

    Args:
        beta: of the layer; not used.
        shape: of the decays.
        low: smallest decay.
        high: largest decay, below 1.

    Raises:
        UserError: for a range that is empty, and for ``high`` of 1, whose time constant is infinite.
    """
    _check_range(low, high)
    if high == 1:
        raise UserError("log-uniform draws time constants, and that of beta_high=1 is infinite: choose one below 1")
    shortest, longest = math.log(-1 / math.log(low)), math.log(-1 / math.log(high))
    times = (shortest + (longest - shortest) * torch.rand(shape, dtype=torch.float64)).exp()
    return (-1 / times).exp().float().clamp(low, high)


@decay_starts.register("gamma")
def gamma(
    beta: float,
    shape: tuple[int, ...],
    *,
    k: Annotated[
        float, option("shape of the gamma distribution; the larger, the more alike", name="beta_shape", within="(0, ∞)")
    ] = 3.0,
) -> Tensor:
    """Draw time constants from the gamma distribution of Perez-Nieves et al. 2021, whose mean is that of ``beta``::

        τ ~ Gamma(k, τ̄ / k),  τ̄ = −1 / ln beta,  β = exp(−1 / τ)

    Their mean is ``τ̄``, their deviation ``τ̄ / √k``; ``k = 3`` is the paper's. Decays are kept in [0.001, 0.995] (the
    paper's code: [2/e, 0.995], which would leave little of a distribution around a short ``τ̄``).

    Args:
        beta: of the layer, below 1.
        shape: of the decays.
        k: shape of the distribution, above 0.

    Raises:
        UserError: for ``beta`` of 1, whose time constant is infinite, and ``k`` that is no finite number above 0.
    """
    if beta >= 1:
        raise UserError("gamma draws time constants around that of beta, and that of beta=1 is infinite: choose less")
    if not 0 < k < math.inf:
        raise UserError(f"the shape k of a gamma distribution is a finite number above 0, got {k}")
    drawn: Tensor = torch._standard_gamma(torch.full(shape, float(k), dtype=torch.float64))
    times = drawn / k * (-1 / math.log(beta))
    return (-1 / times).exp().float().clamp(LEAST_DECAY, MOST_DECAY)


def spread_decays(net: torch.nn.Module, shape: tuple[int, ...], start: str = "gamma", **options: Any) -> None:
    """Give the neurons of a network that fire decays of their own.

    There is one for each neuron of a dense layer, for each channel of an image, whose neurons share their weights too,
    and for each feature of tokens. A β that learns learns in this shape. Leaky integrators keep theirs::

        net = models.lif_mlp([700, 256, 20], learn_beta=True)
        models.spread_decays(net, (700,), "log-uniform", low=0.5, high=0.99)

    Args:
        net: the network; neurons and weights after them may be in any order.
        shape: of one sample at one step, without batch.
        start: name of a distribution in :data:`decay_starts`.
        options: of the distribution.

    Raises:
        UserError: for neurons that have a decay each already, options out of range, and a network without neurons.
        UnknownNameError: for another name.
    """
    draw, like = decay_starts[start], _like(net)
    for name, (layer, own) in _neurons(net, shape).items():
        learned = layer.decay
        unknown = learned is not None and learned.is_meta and not learned.dim()  # of shapes alone
        beta = 0.5 if unknown else layer.beta
        if isinstance(beta, Tensor):
            raise UserError(f"the neurons {name!r} have a decay each already: make them with one number for beta")
        drawn = draw(beta, own, **options)
        if not isinstance(drawn, Tensor):
            continue
        if learned is None:
            layer.beta = drawn.to(like.device)
        else:
            layer.decay = torch.nn.Parameter(drawn.to(learned), learned.requires_grad)


def _neurons(net: torch.nn.Module, shape: tuple[int, ...]) -> dict[str, tuple[nn.Neurons, tuple[int, ...]]]:
    """Find the neurons that fire and the shapes of their decays, by a run of one sample and step."""
    layers = {name: layer for name, layer in graph.leaves(net).items() if isinstance(layer, nn.Neurons)}
    if not layers:
        raise UserError(f"{type(net).__name__} has no neurons with a decay")
    found: dict[str, tuple[int, ...]] = {}

    def look(call: graph.Call) -> None:
        found[call.name] = tuple(call.outputs.shape[2:])

    for layer in layers.values():
        layer.forward = torch.empty_like  # type: ignore[assignment,method-assign]  # of their shape, also on the meta device
    try:
        with graph.evaluating(net), graph.watching(net, look):
            net(torch.zeros(1, 1, *shape).to(_like(net)))
    finally:
        for layer in layers.values():
            del layer.forward
    return {name: (layer, _shared_shape(found[name])) for name, layer in layers.items() if name in found}


def _shared_shape(sample: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of decays: ``[features]``, ``[1, features]`` of tokens, ``[C, 1, …]`` of images."""
    return (1, sample[-1]) if len(sample) == 2 else (sample[0], *(1 for _ in sample[1:]))


def _like(net: torch.nn.Module) -> Tensor:
    """Return a tensor of the dtype and device of a network."""
    return next((each.detach() for each in net.parameters()), torch.zeros(()))


def _check_range(low: float, high: float) -> None:
    if not 0 < low <= high <= 1:
        raise UserError(
            f"decays are drawn from a range within (0, 1], from the smaller to the larger: beta_low {low:g} and "
            f"beta_high {high:g} are none"
        )
