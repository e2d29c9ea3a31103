"""Spiking networks over sequence length, decay and learning rate (LFP v3, Fig. A.3; v1, Fig. A.4 and A.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spikelfp import nn
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, grid, named, spread
from spikelfp.reproduce.snn import BATCH, COLOURS, METHODS, NAMES, NETS, OPTIMIZER, best, network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWEPT: dict[str, dict[str, Any]] = {
    "lfp": METHODS["lfp"],
    "lfp-woken": METHODS["lfp"] | {"wake": True},
    "surrogate": METHODS["surrogate"],
}
"""Options of the methods: the paper's LFP without and with the waking of silent layers, and surrogate gradients."""

LENGTHS, DECAYS, RATES = (5, 15, 25), (0.3, 0.6, 0.9), (0.05, 0.5)
USUAL = (15, 0.9)
"""Steps and decay while the other one varies."""

DATA = {"mnist": "mnist-part:2500,2000", "digits": "digits"}
ADAM = {"optimizer": "adam", "schedule": "one-cycle", "clip": 0.01, "epochs": 1}
"""Optimiser of v1, whose Fig. A.5 has five steps and the decays 0.3 and 0.6."""


def changes(desk: Desk, woken: dict[str, float]) -> list[Row]:
    """Measure how far training has moved each layer with weights.

    Args:
        desk: whose run is finished.
        woken: factors by which layers were scaled up before the first update; they are part of the start.

    Returns:
        A row for each layer: mean of ``|w − w_start|`` over the mean of ``|w_start|``, of weights and of biases.
    """
    from spikelfp.training.run import load_run

    start, end = (load_run(desk.run_folder(), weights).net for weights in ("initial", "last"))
    rows: list[Row] = []
    for (name, before), after in zip(start.named_modules(), end.modules(), strict=True):
        if isinstance(before, nn.Linear | nn.Conv2d) and isinstance(after, nn.Linear | nn.Conv2d):
            row: Row = {"layer": len(rows) + 1, "last": False}
            for kind in ("weight", "bias"):
                scaled = woken.get(name, 1.0) * getattr(before, kind).detach()
                row[f"{kind}_change"] = relative_change(scaled, getattr(after, kind))
            rows.append(row)
    rows[-1]["last"] = True
    return rows


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Compute the mean of ``|after − before|`` over the mean of ``|before|``.

    Args:
        before: parameters at the start.
        after: the same at the end.
    """
    with torch.no_grad():
        return float((after - before).abs().mean() / before.abs().mean())


@experiments.register("snn-sweep")
class SpikingSweep(Experiment):
    """Training of two spiking networks with three sequence lengths, three decays and three learning rates."""

    title, source = "Spiking networks over sequence length and decay", "LFP v3, Fig. A.3; v1, Fig. A.4 and A.5"
    claims = (
        "With few steps the LeNet learns less well by LFP-ε than by surrogate gradients.",
        "LFP-ε learns better the more slowly the membrane decays (larger β).",
        "At small β, where few neurons fire, LFP-ε falls behind surrogate gradients.",
        "At β 0.3 LFP-ε moves next to no parameter but the biases of the last layer; at 0.6 it moves all layers.",
    )
    setting = (
        "The networks, the optimiser and the paper's LFP-ε of `snn` in this project, without waking and with it. "
        "T is 5, 15 or 25 with β 0.9, and β 0.3, 0.6 or 0.9 with T 15 (the paper: all nine pairs). "
        "To save time: 2,500 images of MNIST, of which 250 choose the learning rate from 0.05 and 0.5 (the "
        "paper: 60,000 images, eight rates), the first 2,000 test images, and batches of 16 in place of 128, which "
        "leave 30 % of the paper's updates. "
        "Parameters (v1, Fig. A.5): LeNet, T 5, Adam at 0.001, one epoch; the mean change over the mean magnitude at "
        "the start, after waking."
    )
    data, minutes, seeds = ("mnist",), 25, 2

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        nets, rates, used = (("mlp",), (0.5,), "digits") if quick else (tuple(NETS), RATES, "mnist")
        pairs = [(length, USUAL[1]) for length in LENGTHS] + [(USUAL[0], decay) for decay in DECAYS]
        pairs = [(4, 0.3), (4, 0.9)] if quick else list(dict.fromkeys(pairs))
        found = [
            named(data=used, seed=seed, net=nets[-1], method=f"moved-{method}", T=5, beta=beta)
            for seed in range(seeds)
            for beta in DECAYS[: 1 if quick else 2]
            for method in ("lfp", "lfp-woken")
        ]
        for each in grid(data=(used,), seed=range(seeds), net=nets, pair=pairs, method=tuple(SWEPT), lr=rates):
            length, beta = each.pop("pair")
            found.append(named(**each, T=length, beta=beta))
        return found

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        net, method, used = (held[name] for name in ("net", "method", "data"))
        moved = method.startswith("moved-")
        options = network(net, used) | SWEPT[method.removeprefix("moved-")]
        options |= ADAM | {"lr": 1e-3} if moved else OPTIMIZER | {"lr": held["lr"], "epochs": 3}
        options |= {"batch_size": BATCH[used]}
        found = desk.train(data=DATA[used], steps=held["T"], beta=held["beta"], seed=held["seed"], **options)
        if moved:
            return changes(desk, found["wake"] or {})
        rates = list(found["spike_rates"].values())
        return [
            {"accuracy": found["test_accuracy"], "validation": found["validation_accuracy"]}
            | {"least_spike_rate": min(rates)}
        ]

    def judge(self, results: Results) -> list[Verdict]:
        return [self._short(results), self._decay(results), self._small(results), self._moved(results)]

    def _short(self, results: Results) -> Verdict:
        gaps = {length: _gap(results, "lenet", length, USUAL[1]) for length in LENGTHS}
        if not all(len(gap) for gap in gaps.values()):
            return Verdict(None, "no LeNet in the quick form")
        text = ", ".join(f"T {length}: {spread(gap)}" for length, gap in gaps.items())
        return Verdict(
            bool(gaps[5].mean() > max(0.02, gaps[25].mean())),
            f"accuracy that LFP-ε lacks in the LeNet, {text}; asked: more than 0.02 at T 5, and more than at T 25",
        )

    def _decay(self, results: Results) -> Verdict:
        better, texts = True, list[str]()
        for net in results.each("net", method="lfp"):
            steps = USUAL[0] if results.select(net=net, T=USUAL[0]) else 4
            betas = sorted(results.each("beta", net=net, method="lfp", T=steps))
            low, high = (_top(results, net, "lfp", steps, beta) for beta in (betas[0], betas[-1]))
            better &= bool(high.mean() > low.mean() + 0.02)
            texts.append(f"{NETS[net]} {spread(low)} at β {betas[0]:g}, {spread(high)} at {betas[-1]:g}")
        return Verdict(better, f"{'; '.join(texts)}; asked: 0.02 more in each network")

    def _small(self, results: Results) -> Verdict:
        behind, texts = True, list[str]()
        for net in results.each("net", method="lfp"):
            steps = USUAL[0] if results.select(net=net, T=USUAL[0]) else 4
            gap = _gap(results, net, steps, 0.3)
            behind &= bool(gap.mean() > 0.05)
            woken = _gap(results, net, steps, 0.3, "lfp-woken")
            texts.append(f"{NETS[net]} {spread(gap)}, woken {spread(woken)}")
        return Verdict(behind, f"accuracy that LFP-ε lacks at β 0.3: {'; '.join(texts)}; asked: more than 0.05")

    def _moved(self, results: Results) -> Verdict:
        hidden = {
            beta: results.values("weight_change", method="moved-lfp", beta=beta, last=False) for beta in DECAYS[:2]
        }
        bias = {beta: results.values("bias_change", method="moved-lfp", beta=beta, last=True) for beta in DECAYS[:2]}
        if not len(hidden[0.6]):
            return Verdict(None, "no β 0.6 in the quick form")
        woken = results.values("weight_change", method="moved-lfp-woken", beta=0.3, last=False)
        still, moving = hidden[0.3].max(), hidden[0.6].min()
        return Verdict(
            bool(still < 0.1 * moving and bias[0.3].mean() > 10 * still),
            f"change of hidden weights: at most {still:.2g} at β 0.3, at least {moving:.2g} at 0.6, and "
            f"{woken.mean():.2g} at 0.3 after waking; biases of the last layer at 0.3: {bias[0.3].mean():.2g}. Asked: "
            "a factor of 10 between the first two, and between the first and the last",
        )

    def draw(self, results: Results, figure: Figure) -> None:
        nets = results.each("net", method="lfp")
        figure.set_size_inches(5 * len(nets) + 5, 7)
        grid_of_axes = figure.subplots(2, len(nets) + 1, squeeze=False)
        for column, net in enumerate(nets):
            for row, (name, other) in enumerate((("T", "beta"), ("beta", "T"))):
                self._lines(results, grid_of_axes[row, column], net, name, other)
        grid_of_axes[0, 0].legend()
        for axes, parameter in zip(grid_of_axes[:, -1], ("weight", "bias"), strict=True):
            self._bars(results, axes, parameter)
        grid_of_axes[0, -1].legend(fontsize="small")

    def _lines(self, results: Results, axes: Any, net: str, name: str, other: str) -> None:
        held = USUAL[1] if name == "T" else USUAL[0]
        if not results.select(net=net, method="lfp", **{other: held}):
            held = results.each(other, net=net, method="lfp")[0]
        for method in SWEPT:
            values = sorted(results.each(name, net=net, method=method, **{other: held}))
            found = [
                100 * results.values("accuracy", **_chosen(results, net, method, **{name: value, other: held}))
                for value in values
            ]
            mean, deviation = np.array([f.mean() for f in found]), np.array([f.std() for f in found])
            axes.errorbar(values, mean, deviation, fmt="o-", capsize=3, color=COLOURS[method], label=NAMES[method])
            axes.set_xticks(values)
        said, fixed = ("T (steps)", f"β {held}") if name == "T" else ("decay β", f"T {held}")
        axes.set(title=f"{NETS[net]} SNN, {fixed}", xlabel=said, ylabel="test accuracy (%), best rate", ylim=(0, 102))

    def _bars(self, results: Results, axes: Any, parameter: str) -> None:
        kinds = [
            (method, beta)
            for method in ("moved-lfp", "moved-lfp-woken")
            for beta in sorted(results.each("beta", method=method))
        ]
        for place, (method, beta) in enumerate(kinds):
            layers = results.each("layer", method=method, beta=beta)
            held = {"method": method, "beta": beta}
            means = [results.values(f"{parameter}_change", layer=each, **held).mean() for each in layers]
            at = np.array(layers) + 0.8 * (place + 0.5) / len(kinds) - 0.4
            name = method.removeprefix("moved-")
            axes.bar(
                at, means, 0.8 / len(kinds), color=COLOURS[name], alpha=0.5 if beta < 0.5 else 1.0,
                label=f"{NAMES[name]}, β {beta}",
            )  # fmt: skip
            axes.set_xticks(layers)
        words = {"weight": "weights", "bias": "biases"}[parameter]
        axes.set(
            title=f"change of {words}, T 5", xlabel="layer", ylabel="mean change / mean magnitude", yscale="symlog"
        )
        axes.set_yscale("symlog", linthresh=1e-4)
        axes.set_ylim(0, 100 * max(axes.get_ylim()[1], 1.0))  # room for the legend


def _chosen(results: Results, net: str, method: str, **held: Any) -> dict[str, Any]:
    wanted = {"net": net, "method": method, **held}
    return wanted | {"lr": best(results, "lr", **wanted)}


def _top(results: Results, net: str, method: str, steps: int, beta: float) -> np.ndarray:
    """Return the test accuracies of the seeds at the best learning rate."""
    if not results.select(net=net, method=method, T=steps, beta=beta):
        return np.zeros(0)
    return results.values("accuracy", **_chosen(results, net, method, T=steps, beta=beta))


def _gap(results: Results, net: str, steps: int, beta: float, method: str = "lfp") -> np.ndarray:
    return _top(results, net, "surrogate", steps, beta) - _top(results, net, method, steps, beta)
