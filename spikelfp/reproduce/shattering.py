"""Signals that arrive at the input of deep networks, for neighbouring inputs (LFP v1, Fig. A.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import nn, propagate, rewards, rules
from spikelfp.analysis.credit import autocorrelation
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, grid, named, spread
from spikelfp.reproduce.depth import COLOURS, LABELS, SPLITTING
from spikelfp.reproduce.side_by_side import sigmoid_loss
from spikelfp.reproduce.simple_reward import line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES: dict[str, rules.Rule] = {
    "gradient": rules.Gradient(),
    "epsilon": rules.Epsilon(),
    "alphabeta": rules.AlphaBeta(),
    "zplusminus": rules.ZPlusMinus(),
}
DEPTHS, WIDTH, STEP = (1, 50, 200, 500), 200, 0.02
STARTS = ("he", "torch")
"""First weights: normal of deviation sqrt(2 / n) with biases that are normal of deviation 1; those of torch."""

NOISE, SMOOTH = 0.5, 0.9
"""Correlation of neighbours below which a signal is close to noise, and from which on it is smooth."""


def deep(layers: int, width: int, start: str, rule: rules.Rule, seed: int) -> nn.Sequential:
    """Build a ReLU network with one input and two outputs.

    Args:
        layers: number of hidden layers.
        width: neurons in each.
        start: one of :data:`STARTS`.
        rule: of all layers.
        seed: of the first weights.
    """
    torch.manual_seed(seed)
    net = nn.Sequential()
    for place in range(layers + 1):
        into, out = (1 if place == 0 else width), (2 if place == layers else width)
        dense = nn.Linear(into, out, rule=rule)
        if start == "he":
            torch.nn.init.normal_(dense.weight, std=(2 / into) ** 0.5)
            torch.nn.init.normal_(dense.bias)
        net.append(dense)
        if place < layers:
            net.append(nn.ReLU(rule=rule))
    return net.requires_grad_(True)


def scaled(message: Tensor) -> Tensor:
    """Divide a signal by its largest magnitude over all samples.

    Args:
        message: of any shape.
    """
    return message / message.abs().max().clamp(min=torch.finfo(message.dtype).tiny)


def arriving(net: nn.Sequential, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """Send rewards, or gradients, back to the inputs, and scale them by their largest magnitude in every layer.

    Rewards are linear in those of the outputs, so that scaling by one number for all samples changes no shape.

    Args:
        net: of :func:`deep`.
        x: inputs ``[N, 1]``.
        y: classes ``[N]``.

    Returns:
        Reward, or gradient, of each input, divided by the largest magnitude, ``[N]``.
    """
    given = x[None].clone().requires_grad_()
    signal = given
    for layer in net:
        signal = layer(signal)
        if isinstance(layer, nn.ReLU):
            signal.register_hook(scaled)
    first = net[0]
    assert isinstance(first, nn.Linear)
    if first.rule.of_gradients:
        sigmoid_loss(signal[0], y).backward()
        arrived = given.grad
    else:
        propagate(signal, rewards.Sigmoid()(signal, y))
        assert given.grad is not None
        arrived = given.detach() * given.grad
    found: NDArray[np.float64] = scaled(arrived)[0, :, 0].double().numpy()  # type: ignore[arg-type]
    return found


def neighbours(values: NDArray[np.float64]) -> float | None:
    """Compute the correlation of neighbouring values of a line (:func:`spikelfp.analysis.autocorrelation`, lag 1).

    Args:
        values: ``[N]``.

    Returns:
        In [−1, 1]; ``None`` where all values are equal.
    """
    return float(autocorrelation(torch.from_numpy(values.copy()), 1)[1]) if np.ptp(values) > 0 else None


@experiments.register("shattering")
class ShatteredSignals(Experiment):
    """Gradients and rewards at the input of networks with 1 to 500 hidden layers."""

    title, source = "Shattering of gradients and rewards", "LFP v1, Fig. A.2"
    claims = (
        "Gradients at the input become like noise in deep networks.",
        "So do the rewards of LFP-ε.",
        "Rewards of LFP-α2β1 and LFP-z⁺z⁻ are more alike for neighbouring inputs than gradients in every deep network.",
        "LFP-z⁺z⁻ gives a smooth signal even through 500 hidden layers.",
    )
    setting = (
        "Points from -4 to 4 in steps of 0.02, the class is the sign. Untrained ReLU networks of 1, 50, 200 or "
        "500 hidden layers of 200 neurons and 2 outputs (A.4). The reward is eq. 7, the gradient that of sigmoid "
        "cross-entropy; both are divided by their largest magnitude behind each layer. The paper does not say how "
        "weights start. Verdicts and picture are about normal weights of deviation sqrt(2 / n) with normal biases "
        "of deviation 1; results.csv has those as torch draws them, too. Measured is the correlation of "
        "neighbouring points, on each side of the jump at 0, and then the mean of both sides."
    )
    minutes, seeds = 3.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        depths, width = ((1, 10), 50) if quick else (DEPTHS, WIDTH)
        settings = grid(start=STARTS, layers=depths, seed=range(seeds))
        return [Part(named(**own).name, own | {"width": width}) for own in settings]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        given = part.settings
        points = line(STEP, 0)
        rows: list[Row] = []
        for name, rule in RULES.items():
            net = deep(given["layers"], given["width"], given["start"], rule, given["seed"])
            found = arriving(net, points.x, points.y)
            desk.keep(**{name: found})
            left, right = found[points.y.numpy() == 0], found[points.y.numpy() == 1]
            halves = [each for each in map(neighbours, (left, right)) if each is not None]
            rows.append({"rule": name, "correlation": float(np.mean(halves)) if halves else None})
        return rows

    def judge(self, results: Results) -> list[Verdict]:
        depths = results.each("layers")
        found = {
            (rule, depth): results.values("correlation", rule=rule, layers=depth, start="he")
            for rule in RULES
            for depth in depths
        }
        deep_ones = [depth for depth in depths if depth > 1]

        def words(rule: str) -> str:
            each = ", ".join(f"{depth}: {spread(found[rule, depth], 2)}" for depth in depths)
            return f"{LABELS[rule]} by hidden layers {each}"

        def noisy(rule: str) -> bool:
            return bool(
                all(found[rule, depth].mean() < NOISE for depth in deep_ones if depth >= 200 or depth == depths[-1])
            )

        return [
            Verdict(noisy("gradient"), f"{words('gradient')} (noise: below {NOISE} from 200 on)"),
            Verdict(noisy("epsilon"), f"{words('epsilon')} (noise: below {NOISE} from 200 on)"),
            Verdict(
                all(
                    found[rule, depth].mean() > found["gradient", depth].mean()
                    for rule in SPLITTING
                    for depth in deep_ones
                ),
                words("alphabeta"),
            ),
            Verdict(
                bool(found["zplusminus", depths[-1]].mean() >= SMOOTH), f"{words('zplusminus')} (smooth: {SMOOTH})"
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        depths = results.each("layers")
        figure.set_size_inches(11, 6.5)
        axes_of = figure.subplots(len(RULES), len(depths), sharex=True, sharey=True)
        x = line(STEP, 0).x[:, 0].numpy()
        for column, depth in enumerate(depths):
            held = results.arrays(named(start="he", layers=depth, seed=0).name)
            for row, rule in enumerate(RULES):
                axes = axes_of[row, column]
                axes.plot(x, held[rule], color=COLOURS[rule], lw=0.8)
                axes.set(ylim=(-1.1, 1.1), yticks=(-1, 0, 1))
                if row == 0:
                    axes.set_title(f"{depth} hidden layer{'s' if depth > 1 else ''}")
                if column == 0:
                    axes.set_ylabel(LABELS[rule])
                if row == len(RULES) - 1:
                    axes.set_xlabel("input")
