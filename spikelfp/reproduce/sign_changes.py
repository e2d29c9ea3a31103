"""Signs and magnitudes of weights of a LeNet under gradients, LFP, and one after the other (LFP v1, Fig. 5)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from spikelfp import TemporalTrainer, analysis, nn, pruning, rewards, rules
from spikelfp.methods import LFP, GradientDescent, Method, WarmUp
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, grid, named, spread
from spikelfp.reproduce.networks import LEARNT, MNIST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"gradient": "gradient descent", "lfp": "LFP-ε", "gradient-lfp": "gradient descent, then LFP-ε"}
COLOURS = {"gradient": "#5b6b7b", "lfp": "#b3421b", "gradient-lfp": "#d9a441"}
WARM_UP = 100
"""Updates by gradient descent before LFP takes over."""
FEW, DROP = 0.2, 0.02
"""Share of the changes of gradient descent that is still few; accuracy that may be lost in pruning."""
AT = (*(k / 20 for k in range(19)), 0.92, 0.94, 0.96, 0.98)
"""Pruning rates."""


def lenet(inputs: int, features: int) -> nn.Sequential:
    """Make the LeNet of v1, A.6.1, for images ``[T, B, 1, side, side]``.

    Args:
        inputs: side of the images; those below 16 pixels get kernels of 3×3 in place of 5×5.
        features: channels of the convolutions.
    """
    kernel = 5 if inputs >= 16 else 3
    side = ((inputs - kernel + 1) // 2 - kernel + 1) // 2 if inputs >= 16 else (inputs - 2 - 2) // 2
    first: list[torch.nn.Module] = [nn.Conv2d(1, features, kernel), nn.ReLU()]
    first += [nn.MaxPool2d(2)] if inputs >= 16 else []
    return nn.Sequential(
        *first,
        nn.Conv2d(features, features, kernel),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(features * side * side, 120),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(84, 10),
    )


def method(way: str, warm_up: int) -> Method:
    """Make the method of a way of training.

    Args:
        way: one of :data:`WAYS`.
        warm_up: updates by gradient descent, of the third one.
    """
    if way == "gradient":
        return GradientDescent()
    lfp = LFP(rewards.Softmax(), rules.Epsilon(normalize="sample"))
    return lfp if way == "lfp" else WarmUp(GradientDescent(), lfp, warm_up)


@experiments.register("sign-changes")
class SignChanges(Experiment):
    """Changes of sign, magnitudes and pruning of a LeNet."""

    title, source = "Signs and magnitudes of weights in training", "LFP v1, Fig. 3 and 5"
    claims = (
        "LFP-ε changes the signs of fewer weights than gradient descent.",
        "Signs hardly change any more as soon as LFP takes over from gradient descent.",
        "Gradient descent lowers the median magnitude, relative to the 75th percentile, in its first epoch.",
        "Trained by LFP-ε, the network keeps its accuracy at higher pruning rates than by gradient descent, with or "
        "without gradient descent at first.",
    )
    setting = (
        "LeNet of A.6.1 with dropout, 10,000 training and 2,000 test images of MNIST, batches of 32, SGD with "
        "momentum 0.9 and learning rate 0.01, 6 epochs (the paper: 60,000 images, 10 epochs, 5 seeds); updates are "
        "means over the batch. Rewards are divided by the largest magnitude between "
        "layers (A.6.4). The third way has 100 updates by gradient descent at first. Signs are compared with those an "
        "epoch before. Few changes: "
        "a fifth of those of gradient descent in the same epochs. Pruning is by magnitude in all layers together, "
        "to two points of accuracy."
    )
    data, minutes, seeds = (MNIST,), 2.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        found = []
        for setting in grid(way=[*WAYS], seed=range(seeds)):
            more = {"data": "digits", "epochs": 3} if quick else {"data": MNIST, "epochs": 6}
            found.append(Part(named(**setting).name, setting | more))
        return found

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        quick, data = held["data"] == "digits", desk.load(held["data"])
        net = lenet(data.shape[-1], 4 if quick else 16)
        trainer = TemporalTrainer(
            net, steps=1, method=method(held["way"], 20 if quick else WARM_UP), optimizer="sgd", lr=0.01,
            schedule="constant", batch_size=32, seed=held["seed"], device="cpu",
        )  # fmt: skip
        before, epochs = copy.deepcopy(net.state_dict()), list[Row]()

        def look(row: dict[str, float]) -> None:
            changes = analysis.sign_changes(before, net)
            epochs.append(
                {"epoch": int(row["epoch"]), "accuracy": trainer.evaluate(data.test).score}
                | {"changed": sum(each.changed for each in changes.values())}
                | {"weights": sum(each.weights for each in changes.values())}
                | {"median": median(net)}
            )
            before.update(copy.deepcopy(net.state_dict()))

        start = {"epoch": 0, "median": median(net)}
        trainer.fit(data.train, held["epochs"], after_epoch=look)
        x, labels = data.test.__getitems__(range(len(data.test)))
        curve = pruning.sweep(net, nn.constant(x, 1), labels, AT)
        lasts = curve.prunable(DROP)
        pruned = [
            {"rate": rate, "pruned_accuracy": accuracy, "lasts": lasts}
            for rate, accuracy in zip(curve.rates, curve.accuracy, strict=True)
        ]
        return [start, *epochs, *pruned]

    def judge(self, results: Results) -> list[Verdict]:
        last = max(results.each("epoch"))
        every = {way: np.stack([self._share(results, way, epoch) for epoch in range(1, last + 1)]) for way in WAYS}
        each = {way: found.mean(0) for way, found in every.items()}
        after = {way: found[1:].mean(0) for way, found in every.items()}
        medians = [results.values("median", way="gradient", epoch=epoch) for epoch in (0, 1)]
        lasts = {way: results.values("lasts", way=way, rate=0.0) for way in WAYS}
        found = {way: f"{spread(100 * own, 0)} %" for way, own in lasts.items()}
        accuracy = {way: results.values("accuracy", way=way, epoch=last) for way in WAYS}
        learnt = all(own.min() >= LEARNT for own in accuracy.values())
        reached = ", ".join(f"{spread(100 * accuracy[way], 1)} % under {label}" for way, label in WAYS.items())
        least = min(lasts["lfp"].mean(), lasts["gradient-lfp"].mean())
        return [
            Verdict(
                bool(each["lfp"].mean() < each["gradient"].mean()),
                f"{spread(100 * each['lfp'], 2)} % of the weights in an epoch under LFP-ε, "
                f"{spread(100 * each['gradient'], 2)} % under gradient descent",
            ),
            Verdict(
                bool(after["gradient-lfp"].mean() <= FEW * after["gradient"].mean()),
                f"{spread(100 * after['gradient-lfp'], 2)} % in an epoch after the first one, "
                f"{spread(100 * after['gradient'], 2)} % under gradient descent",
            ),
            Verdict(
                bool(medians[1].mean() < medians[0].mean()),
                f"from {spread(medians[0])} to {spread(medians[1])}, mean of the layers",
            ),
            Verdict(
                bool(least > lasts["gradient"].mean()) if learnt else None,
                f"two points are lost at {found['lfp']} of the weights under LFP-ε, {found['gradient-lfp']} under "
                f"gradient descent and then LFP-ε, {found['gradient']} under gradient descent; accuracy before: "
                f"{reached}",
            ),
        ]

    @staticmethod
    def _share(results: Results, way: str, epoch: int) -> np.ndarray:
        """Share of the weights that changed their sign in an epoch, ``[seeds]``."""
        return results.values("changed", way=way, epoch=epoch) / results.values("weights", way=way, epoch=epoch)

    def draw(self, results: Results, figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        figure.set_size_inches(12, 3.6)
        panels = figure.subplots(1, 4)
        epochs = range(1, max(results.each("epoch")) + 1)
        for way, label in WAYS.items():
            curves = (
                ([*epochs], [results.values("accuracy", way=way, epoch=each) for each in epochs]),
                ([*epochs], [100 * self._share(results, way, each) for each in epochs]),
                ([0, *epochs], [results.values("median", way=way, epoch=each) for each in (0, *epochs)]),
                (100 * np.array(AT), [results.values("pruned_accuracy", way=way, rate=each) for each in AT]),
            )
            for axes, (at, found) in zip(panels, curves, strict=True):
                each = np.stack(found)  # [points, seeds]
                middle, deviation = each.mean(1), each.std(1, ddof=min(1, each.shape[1] - 1))
                axes.plot(at, middle, color=COLOURS[way], label=label, marker=".", lw=1.3)
                axes.fill_between(at, middle - deviation, middle + deviation, color=COLOURS[way], alpha=0.2, lw=0)
        titles = ("test accuracy", "changed signs, % of weights", "median / 75th percentile", "accuracy while pruning")
        for axes, title in zip(panels, titles, strict=True):
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[1].set_ylim(bottom=0)
        panels[3].set(xlabel="pruned weights, %", ylim=(0, 1))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)


def median(net: torch.nn.Module) -> float:
    """Return the relative median of magnitudes, mean of the layers."""
    return float(np.mean([*analysis.median_magnitude(net, relative=True).values()]))
