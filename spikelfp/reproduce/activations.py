"""VGG-like networks with six activations on a subset of CIFAR-10 (LFP v3, Table 3 and A.6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spikelfp.errors import UserError
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, named, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from spikelfp.training.weights import GivenWeights

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


class Pretrained(NamedTuple):
    """Network that is fine-tuned.

    Attributes:
        title: what figures call it.
        options: of ``spikelfp train``, with which weights of torchvision fit images of 32×32.
        first: name of the first weights, which tell the width.
        epochs: of the full form.
    """

    title: str
    options: Mapping[str, Any]
    first: str
    epochs: int

    def width(self, given: GivenWeights) -> int:
        """Read the channels of the first convolution.

        Raises:
            UserError: for weights of another network.
        """
        if self.first not in given.tensors:
            raise UserError(f"{given.name} holds no {self.title} of torchvision: {self.first} is missing")
        return given.tensors[self.first].shape[0]


PRETRAINED = {
    "vgg16": Pretrained("VGG-16", {"model": "vgg16", "head": "7x7"}, "features.0.weight", 1),
    "resnet18": Pretrained("ResNet-18", {"model": "resnet18", "stem": "7x7"}, "conv1.weight", 6),
}
TUNING = {"lr": 1e-3, "weight_decay": 1e-4, "batch_size": 32}
"""Options of fine-tuning in A.6.2."""


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
        "in the figure. With `--weights-dir` VGG-16 and ResNet-18 start from the weights of ImageNet in it, and are "
        "trained as in the paper: SGD in batches of 32, a one-cycle rate of at most 0.001, weight decay 0.0001. They "
        "differ in the data, the subset of CIFAR-10 in place of birds, skin and food, in its images of 32×32, which "
        "are not enlarged, and in the epochs: 1 for VGG-16 and 6 for ResNet-18 in place of 100."
    )
    data, minutes, seeds = ("cifar10-subset",), 50, 2
    weights = tuple(f"{name}.pth" for name in PRETRAINED)
    weights_data = data

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        used = "digits" if quick else "cifar10-subset"
        return [
            named(data=used, activation=activation, method=method, seed=seed)
            for seed in range(seeds)
            for activation in ACTIVATIONS
            for method in METHODS
        ]

    def fine_tunings(self, quick: bool, seeds: int, given: Mapping[str, GivenWeights]) -> list[Part]:
        found = []
        for network, own in PRETRAINED.items():
            weights = given.get(f"{network}.pth")
            if weights is None:
                continue
            more = {
                "weights": weights.record, "width": own.width(weights), "epochs": 1 if quick else own.epochs
            }  # fmt: skip
            for seed in range(seeds):
                for activation in ACTIVATIONS:
                    for method in METHODS:
                        part = named(network=network, activation=activation, method=method, seed=seed)
                        found.append(Part(part.name, {**part.settings, **more}))
        return found

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        if "network" in held:
            return _fine_tuned(part, desk)
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
        found = _accuracies(results, None)
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
            _of_pretrained(results),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        shown = [None, *(network for network in PRETRAINED if results.select(network=network))]
        figure.set_size_inches(9, 4.4 * len(shown))
        for network, axes in zip(shown, figure.subplots(len(shown), squeeze=False)[:, 0], strict=True):
            _bars(axes, _accuracies(results, network), network)


def _accuracies(results: Results, network: str | None) -> dict[str, dict[str, Any]]:
    """Accuracies over the seeds by method and activation, of the VGG-like network unless another is named."""
    rows = [row for row in results.rows if row.get("network") == network]
    own = Results(rows, results.folder, results.parts)
    return {method: {a: own.values("accuracy", method=method, activation=a) for a in ACTIVATIONS} for method in METHODS}


def _fine_tuned(part: Part, desk: Desk) -> list[Row]:
    """Train a network that starts from given weights."""
    held = part.settings
    own = PRETRAINED[held["network"]]
    name, _, digest = str(held["weights"]).partition("@")
    options: dict[str, Any] = METHODS[held["method"]] | SGD | TUNING | dict(own.options)
    options |= {"data": "cifar10-subset", "activation": held["activation"], "seed": held["seed"]}
    options |= {"width": held["width"], "epochs": held["epochs"]}
    if held["activation"] == "heaviside":
        options |= {"wake": False}
    found = desk.train(weights=f"{Path(desk.weights_dir or '') / name}@{digest}", **options)
    return [{"accuracy": found["test_accuracy"], "lr": TUNING["lr"]}]


def _of_pretrained(results: Results) -> Verdict:
    """Judge the networks that started from weights of ImageNet, where both were given."""
    shown = [network for network in PRETRAINED if results.select(network=network)]
    missing = [f"{network}.pth" for network in PRETRAINED if network not in shown]
    lacks = f"{' and '.join(missing)}, as torchvision saves {'it' if len(missing) == 1 else 'them'}, "
    lacks += f"{'is' if len(missing) == 1 else 'are'} not given: --weights-dir names their folder"
    if not shown:
        return Verdict(None, lacks)
    texts, fits = [], []
    for network in shown:
        found = _accuracies(results, network)
        mean = {a: float(values.mean()) for a, values in found["lfp"].items()}
        learns = mean["relu"] >= 2 * CHANCE and max(mean.values()) <= mean["relu"] + 0.02
        fits.append(learns and mean["silu"] >= 0.75 * mean["relu"] and max(mean["sigmoid"], mean["heaviside"]) < 0.15)
        said = {
            method: ", ".join(f"{NAMES[a]} {spread(each[a])}" for a in ACTIVATIONS) for method, each in found.items()
        }
        texts.append(f"{PRETRAINED[network].title}: " + "; ".join(f"{METHOD_NAMES[m]} {said[m]}" for m in METHODS))
    asked = "asked of LFP-ε: ReLU at 0.2 at least and 0.02 below the best at most, SiLU at 0.75 of it, Sigmoid and "
    texts += [f"{asked}Heaviside below 0.15", *([lacks] if missing else [])]
    return Verdict(None if all(fits) and missing else all(fits), ". ".join(texts))


def _bars(axes: Axes, found: Mapping[str, Mapping[str, Any]], network: str | None) -> None:
    """Draw the accuracies of a network, beside the paper's where the data are the same."""
    for place, (method, colour) in enumerate((("lfp", "#b3421b"), ("gradient", "#777777"))):
        for at, activation in enumerate(ACTIVATIONS):
            values = 100 * found[method][activation]
            x = at + 0.4 * place - 0.2
            first = at == 0
            axes.bar(
                x, values.mean(), 0.36, yerr=values.std(), capsize=3, color=colour, alpha=0.85,
                label=METHOD_NAMES[method] if first else None,
            )  # fmt: skip
            if network is None:
                axes.plot(
                    x, PAPER[method][activation], "D", mfc="white", mec=colour, ms=6,
                    label=f"{METHOD_NAMES[method]}, paper (all of CIFAR-10)" if first else None,
                )  # fmt: skip
    axes.axhline(100 * CHANCE, color="#999", ls=":", lw=1)
    axes.set_xticks(range(len(ACTIVATIONS)), [NAMES[a] for a in ACTIVATIONS])
    title = "VGG-like network" if network is None else f"{PRETRAINED[network].title} from weights of ImageNet"
    axes.set(title=title, ylabel="test accuracy (%)", ylim=(0, 100))
    axes.legend(fontsize="small")
