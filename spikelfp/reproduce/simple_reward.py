"""Training with a reward of ±1 on points of a line (LFP v1, Fig. A.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import rewards, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, spread
from spikelfp.reproduce.side_by_side import Training, accuracy, first_weights, networks, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEARNING_RATE, MOMENTUM, BATCH, DECAY, HELD_OUT = 1.0, 0.9, 128, 40, 100
SCHEDULES = {"falling": DECAY, "constant": 0}
"""Learning rates, by the number of steps after which they are multiplied with 0.1; 0: never."""

LABELS = {"falling": "learning rate falls", "constant": "constant learning rate"}
COLOURS = {"falling": "#b3421b", "constant": "#8a8a8a"}
REDUCTIONS = ("mean", "sum")
LEARNED = 0.95
"""Accuracy of a network that has learned its task."""


class Line(NamedTuple):
    """Points of a line, of class 1 where they are positive.

    Attributes:
        x: training samples ``[N, 1]``.
        y: their classes ``[N]``.
        x_test: test samples ``[M, 1]``.
        y_test: their classes ``[M]``.
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def line(step: float, held_out: int, seed: int = 0) -> Line:
    """List points from −4 up to 4 (v1, A.1).

    Args:
        step: between two points.
        held_out: number of random points for testing.
        seed: of their choice.
    """
    count = round(8 / step)
    x = (torch.arange(count, dtype=torch.float64) * step - 4).to(torch.float32)[:, None]
    y = (x[:, 0] > 0).long()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    test, own = order[:held_out].sort().values, order[held_out:].sort().values
    return Line(x[own], y[own], x[test], y[test])


@experiments.register("simple-reward")
class SimpleReward(Experiment):
    """Training with a reward of ±1, with a learning rate that falls and with one that does not."""

    title, source = "A reward of plus or minus one", "LFP v1, Fig. A.1"
    claims = (
        "A reward of 1 for a right and -1 for a wrong answer is a signal from which LFP learns.",
        "Training with it becomes unstable unless something makes it converge, such as a falling learning rate.",
    )
    setting = (
        "Points from -4 to 4 in steps of 0.0005, the class is the sign, 100 random ones for testing. Networks of "
        "32, 32 and 2 neurons with ReLU, LFP-ε, the reward of each sample divided by its largest magnitude in "
        "each layer, SGD with learning rate 1 and momentum 0.9; the rate is multiplied with 0.1 every 40 steps "
        "(A.1), or stays. The paper says neither the size of a batch (here 128), nor how long it trains (here 5 "
        "epochs, as in its Fig. A.3), nor whether updates are summed: here they are means, and beside them sums. "
        "Five seeds of first weights, order and test points."
    )
    minutes, seeds = 0.5, 5

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        step, epochs = (0.005, 2) if quick else (0.0005, 5)
        return [
            Part(f"{name}-seeds{seeds}", {"schedule": name, "seeds": seeds, "step": step, "epochs": epochs})
            for name in SCHEDULES
        ]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        given = part.settings
        each = [(seed, reduction) for seed in range(given["seeds"]) for reduction in REDUCTIONS]
        lines = [line(given["step"], HELD_OUT, seed) for seed, _ in each]
        x, y, x_test, y_test = (torch.stack(several) for several in zip(*lines, strict=True))
        net = networks([first_weights((1, 32, 32, 2), seed) for seed, _ in each], rules.Epsilon(normalize="step"))
        training = Training(
            rates=torch.full((len(each),), LEARNING_RATE),
            sums=torch.tensor([reduction == "sum" for _, reduction in each]),
            epochs=given["epochs"],
            batch=BATCH,
            momentum=MOMENTUM,
            reward=rewards.Sign(),
            decay=SCHEDULES[given["schedule"]] or None,
        )
        trained = train(net, x, y, training, 0)
        desk.keep(curves=trained.curve)
        found = accuracy(net, x_test, y_test)
        late = trained.curve[len(trained.curve) // 2 :]
        return [
            {"seed": seed, "reduction": reduction, "accuracy": found[place], "diverged": trained.diverged[place]}
            | {"lowest": late[:, place].min(), "deviation": late[:, place].std()}
            for place, (seed, reduction) in enumerate(each)
        ]

    def judge(self, results: Results) -> list[Verdict]:
        found = {
            (name, reduction): results.values("accuracy", schedule=name, reduction=reduction)
            for name in SCHEDULES
            for reduction in REDUCTIONS
        }
        uneasy = {name: results.values("deviation", schedule=name, reduction="mean") for name in SCHEDULES}
        lowest = {name: results.values("lowest", schedule=name, reduction="mean") for name in SCHEDULES}
        sums = ", ".join(
            f"{spread(found[name, 'sum'])} where it {word}"
            for name, word in zip(SCHEDULES, ("falls", "is constant"), strict=True)
        )
        return [
            Verdict(
                bool(found["falling", "mean"].mean() >= LEARNED),
                f"test accuracy {spread(found['falling', 'mean'])} with a falling learning rate (asked: {LEARNED}); "
                f"with sums {sums}",
            ),
            Verdict(
                bool(
                    uneasy["constant"].mean() > 2 * uneasy["falling"].mean()
                    or found["constant", "mean"].mean() < found["falling", "mean"].mean() - 0.05
                ),
                f"with a constant rate test accuracy {spread(found['constant', 'mean'])}; deviation between batches of "
                f"the second half {spread(uneasy['constant'])} (lowest {lowest['constant'].min():.2f}), with a "
                f"falling rate {spread(uneasy['falling'])} (lowest {lowest['falling'].min():.2f}) (unstable: twice the "
                "deviation, or 5 points less at the end)",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(9, 3.4)
        for axes, reduction in zip(figure.subplots(1, 2, sharey=True), REDUCTIONS, strict=True):
            for name in reversed(SCHEDULES):
                rows = results.select(schedule=name)
                places = [place for place, row in enumerate(rows) if row["reduction"] == reduction]
                part = next(each for each in results.parts if each.startswith(name))
                curves: NDArray[np.float64] = results.arrays(part)["curves"][:, places].astype(np.float64)
                mean, deviation = curves.mean(1), curves.std(1)
                axes.plot(mean, color=COLOURS[name], lw=1.2, label=LABELS[name])
                axes.fill_between(
                    np.arange(len(mean)), mean - deviation, mean + deviation, color=COLOURS[name], alpha=0.2, lw=0
                )
            axes.set(title=f"{reduction}s over a batch", xlabel="batch", ylim=(0, 1.04))
        figure.axes[0].set_ylabel("accuracy in training")
        figure.axes[0].legend(fontsize=8, loc="lower right")
