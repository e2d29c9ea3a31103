"""Error information and feedback weights of F³ (F³, Fig. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, named, spread
from spikelfp.reproduce.f3_fig2 import DIGITS, epochs_of, last, over_epochs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INFORMATION: dict[str, dict[str, Any]] = {
    "error": {},
    "error-onehot": {"one_hot": True},
    "error-softmax": {"softmax": True},
    "loss": {"error_information": "loss"},
    "loss-onehot": {"error_information": "loss", "one_hot": True},
    "loss-softmax": {"error_information": "loss", "softmax": True},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    name: {"feedback_init": name} for name in ("trinomial", "binomial", "identity")
}  # Kaiming is that of "error"
NAMES = {
    "error": "error", "error-onehot": "error, one-hot", "error-softmax": "error, softmax", "loss": "loss",
    "loss-onehot": "loss, one-hot", "loss-softmax": "loss, softmax", "trinomial": "trinomial", "binomial": "binomial",
    "identity": "±I",
}  # fmt: skip
COLOURS = {
    "error": "#b3421b", "error-onehot": "#e0803c", "error-softmax": "#e6b89c", "loss": "#3a6ea5",
    "loss-onehot": "#7fa6cf", "loss-softmax": "#b8cce0", "trinomial": "#3a6ea5", "binomial": "#6b9e4f",
    "identity": "#8a5fa8",
}  # fmt: skip


@experiments.register("f3-fig3")
class FeedbackOfF3(Experiment):
    """Test loss of F³ over the epochs, with other delayed information and other feedback weights."""

    title, source = "Delayed errors and feedback weights", "F³, Fig. 3"
    claims = (
        "The error as it is and its one-hot form end alike.",
        "A softmax in front of the error makes the loss larger.",
        "Trinomial feedback weights are as good as Kaiming's.",
        "Binomial weights and ±I make the loss much larger.",
    )
    setting = (
        "MNIST, 784-500-10, tanh, sigmoid outputs with binary cross-entropy, Adam at 1.5e-4, batches of 50, as in the "
        "paper; the loss is a mean over outputs and samples. To save time: 30 epochs of the first 5,000 images, and "
        "the first 2,000 test images (the paper: 100 epochs of all)."
    )
    data, minutes, seeds = ("mnist",), 3, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        used = "digits" if quick else "mnist"
        ways = [*INFORMATION, *WEIGHTS]
        return [named(data=used, way=way, seed=seed) for seed in range(seeds) for way in ways]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        options = DIGITS | {"data": "mnist-part:5000,2000", "hidden": (500,), "epochs": 30}
        if part.settings["data"] == "digits":
            options |= {"data": "digits", "hidden": (32,), "epochs": 2, "lr": 1e-3}
        options |= (INFORMATION | WEIGHTS)[part.settings["way"]]
        return epochs_of(desk.train(method="f3", seed=part.settings["seed"], **options))

    def judge(self, results: Results) -> list[Verdict]:
        ends = {way: last(results, "loss", way=way) for way in NAMES}
        ratio = {way: values.mean() / ends["error"].mean() for way, values in ends.items()}
        said = {way: f"{NAMES[way]} {spread(values, 4)}" for way, values in ends.items()}
        return [
            Verdict(
                bool(0.9 <= ratio["error-onehot"] <= 1.1),
                f"test loss at the end: {said['error']}, {said['error-onehot']}; asked: within a tenth",
            ),
            Verdict(
                bool(ratio["error-softmax"] > 1 and ratio["loss-softmax"] > ratio["loss"]),
                f"{said['error']}, {said['error-softmax']}; {said['loss']}, {said['loss-softmax']}",
            ),
            Verdict(
                bool(ratio["trinomial"] <= 1.1),
                f"Kaiming {spread(ends['error'], 4)}, {said['trinomial']}; asked: a tenth",
            ),
            Verdict(
                bool(min(ratio["binomial"], ratio["identity"]) >= 1.2),
                f"Kaiming {spread(ends['error'], 4)}, {said['binomial']}, {said['identity']}; asked: a fifth more",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(10, 4.6)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, ways in ((left, tuple(INFORMATION)), (right, ("error", *WEIGHTS))):
            for way in ways:
                label = "Kaiming" if axes is right and way == "error" else NAMES[way]
                over_epochs(axes, results, "loss", label, COLOURS[way], way=way)
            axes.set(xlabel="epoch", yscale="log")
            axes.legend(fontsize="small")
        left.set(title="(a) delayed information", ylabel="test loss")
        right.set(title="(b) feedback weights, F³-Error")
