"""Accuracy with weights of a few bits, quantised after and while training: ``python -m benchmarks.quantization``.

MNIST, 784-1000-10 LIF neurons, 15 steps, batch 128, three epochs, LFP by the paper's rule, else the defaults of
``spikelfp train``. All quantise alike (:class:`spikelfp.quantized.WeightGrids`): one scale a layer of least squared
error, whole thresholds and biases.

* after training: a network trained in floats by LFP, its weights then put on grids;
* LFP, masters: LFP with quantised weights in every forward pass, updates to float masters;
* LFP, stochastic: the same without float weights, updates rounded onto the grid by chance;
* straight-through: surrogate gradients (:data:`benchmarks.networks.TUNED`) through the same forward pass, with float
  masters.

Options are those of training in floats, and nothing was chosen on the test set, which gives the accuracies. Without
MNIST's files the digits that come with scikit-learn are taken. Writes ``quantization.json`` and ``.md``; ways that
``--ways`` leaves out keep the numbers that the file has.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.epochs import settings_for
from benchmarks.networks import PAPER, TUNED
from benchmarks.record import arguments, folder_of, save
from benchmarks.tables import rows
from spikelfp import data
from spikelfp.quantized import Quantization, WeightGrids
from spikelfp.training.conditions import FLOAT
from spikelfp.training.config import RunConfig
from spikelfp.training.run import make_evaluator, make_trainer

BITS = (8, 4, 2)
AFTER, MASTERS, STRAIGHT = "LFP, quantised after training", "LFP, masters", "surrogate, straight-through"
IN_FLOATS: dict[str, dict[str, Any]] = {AFTER: {"method": "lfp"} | PAPER, STRAIGHT: TUNED}
"""Ways whose networks are trained in floats, too."""
TRAINED: dict[str, dict[str, Any]] = {
    MASTERS: {"method": "lfp", "weight_update": "masters"} | PAPER,
    "LFP, stochastic": {"method": "lfp", "weight_update": "stochastic"} | PAPER,
    STRAIGHT: TUNED | {"weight_update": "masters"},
}
WAYS = tuple(dict.fromkeys([*IN_FLOATS, *TRAINED]))
GOALS = {4: 0.005, 2: 0.008}
"""Largest accepted distance of "LFP, masters" below LFP in floats on MNIST, by bits."""

Accuracies = dict[str, dict[str, list[float]]]
"""Test accuracies by way of training and bits, one for each seed."""

console = Console(stderr=True)


def config_of(settings: dict[str, Any], seed: int, **options: Any) -> RunConfig:
    """Configure a run on the data of ``settings``, with the defaults of ``spikelfp train``."""
    hidden = tuple(settings["sizes"][1:-1])
    return RunConfig(
        data=settings["data"], hidden=hidden, steps=settings["steps"], epochs=settings["epochs"], seed=seed,
        batch_size=settings["batch"], device="cpu", **options,
    )  # fmt: skip


def trained(config: RunConfig, splits: data.DataSplits) -> tuple[torch.nn.Module, float]:
    """Train a network; return it and its test accuracy."""
    config = config.resolved(len(splits.train))
    torch.manual_seed(config.run.seed)
    trainer = make_trainer(config.build(splits.shape, splits.classes), config)
    trainer.fit(splits.train, config.training.epochs or 1)
    return trainer.net, trainer.evaluate(splits.test).accuracy


def quantised_after(net: torch.nn.Module, bits: int, config: RunConfig, splits: data.DataSplits) -> float:
    """Measure the test accuracy of a copy of ``net`` with quantised weights."""
    twin = copy.deepcopy(net)
    WeightGrids(twin, Quantization(bits))
    return make_evaluator(twin, config.resolved(len(splits.train))).evaluate(splits.test).accuracy


def measure(
    settings: dict[str, Any], seeds: int, bits: tuple[int, ...] = BITS, ways: tuple[str, ...] = WAYS
) -> Accuracies:
    """Measure test accuracies for each of these ways of training, number of bits and seed."""
    splits = data.load(settings["data"], settings["data_dir"])
    table: Accuracies = {}

    def note(way: str, width: int, seed: int, accuracy: float, since: float) -> None:
        table.setdefault(way, {}).setdefault(str(width), []).append(accuracy)
        console.print(f"seed {seed}  {way}, {width} bits: {accuracy:.4f}  ({time.perf_counter() - since:.0f} s)")

    for seed in range(seeds):
        for way in (way for way in IN_FLOATS if way in ways):
            start = time.perf_counter()
            config = config_of(settings, seed, **IN_FLOATS[way])
            net, accuracy = trained(config, splits)
            note(way, FLOAT, seed, accuracy, start)
            if way == AFTER:
                for width in bits:
                    note(way, width, seed, quantised_after(net, width, config, splits), start)
        for way in (way for way in TRAINED if way in ways):
            for width in bits:
                start = time.perf_counter()
                _, accuracy = trained(config_of(settings, seed, weight_bits=width, **TRAINED[way]), splits)
                note(way, width, seed, accuracy, start)
    return table


def markdown(table: dict[str, Accuracies], about: str) -> str:
    """Write mean accuracies, lowest and highest in brackets, in a table for each network."""
    lines = [about, ""]
    for network, ways in table.items():
        widths = list(dict.fromkeys(width for found in ways.values() for width in found))
        names = ["floats" if width == str(FLOAT) else f"{width} bits" for width in widths]
        names = [f"{name} (ternary)" if name == "2 bits" else name for name in names]
        body = [[way, *(_cell(found.get(width)) for width in widths)] for way, found in ways.items()]
        lines += rows([network, *names], body)
        if network.startswith("mnist"):
            lines += [_goals(ways), ""]
    lines += ["Test accuracy; in brackets the least and the largest over the seeds.", ""]
    return "\n".join(lines)


def _cell(accuracies: list[float] | None) -> str:
    if accuracies is None:
        return "–"
    mean = f"{statistics.mean(accuracies):.4f}"
    return mean if len(accuracies) == 1 else f"{mean} ({min(accuracies):.4f}–{max(accuracies):.4f})"


def _goals(ways: Accuracies) -> str:
    floats = statistics.mean(ways[AFTER][str(FLOAT)])
    said = []
    for width, most in GOALS.items():
        below = floats - statistics.mean(ways[MASTERS][str(width)])
        met = "met" if below <= most else "not met"
        said.append(f"{100 * below:.2f} points below floats with {width} bits (goal at most {100 * most:.1f}, {met})")
    return "LFP with masters: " + "; ".join(said) + "."


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/ (default: $SPIKELFP_DATA)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default 3)")
    parser.add_argument("--ways", action="append", choices=WAYS, help="this way alone; may be repeated")
    options = parser.parse_args(given)
    quick = {"data": "digits", "sizes": [64, 100, 10], "steps": 8, "batch": 128, "epochs": 2, "data_dir": None}
    settings = quick if options.quick else settings_for(options.data_dir)
    seeds = 1 if options.quick else options.seeds
    network = f"{settings['data']} {'-'.join(map(str, settings['sizes']))}, T {settings['steps']}"
    how = f"Test accuracy after {settings['epochs']} epochs, batch {settings['batch']}, {seeds} seeds"
    path = folder_of(options) / "quantization.json"
    held = json.loads(path.read_text())["networks"].get(network, {}) if options.ways and path.exists() else {}
    found = held | measure(settings, seeds, ways=tuple(options.ways or WAYS))
    table = {network: {way: found[way] for way in WAYS if way in found}}
    save("quantization", how, table, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
