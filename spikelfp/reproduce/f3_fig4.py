"""Depth, and a Vision Transformer, under methods without a backward pass (F³, Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, named, spread
from spikelfp.reproduce.f3_fig2 import COLOURS, DIGITS, NAMES, TANH

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

METHODS = ("gradient", "f3", "dfa", "drtp")
DEPTHS, FEW = (1, 10, 100), (1, 3)

VIT: dict[str, Any] = TANH | {
    "model": "vit", "patch": 7, "width": 32, "depth": 4, "heads": 8, "head_dim": 64, "embedding": "image",
    "tokens": "all", "positions": False, "standardize": True, "loss": "rate", "batch_size": 100, "adam_beta2": 0.999,
}  # fmt: skip
"""The transformer of the authors' code, which ends in a softmax with cross-entropy."""
RATES = (3e-4, 3e-3)
"""Learning rates of the transformer; the code has the second."""


@experiments.register("f3-fig4")
class DepthOfF3(Experiment):
    """Accuracy of networks of 1 to 100 hidden layers, and of a Vision Transformer."""

    title, source = "Depth and a Vision Transformer", "F³, Fig. 4"
    claims = (
        "Backpropagation fails in networks of more than 25 tanh layers.",
        "DFA is not affected by depth.",
        "F³ and DRTP lose a little with depth, and still train 100 layers.",
        "F³ and DFA train a Vision Transformer about as well as backpropagation does.",
        "DRTP trains the transformer to less than that, and far above chance.",
    )
    setting = (
        "MNIST, tanh, sigmoid outputs with binary cross-entropy, Adam, batches of 50. Depth: hidden layers of 100 "
        "neurons (the paper: 500), learning rate 1e-3, 8,000 updates: 40 epochs of the first 10,000 images (the paper: "
        "120,000 updates at 1.5e-4). A layer learns only after those before it let something through, so that 1,200 "
        "updates are too few for more than about 25 layers. Transformer: patches of 7, four blocks, eight heads, no "
        "class token and no positions, all tokens into the classifier, as in the paper; 64 features of a token, 20 "
        "epochs of the first 20,000 images (the paper: 100 of all). The learning rate of each method and seed, 1e-4 or "
        "1e-3, is the better one on a tenth of the first 5,000 images after 8 epochs. The first 2,000 test images, "
        "after the last epoch (the paper: the best epoch)."
    )
    data, minutes, seeds = ("mnist",), 75, 1

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        used = "digits" if quick else "mnist"
        depths = [
            named(data=used, what="depth", depth=depth, method=method, seed=seed)
            for seed in range(seeds)
            for depth in (FEW if quick else DEPTHS)
            for method in METHODS
        ]
        vit = [named(data=used, what="vit", method=method, seed=seed) for seed in range(seeds) for method in METHODS]
        return vit + depths

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        small = held["data"] == "digits"
        options: dict[str, Any] = {"method": held["method"], "seed": held["seed"]}
        if held["what"] == "depth":
            hidden = (100,) * held["depth"]
            options |= DIGITS | {"data": "mnist-part:10000,2000", "epochs": 40, "lr": 1e-3, "hidden": hidden}
            if small:
                options |= {"data": "digits", "epochs": 3, "hidden": (16,) * held["depth"]}
            return [{"accuracy": desk.train(**options)["test_accuracy"]}]
        options |= VIT | ({} if held["method"] == "gradient" else {"feedback_init": "trinomial"})
        if small:
            options |= {"data": "digits", "epochs": 1, "patch": 4, "width": 16, "depth": 1}
            return [_tested(desk.train(lr=RATES[-1], **options)) | {"lr": RATES[-1]}]
        short = options | {"data": "mnist-part:5000,2000", "epochs": 8, "validation": 0.1}
        tried = {lr: _best(desk.train(f"lr{lr}", lr=lr, **short), "validation_accuracy") for lr in RATES}
        lr = max(RATES, key=lambda each: tried[each])
        return [_tested(desk.train("chosen", lr=lr, data="mnist-part:20000,2000", epochs=20, **options)) | {"lr": lr}]

    def judge(self, results: Results) -> list[Verdict]:
        depths = sorted(results.each("depth", what="depth"))
        low, high = depths[0], depths[-1]
        found = {(m, d): _depth(results, m, d) for m in METHODS for d in depths}
        deep = [found["gradient", d].mean() for d in depths if d > 25]
        lines = {m: ", ".join(f"{d}: {spread(found[m, d])}" for d in depths) for m in METHODS}
        flat = abs(found["dfa", high].mean() - found["dfa", low].mean())
        vit = {m: results.values("best", what="vit", method=m) for m in METHODS}
        last = {m: results.values("accuracy", what="vit", method=m) for m in METHODS}
        said = {m: f"{NAMES[m]} {spread(values)} (last epoch {spread(last[m])})" for m, values in vit.items()}
        mean = {m: values.mean() for m, values in vit.items()}
        others = ("f3", "drtp")
        trained = all(found[m, high].mean() >= 0.5 for m in others)
        return [
            Verdict(
                all(value < 0.2 for value in deep) if deep else None,
                f"accuracy by hidden layers {lines['gradient']}; asked: below 0.2 beyond 25",
            ),
            Verdict(bool(flat <= 0.02), f"{lines['dfa']}; asked: within 0.02 of one layer"),
            Verdict(
                trained and all(found[m, high].mean() <= found[m, low].mean() for m in others),
                f"F³ {lines['f3']}; DRTP {lines['drtp']}; asked: at least 0.5, and no more than with one layer",
            ),
            Verdict(
                bool(min(mean["f3"], mean["dfa"]) >= mean["gradient"] - 0.02),
                f"{said['gradient']}, {said['f3']}, {said['dfa']}; asked: at most 0.02 less",
            ),
            Verdict(
                bool(0.3 <= mean["drtp"] < min(mean["f3"], mean["dfa"])),
                f"{said['drtp']}; asked: at least 0.3, and less than F³ and DFA",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(11, 4.4)
        left, right = figure.subplots(1, 2)
        depths = sorted(results.each("depth", what="depth"))
        for place, method in enumerate(METHODS):
            found = [100 * _depth(results, method, depth) for depth in depths]
            mean, deviation = [f.mean() for f in found], [f.std() for f in found]
            left.errorbar(depths, mean, deviation, fmt="o-", capsize=3, color=COLOURS[method], label=NAMES[method])
            values = 100 * results.values("best", what="vit", method=method)
            right.bar(place, values.mean(), 0.6, yerr=values.std(), capsize=4, color=COLOURS[method])
        left.axhline(10, color="#999", ls=":", lw=1)
        left.set(title="(a) depth", xlabel="hidden layers", ylabel="test accuracy (%)", ylim=(0, 102))
        left.legend(fontsize="small")
        right.axhline(10, color="#999", ls=":", lw=1)
        right.set_xticks(range(len(METHODS)), [NAMES[method] for method in METHODS])
        right.set(title="(b) Vision Transformer", ylabel="test accuracy, best epoch (%)", ylim=(0, 102))


def _best(summary: dict[str, Any], name: str) -> float:
    return max(float(epoch[name]) for epoch in summary["epochs"])


def _tested(summary: dict[str, Any]) -> Row:
    return {"accuracy": summary["test_accuracy"], "best": _best(summary, "test_accuracy")}


def _depth(results: Results, method: str, depth: int) -> NDArray[np.float64]:
    return results.values("accuracy", what="depth", method=method, depth=depth)
