"""Boundaries that LFP draws through activations that are not piecewise linear (LFP v3, Fig. A.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spikelfp import nn, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, spread
from spikelfp.reproduce.toy import EPOCHS, best_rate, boundary, loaded, network_of, sweep, sweeps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATIONS = {
    "leaky-relu": nn.LeakyReLU,
    "heaviside": nn.Heaviside,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "tanh": nn.Tanh,
}
"""Activations of the figure, in its order."""

CHANCE, BETTER, WORKS = {"blobs": 1 / 2, "circles": 1 / 2, "swirls": 1 / 3}, 0.1, 0.9
"""Accuracy by chance; by how much more is clearly better; and that of a network that has solved its task."""


@experiments.register("toy-activations")
class ToyActivations(Experiment):
    """Training on blobs, circles and swirls through five activations."""

    title, source = "Activations on blobs, circles and swirls", "LFP v3, Fig. A.1"
    claims = (
        "LFP trains networks with activations that are not piecewise linear (SiLU, ELU, tanh).",
        "Networks of Heaviside steps learn, clearly better than chance.",
        "They end clearly below those with any other activation.",
    )
    setting = (
        "As for the figure of blobs, circles and swirls (A.6.1), with an activation behind the last layer, too (A.1), "
        "and LFP-ε with sums over the batch. Three draws of each data set instead of five, and the learning rates "
        "a · 10^b with a = 1, 3 and b = -7 … 1. Boundaries are those of the first draw at the learning rate that is "
        "the best on average; the number is the mean accuracy there."
    )
    minutes, seeds = 3.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        names = ["blobs", "swirls"] if quick else list(EPOCHS)
        return sweeps(quick, 2, data=names, activation=list(ACTIVATIONS), seeds=[seeds])

    def run(self, part: Part, desk: Desk) -> list[Row]:
        activation = ACTIVATIONS[part.settings["activation"]]
        found = sweep(part, rules.Epsilon(), ("sum",), activation=activation, activated_output=True)
        own = len(found.rows) // part.settings["seeds"]  # networks of a seed
        desk.keep(**{f"layer_{place}": each[:own] for place, each in enumerate(found.layers)})
        return found.rows

    @staticmethod
    def _best(results: Results, name: str, activation: str) -> Row:
        wanted = {"data": name, "activation": activation}
        return wanted | {"rate": best_rate(results, **wanted)}

    def _found(self, results: Results) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Accuracies of the seeds, by data set and activation."""
        return {
            name: {each: results.values("accuracy", **self._best(results, name, each)) for each in ACTIVATIONS}
            for name in results.each("data")
        }

    def judge(self, results: Results) -> list[Verdict]:
        found = self._found(results)
        smooth = ("silu", "elu", "tanh")
        lowest = {each: min((found[name][each].mean(), name) for name in found) for each in smooth}
        words = "; ".join(f"{each} {spread(found[name][each])} on {name}" for each, (_, name) in lowest.items())
        over = {name: found[name]["heaviside"].mean() - CHANCE[name] for name in found}
        under = {
            name: min(own.mean() for each, own in found[name].items() if each != "heaviside")
            - found[name]["heaviside"].mean()
            for name in found
        }
        steps = ", ".join(f"{name} {spread(own['heaviside'])}" for name, own in found.items())
        gaps = ", ".join(f"{name} {100 * gap:.1f}" for name, gap in under.items())
        return [
            Verdict(
                all(value >= WORKS for value, _ in lowest.values()),
                f"lowest test accuracy over the data sets: {words} (asked: {WORKS})",
            ),
            Verdict(
                all(gap >= BETTER for gap in over.values()),
                f"{steps}, at the best rate (asked: {100 * BETTER:.0f} points more than by chance)",
            ),
            Verdict(
                all(gap >= 0.02 for gap in under.values()),
                f"points below the lowest of the other activations: {gaps} (asked: 2)",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        names = results.each("data")
        figure.set_size_inches(11, 2.3 * len(names))
        grid = figure.subplots(len(names), len(ACTIVATIONS), squeeze=False)
        for row, name in enumerate(names):
            splits = loaded(name, 0)
            for column, activation in enumerate(ACTIVATIONS):
                axes, best = grid[row, column], self._best(results, name, activation)
                part = next(each for each in results.parts if each.startswith(f"{name}-{activation}-"))
                held: dict[str, NDArray[Any]] = results.arrays(part)
                rates = results.each("rate", data=name, activation=activation)
                net = network_of(
                    [held[f"layer_{place}"] for place in range(len(held))],
                    rates.index(best["rate"]),
                    rules.Epsilon(),
                    activation=ACTIVATIONS[activation],
                    activated_output=True,
                )
                boundary(axes, net, splits.test.images, splits.test.labels)
                value = results.values("accuracy", **best).mean()
                box = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5}
                axes.text(0.96, 0.95, f"{value:.2f}", transform=axes.transAxes, ha="right", va="top", bbox=box)
                if row == 0:
                    axes.set_title(activation)
                if column == 0:
                    axes.set_ylabel(name)
