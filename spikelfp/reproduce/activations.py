"""VGG-like networks with six activations on a subset of CIFAR-10 (LFP v3, Table 3 and A.6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, named, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATIONS = ("relu", "silu", "elu", "tanh", "sigmoid", "heaviside")
NAMES = {
    "relu": "ReLU",
    "silu": "SiLU",
    "elu": "ELU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "heaviside": "Heaviside",
}
METHODS: dict[str, dict[str, Any]] = {
    "lfp": {"method": "lfp", "reward": "softmax", "reduction": "sum"},
    "gradient": {"method": "gradient"},
}
METHOD_NAMES = {"lfp": "LFP-ε", "gradient": "gradient descent"}
PAPER = {
    "lfp": {"relu": 82.2, "silu": 77.1, "elu": 82.7, "tanh": 78.8, "sigmoid": 10.0, "heaviside": 10.0},
    "gradient": {"relu": 84.1, "silu": 85.3, "elu": 85.2, "tanh": 80.7, "sigmoid": 10.0, "heaviside": 16.0},
}
"""Accuracies of the paper in percent: CIFAR-10, VGG-like, 50 epochs of 50,000 images."""

SGD = {"optimizer": "sgd", "schedule": "one-cycle", "clip_norm": 3.0, "standardize": True}
RATES = (0.1, 0.02)
CHANCE = 0.1


@experiments.register("activations")
class Activations(Experiment):
    """Accuracy of convolutional networks with activations that are piece-wise linear, smooth, or steps."""

    title, source = "Activations other than ReLU", "LFP v3, Table 3"
    claims = (
        "LFP-ε trains networks with SiLU, ELU and Tanh too, though it is no scaled gradient descent there.",
        "With Sigmoid and Heaviside activations LFP-ε stays near chance.",
        "Gradient descent stays near chance with Sigmoid, and little above it with Heaviside.",
        "At the best activation of each, gradient descent is slightly better than LFP-ε.",
        "LFP-ε trains pretrained VGG-16 and ResNet-18 networks with the same pattern over activations.",
    )
    setting = (
        "VGG-like network of A.6.2, SGD with a one-cycle rate of at most 0.1, clipping of the updates to norm 3, "
        "rewards added over the batch, as in the paper. To save time: width 8 in place of 32, 6 epochs in batches "
        "of 32 (the paper: 50 epochs, batches of 128) of the 10,000 images of the subset, of which a tenth chooses "
        "between the rates 0.1 and 0.02; 1,000 test images. No layer is woken. The paper's accuracies are marked "
        "in the figure. Weights of networks that were trained on ImageNet cannot be loaded by `spikelfp train`, "
        "and the data sets of VGG-16 and ResNet-18 (birds, skin, food) are not at hand."
    )
    data, minutes, seeds = ("cifar10-subset",), 50, 2

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        used = "digits" if quick else "cifar10-subset"
        return [
            named(data=used, activation=activation, method=method, seed=seed)
            for seed in range(seeds)
            for activation in ACTIVATIONS
            for method in METHODS
        ]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        small = held["data"] == "digits"
        options: dict[str, Any] = METHODS[held["method"]] | SGD | {"activation": held["activation"]}
        options |= {"data": held["data"], "model": "vgg-like", "seed": held["seed"], "validation": 0.1}
        options |= (
            {"width": 2, "epochs": 1, "batch_size": 128} if small else {"width": 8, "epochs": 6, "batch_size": 32}
        )
        if held["activation"] == "heaviside":
            options |= {"wake": False}
        tried = {lr: desk.train(f"lr{lr}", lr=lr, **options) for lr in (RATES[-1:] if small else RATES)}
        lr = max(tried, key=lambda each: tried[each]["validation_accuracy"])
        found = tried[lr]
        return [{"accuracy": found["test_accuracy"], "validation": found["validation_accuracy"], "lr": lr}]

    def judge(self, results: Results) -> list[Verdict]:
        found = {
            method: {a: results.values("accuracy", method=method, activation=a) for a in ACTIVATIONS}
            for method in METHODS
        }
        mean = {method: {a: values.mean() for a, values in each.items()} for method, each in found.items()}

        def said(method: str, *chosen: str) -> str:
            return ", ".join(f"{NAMES[a]} {spread(found[method][a])}" for a in chosen)

        smooth = min(mean["lfp"][a] for a in ("silu", "elu", "tanh"))
        steps = max(mean["lfp"][a] for a in ("sigmoid", "heaviside"))
        best = {method: max(ACTIVATIONS, key=lambda a: each[a]) for method, each in mean.items()}
        lead = mean["gradient"][best["gradient"]] - mean["lfp"][best["lfp"]]
        learns = {method: bool(each[best[method]] >= 2 * CHANCE) for method, each in mean.items()}
        none = "" if all(learns.values()) else " (not all methods have reached twice chance with any activation)"
        near = mean["gradient"]["sigmoid"] < 1.5 * CHANCE and mean["gradient"]["heaviside"] < 2.5 * CHANCE
        return [
            Verdict(
                bool(learns["lfp"] and smooth >= 0.8 * mean["lfp"]["relu"]),
                f"{said('lfp', 'relu', 'silu', 'elu', 'tanh')}; asked: at least 0.8 of that with ReLU{none}",
            ),
            Verdict(
                bool(steps < 1.5 * CHANCE) if learns["lfp"] else None,
                f"{said('lfp', 'sigmoid', 'heaviside')}; asked: below 0.15{none}",
            ),
            Verdict(
                bool(near) if learns["gradient"] else None,
                f"{said('gradient', 'sigmoid', 'heaviside')}; asked: below 0.15 and 0.25{none}",
            ),
            Verdict(
                bool(0 < lead <= 0.05) if all(learns.values()) else None,
                f"gradient descent {said('gradient', best['gradient'])}, LFP-ε {said('lfp', best['lfp'])}; asked: a "
                f"lead of at most 0.05{none}",
            ),
            Verdict(None, "neither those weights nor those data sets are at hand"),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(9, 4.4)
        axes = figure.subplots()
        for place, (method, colour) in enumerate((("lfp", "#b3421b"), ("gradient", "#777777"))):
            for at, activation in enumerate(ACTIVATIONS):
                values = 100 * results.values("accuracy", method=method, activation=activation)
                x = at + 0.4 * place - 0.2
                first = at == 0
                axes.bar(
                    x, values.mean(), 0.36, yerr=values.std(), capsize=3, color=colour, alpha=0.85,
                    label=METHOD_NAMES[method] if first else None,
                )  # fmt: skip
                axes.plot(
                    x, PAPER[method][activation], "D", mfc="white", mec=colour, ms=6,
                    label=f"{METHOD_NAMES[method]}, paper (all of CIFAR-10)" if first else None,
                )  # fmt: skip
        axes.axhline(100 * CHANCE, color="#999", ls=":", lw=1)
        axes.set_xticks(range(len(ACTIVATIONS)), [NAMES[a] for a in ACTIVATIONS])
        axes.set(title="VGG-like network", ylabel="test accuracy (%)", ylim=(0, 100))
        axes.legend(fontsize="small")
