r"""Rewards that arrive at the layers of a network, and how much they look like noise (shattering; v1, appendix A.4).

Deep networks of ReLU have gradients that at neighbouring inputs are as unlike as white noise (Balduzzi et al. 2017,
arXiv:1702.08591). The sign of it is the autocorrelation of the signal at the input, over a grid of inputs of one
feature, beside that of white and of Brownian noise.

>>> found = analysis.shattering(net, rule=rules.Epsilon(normalize="sample"))
>>> found.autocorrelation[:10], analysis.autocorrelation(analysis.noise("white", len(found.grid)), 10)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from spikelfp import checks
from spikelfp.errors import ShapeError, UserError
from spikelfp.explain import untouched
from spikelfp.functional.credit import earners
from spikelfp.functional.lif import check_number
from spikelfp.functional.propagation import find, send_rewards
from spikelfp.nn import graph
from spikelfp.registry import check_name
from spikelfp.rules.base import Assigning, lending, rules_in
from spikelfp.training.evaluation import evaluating

NOISES = ("white", "brownian")
"""Kinds of :func:`noise`."""


@dataclass(frozen=True)
class LayerReward:
    """Credit that arrived at the outputs of a layer.

    Attributes:
        message: reward per unit of activation ``m``, ``[T, B, …]``; 0 where a spike that would carry it is missing.
            ``None`` at outputs of the network that are given rewards, spike or no spike.
        reward: ``r = a m`` of each output, of the same shape; neurons with a margin also earn ``m`` above it.
    """

    message: Tensor | None
    reward: Tensor

    @property
    def total(self) -> float:
        """Sum of the rewards, the same at each layer where a rule conserves it."""
        return float(self.reward.double().sum())

    @property
    def magnitude(self) -> float:
        """Mean of ``|r|``."""
        return float(self.reward.double().abs().mean())


@torch.inference_mode(False)
def layer_rewards(
    net: Module,
    x: Tensor,
    labels: Tensor | None,
    reward: Callable[..., Tensor],
    *,
    rule: Assigning | None = None,
) -> dict[str, LayerReward]:
    """Measure the rewards that arrive at each layer for a batch.

    The network runs in evaluation mode, and nothing of it changes. Under a rule of gradients the messages are
    ``Σ_c r_c ∂o_c/∂a``, derivatives in the direction of the rewards.

    Args:
        net: layers of :mod:`spikelfp.nn`.
        x: inputs ``[T, B, …]``.
        labels: targets, handed to ``reward``.
        reward: function of outputs ``[T, B, C]`` and labels that gives their rewards, such as ``rewards.Softmax()``.
        rule: rule of the layers that have none of their own, or a composite; ``None`` for LFP-ε.

    Returns:
        Credit of the outputs of each layer by name, in the order the layers ran, after that of the inputs at
        ``"<input>"``. Another run of a layer has the name ``"name:2"``. A layer that gets no credit is left out.

    Raises:
        UserError: where nothing is handed back, and for neurons that are outputs and also drive others.
        ShapeError: for rewards of another shape than the outputs.
    """
    checks.graph_of(net)
    if not callable(reward):
        raise UserError(f"reward is a function of outputs and labels, such as rewards.Softmax(), got {reward!r:.80}")
    if not isinstance(x, Tensor) or x.layout is not torch.strided or not x.is_floating_point():
        raise UserError("inputs are a dense tensor [T, B, …] of floating-point numbers")
    seen: list[tuple[str, Tensor, list[tuple[Tensor, Tensor | None]]]] = []

    def arrive(out: Tensor, kept: list[Any], message: Tensor) -> None:
        heard = earners(out)
        kept.append((message.detach().clone(), None if heard is None else heard()))

    def look(call: graph.Call) -> None:
        out = call.outputs[0] if isinstance(call.outputs, tuple) else call.outputs
        if isinstance(out, Tensor) and out.requires_grad:
            kept: list[tuple[Tensor, Tensor | None]] = []
            seen.append((call.name, out, kept))
            out.register_hook(partial(arrive, out, kept))

    lent = nullcontext() if rule is None else lending(net, rule)
    with evaluating(net, 0, x.device), untouched(net), lent, torch.enable_grad():
        leaf = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        arrived: list[tuple[Tensor, Tensor | None]] = []
        seen.append((graph.INPUT, leaf, arrived))
        leaf.register_hook(partial(arrive, leaf, arrived))
        with graph.watching(net, look):
            outputs = net(leaf)
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            raise UserError("nothing is handed back to the layers: build the network of layers of spikelfp.nn")
        given = reward(outputs.detach(), labels)
        given = checks.tensor("the reward", given)
        if given.shape != outputs.shape:
            raise ShapeError(f"rewards have shape {list(given.shape)}, and outputs {list(outputs.shape)}")
        rewarded = set[str]()
        if any(each.of_gradients for each in rules_in(net).values()):
            torch.autograd.backward(outputs, given.to(outputs.dtype))
        else:
            frontier = find([outputs])
            if frontier.nested:
                raise UserError(
                    "some neurons are outputs and also drive others: their reward and their messages are of two kinds"
                )
            rewarded = _rewarded(net, x) if frontier.kinds[0] else rewarded
            send_rewards(outputs, given)
    found: dict[str, LayerReward] = {}
    for name, (own, out, kept) in zip(_numbered([own for own, _, _ in seen]), seen, strict=True):
        if not kept:
            continue
        message, heard = kept[-1]
        if own in rewarded:
            found[name] = LayerReward(None, message)
        else:
            values = out.detach()
            found[name] = LayerReward(message, values * message if heard is None else torch.where(heard, message, 0))
    return found


def _rewarded(net: Module, x: Tensor) -> set[str]:
    """Names of the last layers, from the neurons at the end on, which get rewards in place of messages."""
    known = graph.neighbours(net, x)
    found, left = set[str](), [graph.OUTPUT]
    while left:
        for each in known.before.get(left.pop(), ()):
            if each not in found:
                found.add(each)
                layer = known.layers.get(each)
                left += [] if layer is not None and graph.is_neuron(layer) else [each]
    return found


def _numbered(names: list[str]) -> list[str]:
    found: list[str] = []
    for place, name in enumerate(names):
        times = names[: place + 1].count(name)
        found.append(name if times == 1 else f"{name}:{times}")
    return found


@dataclass(frozen=True)
class Shattering:
    """Signal at the input of a network over a grid of inputs.

    Attributes:
        grid: inputs ``[N]``.
        signal: reward or gradient at each of them, float64 ``[N]``.
        autocorrelation: of the signal at the lags 0, 1, …, in points of the grid, float64.
    """

    grid: Tensor
    signal: Tensor
    autocorrelation: Tensor


@torch.inference_mode(False)
def shattering(
    net: Module,
    *,
    low: float = -4.0,
    high: float = 4.0,
    points: int = 401,
    target: int = 0,
    steps: int = 1,
    lags: int = 50,
    rule: Assigning | None = None,
) -> Shattering:
    """Follow the signal at the input over a grid of inputs of one feature, as in v1, Fig. A.2.

    The signal is what a layer hands back: gradients ``∂o_c/∂x``, or rewards ``r_i`` that start from ``r_c = o_c``. The
    paper also divides the reward of each layer by its largest magnitude (``rules.Epsilon(normalize="sample")``).

    Args:
        net: network that takes one feature, ``[T, B, 1]``.
        low: first point of the grid.
        high: last point.
        points: their number; 401 are steps of 0.02, as in the paper.
        target: output whose signal is followed.
        steps: at which each input is shown; the signals of the steps are added.
        lags: largest lag; fewer for a grid of fewer points.
        rule: rule of the layers that have none of their own; ``None`` for LFP-ε, ``rules.Gradient()`` for gradients.

    Raises:
        UserError: for an empty grid, a target that is none, and what :func:`layer_rewards` refuses.
    """
    points, steps = checks.whole("points", points, 3), checks.whole("steps", steps, 1)
    target, lags = checks.whole("target", target), checks.whole("lags", lags)
    low, high = check_number("low", low), check_number("high", high)
    if not -math.inf < low < high < math.inf:
        raise UserError(f"a grid goes from low to high, two finite numbers, got {low} to {high}")
    parameter = next(checks.network(net).parameters(), None)
    if parameter is None:
        raise UserError("the network has no weights, between whose layers a signal could shatter")
    grid = torch.linspace(low, high, points, dtype=parameter.dtype, device=parameter.device)
    gradients = rule is not None and any(each.of_gradients for each in rule.assign(net).values())

    def own(outputs: Tensor, labels: Tensor | None) -> Tensor:
        if target >= outputs.shape[-1]:
            raise UserError(f"there is no output {target}: the network has {outputs.shape[-1]}")
        chosen = torch.zeros_like(outputs)
        chosen[..., target] = 1
        return chosen if gradients else outputs * chosen

    x = grid.view(1, -1, 1).expand(steps, -1, 1)
    found = layer_rewards(net, x, None, own, rule=rule).get(graph.INPUT)
    arrived = None if found is None else found.message if gradients else found.reward
    if arrived is None:
        raise UserError("no signal arrives at the input: put layers of weights between it and the outputs")
    signal = arrived.double().sum((0, 2))
    return Shattering(grid, signal, autocorrelation(signal, min(lags, points - 1)))


def autocorrelation(values: Tensor, lags: int) -> Tensor:
    """Compute the autocorrelation of a signal, ``ρ(k) = Σ_i (v_i − v̄)(v_{i+k} − v̄) / Σ_i (v_i − v̄)²``.

    Args:
        values: signal ``[N]``.
        lags: largest lag, below N.

    Returns:
        ``ρ(0) = 1, …, ρ(lags)``, float64 ``[lags + 1]``; NaN for a constant signal.

    Raises:
        UserError: for lags that do not fit, and a signal of another shape or with NaN.
    """
    values, lags = checks.finite("a signal", values), checks.whole("lags", lags)
    if values.ndim != 1 or lags >= len(values):
        raise UserError(f"a signal [N] has lags from 0 to N − 1, got {list(values.shape)} and {lags}")
    centred = values.double() - values.double().mean()
    return torch.stack([(centred[: len(values) - lag] * centred[lag:]).sum() for lag in range(lags + 1)]) / (
        centred.square().sum()
    )


def noise(kind: str, points: int, seed: int = 0) -> Tensor:
    """Draw noise to compare a signal with: independent numbers, or their running sum (Brownian motion).

    Args:
        kind: ``"white"`` or ``"brownian"``.
        points: their number.
        seed: of the numbers.

    Returns:
        float64 ``[points]``.

    Raises:
        UnknownNameError: for another kind.
        UserError: for points or a seed that are no whole numbers.
    """
    check_name("noise", kind, NOISES)
    points, seed = checks.whole("points", points), checks.whole("seed", seed)
    drawn = torch.randn(points, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return drawn.cumsum(0) if kind == "brownian" else drawn
