"""Sparsity of the weights of each layer, trained by LFP and by gradient descent (LFP v3, Fig. 5, A.5 and A.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spikelfp.analysis import gini, weights_of
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments
from spikelfp.reproduce.networks import COLOURS, METHODS, MNIST, QUICK, SETTING, learn, shown, trainings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS = ("lenet", "vgg-like", "resnet18")
PERCENTILES = (0, 25, 50, 75)
"""Percentiles of ``|w| / max|w|``; the hundredth is 1."""


@experiments.register("sparsity")
class Sparsity(Experiment):
    """Distributions and Gini indices of weights, layer by layer."""

    title, source = "Sparsity of each layer", "LFP v3, Fig. 5, A.5 and A.7"
    claims = (
        "The Gini index of the weights of the LeNet is at least as high under LFP as under gradient descent, in every "
        "layer.",
        "So it is in every layer of the deeper networks.",
        "Relative to the largest weight of the layer, the percentiles of the magnitudes up to the 75th are lower under "
        "LFP in every layer.",
    )
    setting = (
        f"{SETTING} BatchNorm is folded into the convolutions. Fig. 5 is a ResNet-18 on CUB. Values of a layer are "
        "means over the seeds; layers are compared by them."
    )
    data, minutes, seeds = (MNIST, "cifar10-subset"), 8.0, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return trainings(QUICK if quick else NETWORKS, quick, seeds)

    def run(self, part: Part, desk: Desk) -> list[Row]:
        learned = learn(part, desk)
        index, rows = gini(learned.net), list[Row]()
        for number, (name, w) in enumerate(weights_of(learned.net).items(), 1):
            size = w.double().abs().flatten().numpy()
            largest = size.max()
            found = np.percentile(size, PERCENTILES) / largest
            rows.append(
                {"lr": learned.lr, "layer": name.removesuffix(".weight"), "number": number, "gini": index[name]}
                | {f"p{share}": value for share, value in zip(PERCENTILES, found, strict=True)}
                | {"largest": largest}
            )
        return rows

    def judge(self, results: Results) -> list[Verdict]:
        indices, texts = dict[str, bool](), dict[str, str]()
        below: list[bool] = []
        for name, network in shown(results).items():
            lfp, gradient = (by_layer(results, "gini", name, method) for method in ("lfp", "gradient"))
            indices[name] = bool((lfp >= gradient).all())
            texts[name] = (
                f"{network.title}: {int((lfp >= gradient).sum())} of {len(lfp)} layers, mean {lfp.mean():.3f} under "
                f"LFP and {gradient.mean():.3f} under gradients"
            )
            lower = np.stack(
                [
                    by_layer(results, p, name, "lfp") < by_layer(results, p, name, "gradient")
                    for p in ("p25", "p50", "p75")
                ]
            )
            below += [bool(np.all(each)) for each in lower.T]
        deep = [name for name in indices if name not in ("lenet", "mlp")]
        return [
            Verdict(indices.get("lenet"), texts.get("lenet", "the quick form has no LeNet")),
            Verdict(all(indices[name] for name in deep), "; ".join(texts[name] for name in deep)),
            Verdict(all(below), f"all three percentiles (25th, 50th, 75th) are lower in {sum(below)} of {len(below)}"),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        networks = shown(results)
        figure.set_size_inches(12, 7.2)
        lengths = [len(results.each("number", network=name)) for name in networks]
        panels = figure.subplots(3, len(networks), width_ratios=[4 + length for length in lengths], squeeze=False)
        for (name, network), line in zip(networks.items(), panels.T, strict=True):
            top, middle, bottom = line
            for place, method in enumerate(METHODS):
                points = {f"p{share}": by_layer(results, f"p{share}", name, method) for share in PERCENTILES}
                largest, index = by_layer(results, "largest", name, method), by_layer(results, "gini", name, method)
                number = np.arange(1, len(index) + 1)
                for axes, scale in ((top, np.ones_like(largest)), (bottom, largest)):
                    at, colour = number + 0.4 * (place - 0.5), COLOURS[method]
                    low, high = scale * points["p25"], scale * points["p75"]
                    axes.bar(at, scale * (1 - points["p0"]), 0.36, scale * points["p0"], color=colour, alpha=0.22)
                    axes.bar(at, high - low, 0.36, low, color=colour, alpha=0.85, label=METHODS[method])
                    axes.hlines(scale * points["p50"], at - 0.18, at + 0.18, color="black", lw=1)
                middle.plot(number, index, color=COLOURS[method], marker="o", ms=3.5, lw=1.2)
            top.set(title=network.title, ylim=(0, 1.02))
            middle.set(ylim=(0.2, 1.0), xlim=top.get_xlim())
            low = [by_layer(results, "p25", name, each) * by_layer(results, "largest", name, each) for each in METHODS]
            bottom.set(xlabel="layer", yscale="log")
            bottom.set_ylim(bottom=0.1 * np.min(low))
            for axes in line:
                axes.set_xticks(number[:: max(1, len(number) // 10)])
        panels[0, 0].legend(loc="upper right", fontsize=8)
        for axes, text in zip(panels[:, 0], ("|w| / largest |w|", "Gini index", "|w|"), strict=True):
            axes.set_ylabel(text)


def by_layer(results: Results, column: str, network: str, method: str) -> np.ndarray:
    """Return the mean over seeds of a column, ``[layers]``."""
    numbers = results.each("number", network=network)
    own = {"network": network, "method": method}
    return np.array([results.values(column, **own, number=number).mean() for number in numbers])
