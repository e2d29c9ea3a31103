"""Accuracy of networks with more and more hidden layers, under several rules (LFP v1, Fig. A.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from spikelfp import rewards, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, grid, named
from spikelfp.reproduce.side_by_side import Training, accuracy, first_weights, networks, sigmoid_loss, train
from spikelfp.reproduce.simple_reward import HELD_OUT, LEARNING_RATE, MOMENTUM, line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES: dict[str, rules.Rule] = {
    "gradient": rules.Gradient(),
    "epsilon": rules.Epsilon(normalize="step"),
    "alphabeta": rules.AlphaBeta(normalize="step"),
    "zplusminus": rules.ZPlusMinus(normalize="step"),
}
LABELS = {"gradient": "gradient", "epsilon": "LFP-ε", "alphabeta": "LFP-α2β1", "zplusminus": "LFP-z⁺z⁻"}
COLOURS = {"gradient": "#2b5c8a", "epsilon": "#b3421b", "alphabeta": "#4f7d4a", "zplusminus": "#7a5a9a"}
DEPTHS, WIDTHS, BATCH = (1, 2, 3, 4, 5, 6, 20), (8, 16, 32, 64), 256
SPLITTING = ("alphabeta", "zplusminus")
"""Rules that treat positive and negative contributions separately."""


@experiments.register("depth")
class Depth(Experiment):
    """Training on the line with 1 to 20 hidden layers of 8 to 64 neurons."""

    title, source = "Robustness against depth", "LFP v1, Fig. A.3"
    claims = (
        "LFP-z⁺z⁻ and LFP-α2β1 cope better with depth than gradients and LFP-ε.",
        "With six hidden layers their accuracy has fallen, too.",
        "With twenty hidden layers no rule does better than chance.",
    )
    setting = (
        "Points from -4 to 4 in steps of 0.0005, the class is the sign, 100 random ones for testing. ReLU "
        "networks of 1 to 20 hidden layers with 8, 16, 32 or 64 neurons each and 2 outputs, SGD with learning "
        "rate 1 and momentum 0.9, 5 epochs, the reward (or gradient) of each sample divided by its largest "
        "magnitude in each layer (A.4). The reward is eq. 7, gradients are those of sigmoid cross-entropy. The "
        "paper does not say the size of a batch (here 256), nor whether updates are summed (here means), nor how "
        "weights start (here as torch draws them)."
    )
    minutes, seeds = 4.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        depths = (1, 3) if quick else DEPTHS
        step, epochs = (0.01, 2) if quick else (0.0005, 5)
        return [
            Part(named(**own).name, own | {"seeds": seeds, "step": step, "epochs": epochs})
            for own in grid(rule=list(RULES), layers=depths)
        ]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        given = part.settings
        each = [(seed, width) for seed in range(given["seeds"]) for width in WIDTHS]
        lines = [line(given["step"], HELD_OUT, seed) for seed, _ in each]
        x, y, x_test, y_test = (torch.stack(several) for several in zip(*lines, strict=True))
        rule = RULES[given["rule"]]
        starts = [first_weights((1, *[width] * given["layers"], 2), seed, max(WIDTHS)) for seed, width in each]
        net = networks(starts, rule, scaled=rule.of_gradients)
        training = Training(
            rates=torch.full((len(each),), LEARNING_RATE),
            sums=torch.zeros(len(each), dtype=torch.bool),
            epochs=given["epochs"],
            batch=BATCH,
            momentum=MOMENTUM,
            reward=rewards.Sigmoid(),
            loss=sigmoid_loss,
        )
        trained = train(net, x, y, training, 0)
        found = accuracy(net, x_test, y_test)
        return [
            {"seed": seed, "width": width, "accuracy": found[place], "diverged": trained.diverged[place]}
            for place, (seed, width) in enumerate(each)
        ]

    def judge(self, results: Results) -> list[Verdict]:
        depths = results.each("layers")
        middle = {
            (rule, depth): float(np.median(results.values("accuracy", rule=rule, layers=depth)))
            for rule in RULES
            for depth in depths
        }
        overall = {rule: float(results.values("accuracy", rule=rule).mean()) for rule in RULES}
        deepest, six = max(depths), 6 if 6 in depths else max(depths)
        highest = max(middle[rule, deepest] for rule in RULES)

        def words(depth: int, of: tuple[str, ...]) -> str:
            return ", ".join(f"{LABELS[rule]} {middle[rule, depth]:.2f}" for rule in of)

        means = ", ".join(f"{LABELS[rule]} {value:.3f}" for rule, value in overall.items())
        return [
            Verdict(
                min(overall[rule] for rule in SPLITTING) > max(overall["gradient"], overall["epsilon"]),
                f"mean accuracy over all depths, widths and seeds: {means}; medians with six layers: "
                f"{words(six, tuple(RULES))}",
            ),
            Verdict(
                all(middle[rule, six] <= middle[rule, min(depths)] - 0.05 for rule in SPLITTING),
                f"median accuracy with {min(depths)} hidden layer: {words(min(depths), SPLITTING)}; with {six}: "
                f"{words(six, SPLITTING)} (asked: 5 points less)",
            ),
            Verdict(
                highest <= 0.65 if deepest == max(DEPTHS) else None,
                f"median accuracy with {deepest} hidden layers: {words(deepest, tuple(RULES))} (chance: 0.5, allowed: "
                "0.65)",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        depths = results.each("layers")
        figure.set_size_inches(1.65 * len(depths) + 1, 3.6)
        grid_of = np.atleast_1d(figure.subplots(1, len(depths), sharey=True))
        for axes, depth in zip(grid_of, depths, strict=True):
            for place, rule in enumerate(RULES):
                values = results.values("accuracy", rule=rule, layers=depth)
                low, first, median, third, high = np.percentile(values, (0, 25, 50, 75, 100))
                axes.plot([place, place], [low, high], color=COLOURS[rule], lw=1)
                axes.bar(place, third - first, 0.6, first, color=COLOURS[rule], alpha=0.5)
                axes.plot([place - 0.3, place + 0.3], [median, median], color=COLOURS[rule], lw=2)
                axes.plot([place, place], [low, high], "_", color=COLOURS[rule], ms=9)
            axes.axhline(0.5, color="#999", lw=0.7, ls=":")
            axes.set(title=f"{depth} hidden", ylim=(0.3, 1.03), xlim=(-0.6, 3.6))
            axes.set_xticks(range(len(RULES)), [LABELS[rule] for rule in RULES], rotation=70, fontsize=8)
        grid_of[0].set_ylabel("test accuracy")
