"""Training on blobs with a reward that only punishes false positives (LFP v3, Fig. A.2, eq. 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spikelfp import rewards, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, spread
from spikelfp.reproduce.toy import (
    best_rate,
    boundary,
    draw_rates,
    loaded,
    mean_accuracy,
    network_of,
    sweep,
    sweeps,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REWARDS = {"false-positive": rewards.FalsePositive(), "softmax": rewards.Softmax()}
LABELS = {"false-positive": "false positives, eq. 14", "softmax": "softmax, Table 2 row 3"}
COLOURS = {"false-positive": "#b3421b", "softmax": "#8a8a8a"}
WELL = 0.99
"""Test accuracy of a network that has solved its task."""


@experiments.register("false-positive-reward")
class FalsePositiveReward(Experiment):
    """Training on blobs with the reward of eq. 14, beside the reward of Table 2, row 3."""

    title, source = "A reward without a loss: false positives", "LFP v3, Fig. A.2"
    claims = (
        "With the right learning rate LFP solves the task by a reward that no loss function has as its gradient.",
        "The choice of the learning rate matters more than with the softmax reward.",
        "Training is less stable than with the softmax reward.",
    )
    setting = (
        "Blobs, networks of 32, 16 and 2 neurons with ReLU, LFP-ε with sums over batches of 128, SGD with momentum "
        "0.95, 10 epochs, five draws (A.6.1, A.3), with the reward of eq. 14 and, beside it, that of Table 2, row 3. "
        "Of the learning rates a · 10^b, b = -10 … 3, those with a = 1, 2, 5 and b = -7 … 1 are run. Accuracy while "
        "training is that of the batches."
    )
    minutes, seeds = 0.2, 5

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return sweeps(quick, 3, data=["blobs"], reward=list(REWARDS), seeds=[seeds])

    def run(self, part: Part, desk: Desk) -> list[Row]:
        found = sweep(part, rules.Epsilon(), ("sum",), reward=REWARDS[part.settings["reward"]])
        desk.keep(curves=found.curves, **{f"layer_{place}": each for place, each in enumerate(found.layers)})
        return found.rows

    def judge(self, results: Results) -> list[Verdict]:
        rate = best_rate(results, reward="false-positive")
        best = results.values("accuracy", reward="false-positive", rate=rate)
        good = {name: sum(value >= WELL for value in mean_accuracy(results, reward=name).values()) for name in REWARDS}
        falls = {name: self._falls(results, name) for name in REWARDS}
        return [
            Verdict(
                bool(best.mean() >= WELL),
                f"mean test accuracy {spread(best)} at the best rate, {rate:.0e} (asked: {WELL}); "
                f"{self._own(results)} of {len(best)} seeds reach it at the rate that is best for them",
            ),
            Verdict(
                good["false-positive"] < good["softmax"],
                f"rates with a mean accuracy of {WELL} or more: {good['false-positive']} of "
                f"{len(results.each('rate'))}, with the softmax reward {good['softmax']}",
            ),
            Verdict(
                bool(falls["false-positive"].mean() > falls["softmax"].mean()),
                "sum of all falls of accuracy from a batch to the next, in the second half of training at the best "
                f"rate: {spread(falls['false-positive'], 2)}, with the softmax reward {spread(falls['softmax'], 2)}",
            ),
        ]

    @staticmethod
    def _own(results: Results) -> int:
        """Number of seeds that solve the task with some learning rate."""
        seeds = results.each("seed")
        return sum(results.values("accuracy", reward="false-positive", seed=seed).max() >= WELL for seed in seeds)

    def _curves(self, results: Results, reward: str) -> NDArray[np.float64]:
        """Accuracy in the batches at the best rate, ``[seeds, steps]``."""
        held = results.arrays(next(part for part in results.parts if part.startswith(f"blobs-{reward}-")))
        return held["curves"][:, self._places(results, reward)].T.astype(np.float64)

    @staticmethod
    def _places(results: Results, reward: str) -> list[int]:
        """Places of the networks of the best rate, one of each seed."""
        rate = best_rate(results, reward=reward)
        return [place for place, row in enumerate(results.select(reward=reward)) if row["rate"] == rate]

    def _falls(self, results: Results, reward: str) -> NDArray[np.float64]:
        """Sum of the falls of each seed."""
        curves = self._curves(results, reward)
        late = curves[:, curves.shape[1] // 2 :]
        found: NDArray[np.float64] = np.maximum(-np.diff(late, axis=1), 0).sum(1)
        return found

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(11, 3.3)
        left, middle, right = figure.subplots(1, 3)
        held = results.arrays(next(part for part in results.parts if "false-positive" in part))
        place = self._places(results, "false-positive")[0]
        layers = [held[f"layer_{number}"] for number in range(len(held) - 1)]
        splits = loaded("blobs", 0)
        boundary(left, network_of(layers, place, rules.Epsilon()), splits.test.images, splits.test.labels)
        left.set_title("boundary, best rate")
        for name in reversed(REWARDS):
            draw_rates(middle, results, {"reward": name}, COLOURS[name], "-", LABELS[name])
            curves = self._curves(results, name)
            mean, deviation = curves.mean(0), curves.std(0)
            right.plot(mean, color=COLOURS[name], lw=1.2, label=LABELS[name])
            right.fill_between(
                np.arange(len(mean)), mean - deviation, mean + deviation, color=COLOURS[name], alpha=0.15, lw=0
            )
        middle.set(title="accuracy over rates", xlabel="learning rate", ylabel="test accuracy")
        right.set(title="convergence, best rates", xlabel="batch", ylabel="accuracy in training", ylim=(0, 1.04))
        right.legend(fontsize=8, loc="lower right")
