"""Paths of two weights under LFP and gradient descent (LFP v3, Fig. 4 and A.6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from spikelfp import nn, propagate, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STARTS = ((0.0, 4.0), (4.0, 0.0), (2.0, 4.0), (4.0, 2.0), (-4.0, -4.0), (-4.0, 4.0), (4.0, -4.0))
"""First weights of the seven neurons."""

NAMES = {"lfp": "LFP-ε", "gradient": "gradient descent"}
RATE, BATCH, SAMPLES = 0.5, 8, 1000


def clouds(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the two classes, centred at (−1, −1) and (1, 1).

    Args:
        seed: of the draw.

    Returns:
        Points ``[1000, 2]``, and classes 0 and 1 as numbers ``[1000, 1]``.
    """
    from sklearn.datasets import make_blobs

    points, labels = make_blobs(SAMPLES, centers=[[-1, -1], [1, 1]], cluster_std=0.2, random_state=seed)[:2]
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)[:, None]


def path(method: str, start: tuple[float, float], x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Train a neuron without bias for one epoch, with means over batches of 8.

    Args:
        method: ``"lfp"`` with the reward ``o (y − σ(o))`` (Table 2, row 4), or ``"gradient"`` of the cross-entropy.
        start: its weights at first.
        x: points ``[N, 2]``.
        y: classes ``[N, 1]``.

    Returns:
        Weights after each step, ``[steps + 1, 2]``.
    """
    neuron = nn.Linear(2, 1, bias=False, rule=rules.Epsilon() if method == "lfp" else rules.Gradient())
    with torch.no_grad():
        neuron.weight.copy_(torch.tensor([start]))
    ascent = torch.optim.SGD(neuron.parameters(), RATE)
    found = [neuron.weight.detach().numpy()[0].copy()]
    for begin in range(0, len(x), BATCH):
        inputs, target = x[begin : begin + BATCH], y[begin : begin + BATCH]
        ascent.zero_grad()
        output = neuron(inputs[None])[0]
        if method == "lfp":
            propagate(output, (output * (target - output.sigmoid())).detach() / len(inputs))
        else:
            torch.nn.functional.binary_cross_entropy_with_logits(output, target).backward()
        ascent.step()
        found.append(neuron.weight.detach().numpy()[0].copy())
    return np.stack(found)


@experiments.register("two-weights")
class TwoWeights(Experiment):
    """Training of one neuron with two weights from seven starts."""

    title, source = "Paths of two weights", "LFP v3, Fig. 4"
    claims = (
        "LFP scales steps by the size of the weight: one that is zero stays zero.",
        "LFP ends at sparser weights than gradient descent where the start allows it.",
    )
    setting = (
        "One neuron without bias, two clouds of points at (-1, -1) and (1, 1) of standard deviation 0.2, one epoch, "
        "learning rate 0.5, batches of 8 (A.6.1), whose updates are averaged here. Sparsity is the smaller weight over "
        "the larger one, in magnitude."
    )
    minutes, seeds = 0.1, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return [Part(f"seed{seed}", {"seed": seed}) for seed in range(seeds)]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        x, y = clouds(part.settings["seed"])
        rows: list[Row] = []
        for method in NAMES:
            paths = [path(method, start, x, y) for start in STARTS]
            desk.keep(**{method: np.stack(paths)})
            for start, each in zip(STARTS, paths, strict=True):
                small, large = sorted(np.abs(each[-1]))
                right = (np.sign(x.numpy() @ each[-1])[:, None] == 2 * y.numpy() - 1).mean()
                rows.append(
                    {"method": method, "start_1": start[0], "start_2": start[1], "w_1": each[-1][0], "w_2": each[-1][1]}
                    | {"smaller_over_larger": small / large, "accuracy": right}
                )
        return rows

    def judge(self, results: Results) -> list[Verdict]:
        stays = all(
            abs(row[f"w_{axis}"]) < 1e-6
            for row in results.select(method="lfp")
            for axis in (1, 2)
            if row[f"start_{axis}"] == 0
        )
        lfp, gradient = (results.values("smaller_over_larger", method=method) for method in NAMES)
        moved = results.values("w_1", method="gradient", start_1=0.0)
        return [
            Verdict(stays, f"weights that start at 0 end at 0 under LFP, and at {moved.mean():.2f} under gradients"),
            Verdict(
                bool(lfp.mean() < gradient.mean()),
                f"smaller over larger weight at the end: {lfp.mean():.2f} under LFP, {gradient.mean():.2f} under "
                "gradient descent, mean over seven starts",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(9, 4.4)
        x, y = clouds(0)
        held = results.arrays("seed0")
        side = torch.linspace(-5, 7, 120)
        weights = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)  # [120, 120, 2]
        outputs = weights @ x.T  # [120, 120, N]
        target = y[:, 0].expand_as(outputs)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, target, reduction="none")
        reward = outputs * (target - outputs.sigmoid())
        for axes, method, height in zip(figure.subplots(1, 2), NAMES, (reward, -loss), strict=True):
            axes.contourf(side, side, height.mean(-1), levels=16, cmap="PuOr_r", alpha=0.6)
            for each in held[method]:
                axes.plot(*each.T, color="#b3421b", lw=1.2)
                axes.plot(*each[0], "o", color="#333", ms=3.5)
                axes.plot(*each[-1], "*", color="#b3421b", ms=9)
            of = "reward" if method == "lfp" else "loss, lower is lighter"
            axes.set(title=f"{NAMES[method]} on its {of}", xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
