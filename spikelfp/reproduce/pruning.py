"""Accuracy of networks while they are pruned, trained by LFP and by gradient descent (LFP v3, Fig. 6 and A.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spikelfp import pruning
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, spread
from spikelfp.reproduce.networks import (
    COLOURS,
    FULL,
    LEARNT,
    METHODS,
    MNIST,
    QUICK,
    SETTING,
    learn,
    shown,
    table,
    trainings,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {
    "magnitude-local": "magnitude, local",
    "magnitude-global": "magnitude, global",
    "relevance-global": "relevance, global",
}
"""Criteria with their scopes, in the order of the figure."""

AT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
"""Pruning rates."""
DROP, MARGIN, MOST = 0.02, 0.1, 0.75
"""Accuracy that may be lost; how much higher the rate has to be; share of the networks where it has to be."""
REFERENCE = 1000
"""Training images over which relevance is summed."""


@experiments.register("pruning")
class Pruning(Experiment):
    """Pruning without retraining, by magnitude and by relevance."""

    title, source = "Accuracy while pruning", "LFP v3, Fig. 6 and A.8"
    claims = (
        *(
            f"Pruned by {way}, networks trained by LFP lose two points of accuracy at a rate that is at least ten "
            "points higher, for three of four networks."
            for way in WAYS.values()
        ),
        "In the majority of all settings, networks trained by LFP keep their accuracy for longer.",
    )
    setting = (
        f"{SETTING} BatchNorm is folded first. In the VGG-like and the ResNet convolutions are pruned (A.6.3), in "
        "LeNet and MLP all weights, as in v1. There is no training after pruning. Relevance (LRP-ε) is summed over "
        "1,000 training images, where the paper takes the test set. Thresholds are ours: two points of accuracy, on "
        "straight lines between the rates, and ten points of the pruning rate, means over the seeds. A network that "
        "stays below 30 % in any run does not count for LFP."
    )
    data, minutes, seeds = (MNIST, "cifar10-subset"), 10.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return trainings(QUICK if quick else FULL, quick, seeds)

    def run(self, part: Part, desk: Desk) -> list[Row]:
        learned = learn(part, desk)
        x, labels = learned.samples("test")
        reference = learned.samples("train", REFERENCE)
        rows: list[Row] = []
        for way in WAYS:
            criterion, scope = way.split("-")
            layers = table(part.settings["quick"])[part.settings["network"]].layers
            curve = pruning.sweep(
                learned.net, x, labels, AT, criterion, scope=scope, layers=layers, reference=reference
            )
            lasts = curve.prunable(DROP)
            rows += [
                {"lr": learned.lr, "pruned_by": way, "rate": rate, "accuracy": accuracy, "lasts": lasts}
                for rate, accuracy in zip(curve.rates, curve.accuracy, strict=True)
            ]
        return rows

    def judge(self, results: Results) -> list[Verdict]:
        networks, found, longer = shown(results), list[Verdict](), 0
        whole = {
            (name, method): results.values(
                "accuracy", network=name, method=method, pruned_by=next(iter(WAYS)), rate=0.0
            )
            for name in networks
            for method in METHODS
        }
        able = [name for name in networks if all(whole[name, method].min() >= LEARNT for method in METHODS)]
        if not able:
            return [Verdict(None, "no network has learnt under both methods")] * len(self.claims)
        for way in WAYS:
            texts, enough = list[str](), 0
            for name, network in networks.items():
                rates = {
                    method: results.values("lasts", network=name, method=method, pruned_by=way, rate=0.0)
                    for method in METHODS
                }
                lfp, gradient = rates["lfp"].mean(), rates["gradient"].mean()
                if name not in able:
                    continue
                enough += bool(lfp - gradient >= MARGIN - 1e-9)
                longer += bool(lfp > gradient)
                texts.append(f"{network.title}: {100 * lfp:.0f} % under LFP, {100 * gradient:.0f} % under gradients")
            counted = f"{enough} of {len(networks)} networks reach ten points more"
            dropped = "".join(f"; {networks[name].title} has not learnt" for name in networks if name not in able)
            found.append(Verdict(enough >= MOST * len(networks), f"{'; '.join(texts)}; {counted}{dropped}"))
        settings = len(WAYS) * len(networks)
        before = "; ".join(
            f"{networks[name].title} {spread(100 * whole[name, 'lfp'], 1)} and "
            f"{spread(100 * whole[name, 'gradient'], 1)}"
            for name in networks
        )
        text = (
            f"in {longer} of {settings}, by the rate at which two points are lost; accuracy before pruning in percent, "
            f"under LFP and gradients: {before}"
        )
        return [*found, Verdict(2 * longer > settings, text)]

    def draw(self, results: Results, figure: Figure) -> None:
        networks = shown(results)
        figure.set_size_inches(9.5, 2.3 * len(networks) + 0.6)
        panels = figure.subplots(len(networks), len(WAYS), sharex=True, sharey="row", squeeze=False)
        for (name, network), line in zip(networks.items(), panels, strict=True):
            for way, axes in zip(WAYS, line, strict=True):
                for method, label in METHODS.items():
                    own = {"network": name, "method": method, "pruned_by": way}
                    each = np.stack([results.values("accuracy", **own, rate=rate) for rate in AT])  # [rates, seeds]
                    middle, deviation = 100 * each.mean(1), 100 * each.std(1, ddof=min(1, each.shape[1] - 1))
                    at, colour = 100 * np.array(AT), COLOURS[method]
                    axes.plot(at, middle, color=colour, marker=".", lw=1.4, label=label)
                    axes.fill_between(at, middle - deviation, middle + deviation, color=colour, alpha=0.2, lw=0)
                    last = 100 * results.values("lasts", **own, rate=0.0).mean()
                    axes.axvline(last, color=colour, ls=":", lw=1.1)
                axes.set_ylim(0, 103)
                if axes in panels[0]:
                    axes.set_title(f"by {WAYS[way]}", fontsize=10)
                if axes in panels[-1]:
                    axes.set_xlabel("pruned weights, %")
            line[0].set_ylabel(f"{network.title}\ntest accuracy, %")
        panels[0, 0].legend(loc="lower left", frameon=False)
        figure.supxlabel("Dotted: mean rate at which two points of accuracy are lost", fontsize=8)
