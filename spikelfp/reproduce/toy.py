"""Networks of two hidden layers on points in the plane, over learning rates (LFP v3, Fig. 3 and A.6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import data, nn, rewards, rules
from spikelfp.analysis.weights import theta_sparsity
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, grid, named, spread
from spikelfp.reproduce.side_by_side import (
    Dense,
    Training,
    accuracy,
    first_weights,
    networks,
    train,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EPOCHS = {"blobs": 10, "circles": 10, "swirls": 15}
"""Data sets, and the epochs of each (A.6.1)."""

BATCH, MOMENTUM, HIDDEN, THETA = 128, 0.95, (32, 16), 0.25
NAMES = {"lfp": "LFP-ε", "gradient": "gradient descent"}
COLOURS = {"lfp": "#b3421b", "gradient": "#2b5c8a"}
CLASSES = ("#7fa6c9", "#e0a083", "#9cba8f")
AS_IN_PAPER = {"lfp": "sum", "gradient": "mean"}
"""Reduction of the updates of a batch in the published code: LFP sums, the loss of gradient descent is a mean."""

FIRST = {1: (1,), 2: (1, 3), 3: (1, 2, 5)}
"""Values of ``a`` in learning rates ``a · 10^b``, by their number."""

NEAR = 0.01
"""Accuracy by which two results may differ and count as equal."""


def rates_of(first: Sequence[int], exponents: Sequence[int]) -> list[float]:
    """List learning rates ``a · 10^b``.

    Args:
        first: values of ``a``.
        exponents: values of ``b``.
    """
    return [float(f"{a}e{b}") for b in exponents for a in first]


class Swept(NamedTuple):
    """Networks of one start, trained with many learning rates.

    Attributes:
        rows: one for each learning rate and reduction.
        curves: accuracy in each batch, float16 ``[steps, K]``.
        layers: weight and bias of each layer, ``[K, out, in]`` and ``[K, out]``, one after the other.
    """

    rows: list[Row]
    curves: NDArray[np.float16]
    layers: list[NDArray[np.float32]]


def neutral_share(layers: Sequence[Tensor], theta: float = THETA) -> float:
    """Compute the share of neutral weights, ``|w| ≤ θ max|w|`` with the largest of their layer (v3, Fig. 3).

    Args:
        layers: weights of each layer.
        theta: threshold θ in [0, 1].
    """
    named_layers = {str(place): w for place, w in enumerate(layers)}
    shares = theta_sparsity(named_layers, theta)
    return sum(shares[name] * w.numel() for name, w in named_layers.items()) / sum(w.numel() for w in layers)


def sweeps(quick: bool, per_decade: int, **axes: Sequence[Any]) -> list[Part]:
    """List the parts of an experiment that sweeps over learning rates.

    Args:
        quick: whether to take few rates, epochs and training samples.
        per_decade: number of learning rates in each decade.
        **axes: values of each setting; ``data`` is one of them.
    """
    found = []
    for settings in grid(**axes):
        part = named(**settings)
        full = {"epochs": EPOCHS[settings["data"]], "per_decade": per_decade}
        less = {"epochs": 2, "samples": 1000, "per_decade": 1}
        found.append(Part(part.name, settings | (less if quick else full)))
    return found


def sweep(
    part: Part,
    rule: rules.Rule,
    reductions: Sequence[str],
    *,
    reward: rewards.Reward | None = None,
    activation: Any = nn.ReLU,
    activated_output: bool = False,
) -> Swept:
    """Train networks with each learning rate and each reduction, from one start and on one draw for each seed.

    Args:
        part: one of :func:`sweeps`, which says how many seeds there are.
        rule: of all layers.
        reductions: ``"sum"`` and ``"mean"``, or one of them.
        reward: of the outputs under an LFP rule; ``None``: row 3 of Table 2.
        activation: of the hidden layers.
        activated_output: whether the outputs, too, go through the activation.
    """
    given = part.settings
    seeds = range(given["seeds"])
    draws = [loaded(given["data"], seed) for seed in seeds]
    count = given.get("samples", len(draws[0].train))
    rates = rates_of(FIRST[given["per_decade"]], range(-7, 2))
    each = [(reduction, rate) for reduction in reductions for rate in rates]
    settings = [(place, *one) for place in range(len(seeds)) for one in each]
    starts = [first_weights((2, *HIDDEN, draws[0].outputs), seed) for seed in seeds]
    net = networks([starts[place] for place, *_ in settings], rule, activation, activated_output=activated_output)
    training = Training(
        rates=torch.tensor([rate for *_, rate in settings]),
        sums=torch.tensor([reduction == "sum" for _, reduction, _ in settings]),
        epochs=given["epochs"],
        batch=BATCH,
        momentum=MOMENTUM,
        reward=reward or rewards.Softmax(),
    )
    x, y, x_test, y_test = (
        torch.stack(each_draw).repeat_interleave(len(each), 0)
        for each_draw in zip(
            *((d.train.images[:count], d.train.labels[:count], d.test.images, d.test.labels) for d in draws),
            strict=True,
        )
    )
    trained = train(net, x, y, training, seeds[0])
    found = accuracy(net, x_test, y_test)
    dense = [layer for layer in net if isinstance(layer, Dense)]
    last = -(-count // BATCH)  # steps of an epoch
    rows: list[Row] = []
    for place, (draw, reduction, rate) in enumerate(settings):
        lost = bool(trained.diverged[place])
        neutral = None if lost else neutral_share([layer.weight[place].detach() for layer in dense])
        rows.append(
            {"seed": seeds[draw], "reduction": reduction, "rate": rate, "accuracy": found[place], "diverged": lost}
            | {"train_accuracy": float(trained.curve[-last:, place].mean()), "neutral": neutral}
        )
    layers = [p.detach().numpy() for layer in dense for p in (layer.weight, layer.bias)]
    return Swept(rows, trained.curve.astype(np.float16), layers)


def loaded(name: str, draw: int) -> Any:
    """Draw a toy data set.

    Args:
        name: of the data set.
        draw: number of the draw.
    """
    return data.load(name, draw=draw)


def mean_accuracy(results: Results, **wanted: Any) -> dict[float, float]:
    """Average the test accuracy at each learning rate over the seeds.

    Args:
        results: of the experiment.
        **wanted: values by column, as in ``select``.
    """
    rates = sorted(results.each("rate", **wanted))
    return {rate: float(results.values("accuracy", rate=rate, **wanted).mean()) for rate in rates}


def best_rate(results: Results, **wanted: Any) -> float:
    """Find the learning rate with the highest accuracy; of several the middle one.

    Args:
        results: of the experiment.
        **wanted: values by column, as in ``select``.
    """
    found = mean_accuracy(results, **wanted)
    top = [rate for rate, value in found.items() if value > max(found.values()) - 1e-9]
    return top[(len(top) - 1) // 2]


def middle_rate(results: Results, **wanted: Any) -> float:
    """Find the middle, on the logarithmic scale, of the learning rates that are within a point of the best accuracy.

    Args:
        results: of the experiment.
        **wanted: values by column, as in ``select``.
    """
    found = mean_accuracy(results, **wanted)
    good = [rate for rate, value in found.items() if value >= max(found.values()) - NEAR]
    return float(np.sqrt(good[0] * good[-1]))


def boundary(axes: Axes, net: nn.Sequential, points: Tensor, labels: Tensor) -> None:
    """Draw the class that a network predicts in the plane, and some points of the data.

    Args:
        axes: to draw in.
        net: one network (:func:`~spikelfp.reproduce.side_by_side.networks` of one start).
        points: samples ``[N, 2]``.
        labels: their classes ``[N]``.
    """
    from matplotlib.colors import ListedColormap

    low, high = points.min(0).values - 0.3, points.max(0).values + 0.3
    sides = [torch.linspace(float(low[axis]), float(high[axis]), 150) for axis in (0, 1)]
    plane = torch.stack(torch.meshgrid(*sides, indexing="xy"), -1)  # [150, 150, 2]
    with torch.no_grad():
        predicted = net(plane.reshape(1, -1, 2)).argmax(-1).reshape(150, 150)
    classes = int(labels.max()) + 1
    colours = ListedColormap(CLASSES[:classes])
    look: dict[str, Any] = {"cmap": colours, "vmin": -0.5, "vmax": classes - 0.5}
    axes.pcolormesh(*(side.numpy() for side in sides), predicted.numpy(), alpha=0.55, rasterized=True, **look)
    shown, kinds = points[:300].numpy(), labels[:300].numpy()
    axes.scatter(shown[:, 0], shown[:, 1], c=kinds, s=7, edgecolors="#333", linewidths=0.3, **look)
    axes.set(xticks=[], yticks=[])


def network_of(layers: Sequence[NDArray[Any]], place: int, rule: rules.Rule, **options: Any) -> nn.Sequential:
    """Build one of the networks of a sweep.

    Args:
        layers: of the sweep.
        place: which of them.
        rule: of its layers.
        **options: of :func:`~spikelfp.reproduce.side_by_side.networks`.
    """
    one = [torch.as_tensor(each[place]) for each in layers]
    return networks([list(zip(one[::2], one[1::2], strict=True))], rule, **options)


def smooth(curve: NDArray[Any], steps: int) -> NDArray[np.float64]:
    """Average a curve over a window that moves along its first axis, shorter at the start.

    Args:
        curve: ``[steps, …]``.
        steps: length of the window.
    """
    total = np.cumsum(np.concatenate([np.zeros_like(curve[:1], dtype=np.float64), curve]), 0)
    ends = np.arange(1, len(curve) + 1)
    starts = np.maximum(ends - steps, 0)
    found: NDArray[np.float64] = (total[ends] - total[starts]) / (ends - starts).reshape(-1, *[1] * (curve.ndim - 1))
    return found


def draw_rates(axes: Axes, results: Results, wanted: Row, colour: str, style: str, label: str) -> None:
    """Draw accuracy over learning rates, mean and standard deviation over the seeds, a diamond at the best.

    Args:
        axes: to draw in.
        results: of the experiment.
        wanted: values by column.
        colour: of the line.
        style: of the line.
        label: of the line.
    """
    found = mean_accuracy(results, **wanted)
    rates, means = np.array(list(found)), np.array(list(found.values()))
    spreads = np.array([results.values("accuracy", rate=rate, **wanted).std() for rate in rates])
    axes.plot(rates, means, style, color=colour, lw=1.2, label=label)
    axes.fill_between(rates, means - spreads, means + spreads, color=colour, alpha=0.15, lw=0)
    best = best_rate(results, **wanted)
    axes.plot(best, found[best], "D", color=colour, ms=4.5, mec="white", mew=0.5)
    axes.set(xscale="log", ylim=(0, 1.04))


@experiments.register("toy")
class Toy(Experiment):
    """Training on blobs, circles and swirls with LFP and gradient descent."""

    title, source = "Blobs, circles and swirls", "LFP v3, Fig. 3"
    claims = (
        "LFP separates the classes as well as gradient descent does.",
        "For the same accuracy LFP takes about a hundredth of the learning rate of gradient descent.",
        "Our reading: this hundredth is the batch of 128, over which LFP sums its updates and the loss is a mean.",
        "LFP converges in a stable manner.",
        "Weights that LFP has found are more θ-sparse than the first ones and than those of gradient descent.",
    )
    setting = (
        "Networks of 32, 16 and 2 or 3 neurons with ReLU, batches of 128, SGD with momentum 0.95 (not damped), 10 "
        "epochs (swirls: 15), five draws of each data set (A.6.1). LFP-ε takes the reward of Table 2, row 3, gradient "
        "descent softmax cross-entropy, each with sums and with means over the batch; the paper has sums for LFP and "
        "means for gradients, and so have the boundaries, curves and weights. Of the paper's learning rates a · 10^b, "
        "b = -10 … 3, those with a = 1, 2, 5 and b = -7 … 1 are run. Of learning rates that are equally good the "
        "middle one is chosen. The paper has no formula of the swirl; ours has three arms that turn by 4 radians. "
        "Accuracy while training is that of the batches. A network with a weight above 10,000 counts as diverged and "
        "predicts class 0."
    )
    minutes, seeds = 1.0, 5

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return sweeps(quick, 3, data=list(EPOCHS), seeds=[seeds])

    def run(self, part: Part, desk: Desk) -> list[Row]:
        rows: list[Row] = []
        for method, rule in (("lfp", rules.Epsilon()), ("gradient", rules.Gradient())):
            found = sweep(part, rule, ("sum", "mean"))
            rows += [{"method": method} | row for row in found.rows]
            layers = {f"{method}_{place}": each for place, each in enumerate(found.layers)}
            desk.keep(**{f"{method}_curves": found.curves}, **layers)
        classes = len(found.layers[-1][0])
        for seed in range(part.settings["seeds"]):
            first = [weight for weight, _ in first_weights((2, *HIDDEN, classes), seed)]
            rows.append({"seed": seed, "method": "first weights", "neutral": neutral_share(first)})
        return rows

    def judge(self, results: Results) -> list[Verdict]:
        names = results.each("data")
        best = {(name, method): self._best(results, name, method) for name in names for method in NAMES}
        return [
            self._accuracy(results, best),
            self._ratio(results, names, AS_IN_PAPER, (30, 300)),
            self._ratio(results, names, {"lfp": "mean", "gradient": "mean"}, (1 / 3, 3)),
            self._stable(results, names),
            self._sparse(results, best),
        ]

    @staticmethod
    def _best(results: Results, name: str, method: str) -> Row:
        wanted = {"data": name, "method": method, "reduction": AS_IN_PAPER[method]}
        return wanted | {"rate": best_rate(results, **wanted)}

    @staticmethod
    def _accuracy(results: Results, best: dict[tuple[str, str], Row]) -> Verdict:
        holds, words = True, []
        for name in results.each("data"):
            lfp, gradient = (results.values("accuracy", **best[name, method]) for method in NAMES)
            holds &= bool(lfp.mean() >= gradient.mean() - NEAR)
            words.append(f"{name} {spread(lfp)} against {spread(gradient)}")
        return Verdict(holds, f"test accuracy at the best rate: {'; '.join(words)} (as well: less than a point lower)")

    @staticmethod
    def _ratio(results: Results, names: list[str], reductions: dict[str, str], within: tuple[float, float]) -> Verdict:
        ratios = {}
        for name in names:
            middle = {
                method: middle_rate(results, data=name, method=method, reduction=reductions[method]) for method in NAMES
            }
            ratios[name] = middle["gradient"] / middle["lfp"]
        holds = all(within[0] <= ratio <= within[1] for ratio in ratios.values())
        words = ", ".join(f"{name} {ratio:.2g}" for name, ratio in ratios.items())
        how = f"{reductions['lfp']}s for LFP, {reductions['gradient']}s for gradients"
        return Verdict(
            holds,
            f"rate of gradient descent over that of LFP with {how}: {words}, between the middles of the rates within a "
            f"point of the best (asked: {within[0]:.2g} to {within[1]:.3g})",
        )

    @staticmethod
    def _curves(results: Results, name: str, method: str) -> NDArray[np.float64]:
        """Accuracy in the batches at the best rate, ``[seeds, steps]``."""
        held = results.arrays(next(each for each in results.parts if each.startswith(f"{name}-")))
        return held[f"{method}_curves"][:, Toy._places(results, name, method)].T.astype(np.float64)

    @staticmethod
    def _places(results: Results, name: str, method: str) -> list[int]:
        """Places of the best network of each seed in a sweep."""
        rows = results.select(data=name, method=method)
        wanted: Row = {"reduction": AS_IN_PAPER[method]}
        wanted["rate"] = best_rate(results, data=name, method=method, **wanted)
        return [place for place, row in enumerate(rows) if wanted.items() <= row.items()]

    @classmethod
    def _stable(cls, results: Results, names: list[str]) -> Verdict:
        holds, words = True, []
        for name in names:
            curves = smooth(cls._curves(results, name, "lfp").T, 8).T
            late = curves[:, curves.shape[1] * 3 // 4 :]
            fall = float((late.mean() - late.min(axis=1)).max())
            holds &= fall <= 0.05
            words.append(f"{name} {late.mean():.3f}, lowest {late.min():.3f}")
        return Verdict(
            holds,
            f"accuracy in the last quarter of the batches, averaged over 8 batches: {'; '.join(words)}, over all seeds "
            "(stable: no more than 5 points below its mean)",
        )

    @staticmethod
    def _sparse(results: Results, best: dict[tuple[str, str], Row]) -> Verdict:
        holds, words = True, []
        for name in results.each("data"):
            first = results.values("neutral", data=name, method="first weights")
            lfp, gradient = (results.values("neutral", **best[name, method]) for method in NAMES)
            holds &= bool(lfp.mean() > max(first.mean(), gradient.mean()))
            words.append(
                f"{name} {spread(lfp, 2)} under LFP, {spread(gradient, 2)} gradients, {spread(first, 2)} first"
            )
        return Verdict(
            holds,
            f"share of weights of at most {THETA} of the largest of their layer, LFP / gradient descent / first "
            f"weights: {'; '.join(words)}",
        )

    def draw(self, results: Results, figure: Figure) -> None:
        names = results.each("data")
        figure.set_size_inches(13, 3.1 * len(names))
        grid = figure.add_gridspec(len(names), 4, width_ratios=(1, 1.35, 1.1, 2.1))
        for row, name in enumerate(names):
            held = results.arrays(next(each for each in results.parts if each.startswith(f"{name}-")))
            axes = [figure.add_subplot(grid[row, column]) for column in range(3)]
            self._draw_boundary(axes[0], results, name, held)
            for method in NAMES:
                for reduction, style in (("sum", "-"), ("mean", "--")):
                    wanted = {"data": name, "method": method, "reduction": reduction}
                    draw_rates(axes[1], results, wanted, COLOURS[method], style, f"{NAMES[method]}, {reduction}s")
                curves = smooth(self._curves(results, name, method).T, 8)
                axes[2].plot(curves.mean(1), color=COLOURS[method], lw=1.2, label=NAMES[method])
                low, high = curves.mean(1) - curves.std(1), curves.mean(1) + curves.std(1)
                axes[2].fill_between(np.arange(len(curves)), low, high, color=COLOURS[method], alpha=0.15, lw=0)
            axes[0].set_ylabel(name)
            axes[1].set(xlabel="learning rate", ylabel="test accuracy")
            axes[2].set(xlabel="batch", ylabel="accuracy in training", ylim=(0, 1.04))
            if row == 0:
                axes[0].set_title("LFP-ε, best rate")
                axes[1].set_title("accuracy over rates")
                axes[2].set_title("convergence")
                axes[1].legend(fontsize=7, loc="lower left")
                axes[2].legend(fontsize=7, loc="lower right")
            self._draw_weights(figure, grid[row, 3], results, name, held, first=row == 0)

    def _draw_boundary(self, axes: Axes, results: Results, name: str, held: dict[str, NDArray[Any]]) -> None:
        net = network_of(self._layers(held, "lfp"), self._places(results, name, "lfp")[0], rules.Epsilon())
        splits = loaded(name, 0)
        boundary(axes, net, splits.test.images, splits.test.labels)

    @staticmethod
    def _layers(held: dict[str, NDArray[Any]], method: str) -> list[NDArray[Any]]:
        return [held[f"{method}_{place}"] for place in range(2 * (len(HIDDEN) + 1))]

    def _draw_weights(
        self, figure: Figure, place: Any, results: Results, name: str, held: dict[str, NDArray[Any]], first: bool
    ) -> None:
        """Draw the shares of negative, neutral and positive weights over θ, for three networks."""
        kinds: dict[str, list[NDArray[Any]]] = {}
        classes = len(held["lfp_5"][0])
        kinds["first weights"] = [weight.numpy() for weight, _ in first_weights((2, *HIDDEN, classes), 0)]
        for method in NAMES:
            chosen = self._places(results, name, method)[0]
            kinds[NAMES[method]] = [each[chosen] for each in self._layers(held, method)[::2]]
        thresholds = np.linspace(0, 1, 101)
        inner = place.subgridspec(1, 3, wspace=0.08)
        for column, (kind, layers) in enumerate(kinds.items()):
            axes = figure.add_subplot(inner[column])
            flat = np.concatenate([(each / np.abs(each).max()).ravel() for each in layers])
            negative = np.array([(flat < -theta).mean() for theta in thresholds])
            positive = np.array([(flat > theta).mean() for theta in thresholds])
            colours = ("#a68cc0", "#d9d9d9", "#8fb98a")
            axes.stackplot(thresholds, negative, 1 - negative - positive, positive, colors=colours)
            axes.axvline(THETA, color="#333", lw=0.8, ls=":")
            axes.text(0.95, 0.5, f"{neutral_share([torch.as_tensor(w) for w in layers]):.2f}", ha="right", fontsize=9)
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="θ", xticks=(0, 0.5, 1))
            axes.set_yticks((0, 1) if column == 0 else [])
            if first:
                axes.set_title(kind, fontsize=10)
