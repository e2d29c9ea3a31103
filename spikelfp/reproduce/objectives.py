"""Models and objectives with and without derivatives (LFP v3, Table 1): F1, Levenshtein distance, outside feedback."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spikelfp import TemporalTrainer, data, methods, models, propagate, rewards, rules
from spikelfp.reproduce.base import Desk, Experiment, Part, Results, Row, Verdict, experiments, named, spread
from spikelfp.reproduce.snn import plain_gradient
from spikelfp.rules import lending

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS: dict[str, dict[str, str]] = {
    "relu": {"lfp": "LFP-ε", "gradient": "gradient"},
    "spikes": {"lfp": "LFP-ε", "gradient": "gradient", "surrogate": "surrogate"},
    "f1": {"lfp": "LFP-ε, F1", "lfp-usual": "LFP-ε, A.4", "surrogate": "surrogate,\ncross-entropy"},
    "levenshtein": {"start": "untrained", "lfp": "LFP-ε,\nedit distance", "surrogate": "surrogate,\nCTC"},
    "outside": {"lfp": "LFP-ε,\nright or wrong", "surrogate": "surrogate,\nall labels"},
}
TITLES = {
    "relu": "ReLU network",
    "spikes": "spiking network",
    "f1": "F1 of rare classes",
    "levenshtein": "strings of digits",
    "outside": "feedback from outside",
}
COUNTS, FEATURES = (7040, 640, 320), 10
"""Samples of three classes, 88, 8 and 4 % of all: unit Gaussians √2 apart in ten dimensions."""
PLACES, STEPS = 6, 10
"""Places of a row of digits, and the steps for which each is shown; the blank is symbol 0."""


def rare(seed: int, few: int) -> list[data.ArrayDataset]:
    """Draw training, validation and test part of three overlapping classes with 88, 8 and 4 % of the samples.

    Args:
        seed: of the draw.
        few: divisor of the numbers of samples, 2000, 2000 and 4000.
    """
    from sklearn.datasets import make_blobs

    counts = [count // few for count in COUNTS]
    x, y = make_blobs(counts, centers=np.eye(len(counts), FEATURES), random_state=seed)[:2]
    inputs, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    quarter = sum(counts) // 4
    return [
        data.ArrayDataset(inputs[i], labels[i])
        for i in torch.arange(4 * quarter).split([quarter, quarter, 2 * quarter])
    ]


def macro_f1(trainer: TemporalTrainer, part: data.ArrayDataset) -> float:
    """Measure the mean of the F1 scores of the classes."""
    from sklearn.metrics import f1_score

    x, labels = part.__getitems__(range(len(part)))
    with torch.no_grad():
        told = trainer.net(trainer.present(x)).sum(0).argmax(-1)
    return float(f1_score(labels, told, average="macro", zero_division=0))


def strings(part: data.Samples, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw rows of digits, of which six in ten places are filled, and their strings.

    Args:
        part: digits.
        count: number of rows.
        generator: of the draw.

    Returns:
        Inputs ``[T, B, 64]``, and the symbols that are there, digit d as d + 1, in front of −1: ``[B, 6]``.
    """
    chosen = torch.randint(len(part), (count * PLACES,), generator=generator)
    shown = torch.rand(count, PLACES, generator=generator) < 0.6
    images, digits = part.__getitems__(chosen.tolist())
    images = images.view(count, PLACES, -1) * shown.unsqueeze(-1)
    symbols = torch.where(shown, digits.view(count, PLACES) + 1, -1)
    in_front = (~shown).int().argsort(dim=1, stable=True)
    return images.transpose(0, 1).repeat_interleave(STEPS, 0), symbols.gather(1, in_front)


def ctc(spikes: Tensor, targets: Tensor) -> Tensor:
    """Compute the CTC loss (Graves et al. 2006) of spike counts: the usual loss for strings without places.

    Args:
        spikes: ``[T, B, 11]``; a place has ten steps, whose counts are logits.
        targets: ``[B, 6]``, −1 behind the last symbol.
    """
    logits = spikes.unflatten(0, (PLACES, STEPS)).sum(1)
    lengths = (targets >= 0).sum(1)
    places = torch.full_like(lengths, PLACES)
    return torch.nn.functional.ctc_loss(
        logits.log_softmax(-1), targets.clamp(min=0), places, lengths, zero_infinity=True
    )


def right_or_wrong(outputs: Tensor, labels: Tensor) -> Tensor:
    """Answer as an environment: 1 for the right choice, −1 for a wrong one; which was right it does not say."""
    return 2.0 * (outputs.sum(0).argmax(-1) == labels).float() - 1.0


@experiments.register("objectives")
class Objectives(Experiment):
    """Training of models and for objectives that have derivatives, or none."""

    title, source = "Objectives without derivatives", "LFP v3, Table 1"
    claims = (
        "LFP and gradient descent both train a differentiable model for a differentiable objective.",
        "LFP trains spiking networks as they are; gradient descent needs a substitute for their derivative.",
        "LFP trains for the F1 score, which has no derivative.",
        "LFP trains for the Levenshtein distance, which has no derivative.",
        "LFP trains by feedback from outside, of which nothing is known but its value.",
    )
    setting = (
        "The table of the paper gives no numbers: these problems are ours. "
        "Digits (8 x 8) by 64-128-10 networks, ReLU or spiking with T 15, 20 epochs. "
        "F1: three overlapping classes with 88, 8 and 4 % of the samples, spiking 10-128-3 networks; rates and epochs "
        "are chosen by the macro F1 of a validation part, for all three methods alike. "
        "Levenshtein: rows of up to six digits to strings, whose places nobody tells; a spiking 64-256-11 network with "
        "the edit distance as reward, and with CTC, the usual loss, by surrogate gradients; 500 updates. "
        "Outside: an environment says right or wrong to the digit that was chosen; beside it cross-entropy, which is "
        "told the right digit."
    )
    minutes, seeds = 4, 3

    def parts(self, quick: bool, seeds: int) -> list[Part]:
        return [
            named(kind=kind, method=method, seed=seed, size="small" if quick else "whole")
            for seed in range(seeds)
            for kind, names in KINDS.items()
            for method in names
            if method != "start"
        ]

    def run(self, part: Part, desk: Desk) -> list[Row]:
        held = part.settings
        kind, method, seed, small = held["kind"], held["method"], held["seed"], held["size"] == "small"
        work: dict[str, Callable[[], list[Row]]] = {
            "relu": lambda: _digits(desk, method, seed, small, {"model": "mlp", "activation": "relu"}),
            "spikes": lambda: _digits(desk, method, seed, small, {"model": "lif-mlp", "steps": 5 if small else 15}),
            "f1": lambda: _f1(method, seed, small),
            "levenshtein": lambda: _levenshtein(desk, method, seed, small),
            "outside": lambda: _outside(desk, method, seed, small),
        }
        return work[kind]()

    def judge(self, results: Results) -> list[Verdict]:
        found = {
            (kind, method): results.values("score", kind=kind, method=method)
            for kind, names in KINDS.items()
            for method in names
        }
        said = {key: spread(values) for key, values in found.items()}
        mean = {key: values.mean() for key, values in found.items() if len(values)}
        start = results.values("start", kind="levenshtein", method="lfp")
        slope = results.values("largest_gradient").max()
        both = min(mean["relu", "lfp"], mean["relu", "gradient"])
        return [
            Verdict(
                bool(both >= 0.9),
                f"accuracy {said['relu', 'lfp']} by LFP-ε, {said['relu', 'gradient']} by gradients; asked: 0.9",
            ),
            Verdict(
                bool(mean["spikes", "lfp"] >= 0.9 and slope == 0),
                f"accuracy {said['spikes', 'lfp']} by LFP-ε (asked: 0.9), {said['spikes', 'surrogate']} by surrogate "
                f"gradients; the largest gradient without a surrogate is {slope:g}",
            ),
            Verdict(
                bool(mean["f1", "lfp"] > max(mean["f1", "lfp-usual"], mean["f1", "surrogate"])),
                f"macro F1 {said['f1', 'lfp']} when trained for it, {said['f1', 'lfp-usual']} by the reward A.4, "
                f"{said['f1', 'surrogate']} by surrogate gradients of cross-entropy; asked: the best of them",
            ),
            Verdict(
                bool(mean["levenshtein", "lfp"] <= 0.5 * start.mean()),
                f"{spread(start, 2)} edits before training, {spread(found['levenshtein', 'lfp'], 2)} by LFP-ε (asked: "
                f"half of them), {spread(found['levenshtein', 'surrogate'], 2)} by CTC with surrogate gradients",
            ),
            Verdict(
                bool(mean["outside", "lfp"] >= 0.5),
                f"accuracy {said['outside', 'lfp']} from right or wrong (asked: 0.5, five times chance), "
                f"{said['outside', 'surrogate']} from all labels",
            ),
        ]

    def draw(self, results: Results, figure: Figure) -> None:
        figure.set_size_inches(14, 4)
        for axes, (kind, names) in zip(figure.subplots(1, len(KINDS)), KINDS.items(), strict=True):
            for place, method in enumerate(names):
                column = "start" if method == "start" else "score"
                wanted = {"kind": kind, "method": "lfp"} if method == "start" else {"kind": kind, "method": method}
                values = results.values(column, **wanted)
                colour = "#b3421b" if method == "lfp" else "#777" if method in ("gradient", "start") else "#3a6ea5"
                axes.bar(place, values.mean(), 0.6, yerr=values.std(), capsize=4, color=colour, alpha=0.85)
            axes.set_xticks(range(len(names)), names.values(), fontsize="small", rotation=20)
            measure = {"f1": "macro F1", "levenshtein": "edits (less is better)"}.get(kind, "test accuracy")
            axes.set(title=TITLES[kind], ylabel=measure)
            if kind != "levenshtein":
                axes.set_ylim(0, 1)


def _digits(desk: Desk, method: str, seed: int, small: bool, model: dict[str, Any]) -> list[Row]:
    """Train for the classes of digits."""
    if model["model"] == "lif-mlp" and method == "gradient":
        found = plain_gradient("mlp", desk.load("digits"), model["steps"], seed)
        return [{"score": found["accuracy"], "largest_gradient": found["largest_gradient"]}]
    options = model | {"hidden": (128,), "epochs": 3 if small else 20, "batch_size": 32}
    summary = desk.train(data="digits", method=method, lr=3e-3, seed=seed, **options)
    return [{"score": summary["test_accuracy"]}]


def _f1(method: str, seed: int, small: bool) -> list[Row]:
    """Train on rare classes; rate and epoch are those with the best F1 score of the validation part."""
    train, validation, test = rare(seed, 8 if small else 1)
    best, highest = None, -1.0
    for lr in (1e-2,) if small else (3e-3, 1e-2, 3e-2):
        torch.manual_seed(seed)
        net = models.lif_mlp([FEATURES, 128, len(COUNTS)])
        way: Any = "surrogate"
        if method != "surrogate":
            way = methods.LFP(rewards.F1() if method == "lfp" else rewards.SpikeSequence())
        trainer = TemporalTrainer(net, method=way, lr=lr, steps=5 if small else 15, seed=seed)

        def keep_best(row: dict[str, float], trainer: TemporalTrainer = trainer) -> None:
            nonlocal best, highest
            reached = macro_f1(trainer, validation)
            if reached > highest:
                best, highest = copy.deepcopy(trainer), reached

        trainer.fit(train, 2 if small else 12, after_epoch=keep_best)
    if best is None:
        raise RuntimeError("no epoch was trained")
    return [{"score": macro_f1(best, test), "validation": highest}]


def _levenshtein(desk: Desk, method: str, seed: int, small: bool) -> list[Row]:
    """Train on rows of digits; the weights are those with the fewest edits of the validation part."""
    updates, batch, lr = (10 if small else 500), 64, 1e-3
    torch.manual_seed(seed)
    digits = desk.load("digits").with_validation(0.2, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    reward = rewards.Levenshtein(window=STEPS, blank=0)
    if digits.validation is None:
        raise RuntimeError("no validation part was made")
    validation, test = strings(digits.validation, 200, generator), strings(digits.test, 1000, generator)
    net = models.lif_mlp([64, 256, 11])
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=updates)

    def edits(given: tuple[Tensor, Tensor]) -> float:
        with torch.no_grad():
            return float(reward.distance(net(given[0]), given[1]).float().mean())

    start, best, least = edits(test), copy.deepcopy(net.state_dict()), edits(validation)
    with lending(net, rules.Epsilon() if method == "lfp" else rules.Surrogate()):
        for update in range(1, updates + 1):
            inputs, targets = strings(digits.train, batch, generator)
            spikes = net(inputs)
            optimizer.zero_grad()
            if method == "lfp":
                propagate(spikes, reward(spikes, targets) / batch)
            else:
                ctc(spikes, targets).backward()
            optimizer.step()
            schedule.step()
            if update % max(1, updates // 10) == 0:
                reached = edits(validation)
                if reached < least:
                    best, least = copy.deepcopy(net.state_dict()), reached
    net.load_state_dict(best)
    return [{"score": edits(test), "start": start, "validation": least}]


def _outside(desk: Desk, method: str, seed: int, small: bool) -> list[Row]:
    """Train on digits by the answers of an environment, or by their labels."""
    torch.manual_seed(seed)
    splits = desk.load("digits")
    net = models.lif_mlp([64, 128, splits.outputs])
    way: Any = "surrogate"
    if method == "lfp":
        way = methods.LFP(rewards.FromCallback(right_or_wrong))
    trainer = TemporalTrainer(net, method=way, lr=3e-3, steps=5 if small else 15, batch_size=32, seed=seed)
    trainer.fit(splits.train, 3 if small else 20)
    return [{"score": trainer.evaluate(splits.test).accuracy}]
