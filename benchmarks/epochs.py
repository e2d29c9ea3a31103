"""Seconds and test accuracy of whole epochs, ours and snnTorch's: ``python -m benchmarks.epochs``.

MNIST, 784-1000-10 LIF neurons, 15 steps, batch 128, three epochs: LFP by :class:`spikelfp.TemporalTrainer` against
surrogate gradients in the training loop of snnTorch's tutorials. Each runs in its own process, one epoch in turns, in
the setting of threads that was fastest in a trial on a small part of the data. Seconds are those of training and
loading, without evaluation. Without the files of MNIST the digits of scikit-learn are used, which say little about
time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import EPOCHS, OURS
from benchmarks.plots import plot_epochs
from benchmarks.process import Process
from benchmarks.record import arguments, folder_of, save
from benchmarks.settings import ROUNDS, Chosen, fastest, settings
from benchmarks.tables import absent, rows, settings_of
from benchmarks.turns import Turns
from spikelfp import data

MNIST = {"data": "mnist", "sizes": [784, 1000, 10], "steps": 15, "batch": 128, "epochs": 3, "seed": 0}
DIGITS = {"data": "digits", "sizes": [64, 1000, 10], "steps": 15, "batch": 128, "epochs": 30, "seed": 0}
GOAL = {"accuracy": 0.98, "seconds": 15.0}
"""Goal for three epochs of MNIST."""
TRIAL = {"samples": 1280, "epochs": ROUNDS + 1}
"""Size of the trial of each setting of threads."""

console = Console(stderr=True)


def settings_for(data_dir: str | None) -> dict[str, Any]:
    """Return the settings for MNIST if its files are there, else, with a message, for the digits."""
    folder = data.data_dir(data_dir)
    stems = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    if all(any((folder / "mnist" / name).exists() for name in (stem, f"{stem}.gz")) for stem in stems):
        return MNIST | {"data_dir": str(folder)}
    console.print(
        f"MNIST is not in {folder / 'mnist'}: taking the 8×8 digits instead. "
        "`spikelfp train --data mnist` downloads it; --data-dir or $SPIKELFP_DATA names another folder"
    )
    return DIGITS | {"data_dir": None}


def started(module: str, training: dict[str, Any]) -> Chosen[Process]:
    """Start the contender's process in its fastest setting."""
    tried = fastest(
        lambda setting: Process("epoch_worker.py", module, training | TRIAL, setting),
        lambda process: [process.ask("epoch")["seconds"]],
        settings(),
    )
    tried.process.close()
    return tried._replace(process=Process("epoch_worker.py", module, training, tried.setting))


def run(training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Measure seconds and test accuracy of each epoch, by contender, and the peak of memory."""
    turns = Turns({name: (lambda module=module: started(module, training)) for name, module in EPOCHS.items()})
    try:
        for epoch in range(training["epochs"]):
            console.print(f"epoch {epoch + 1} of {training['epochs']}")
            for name, answer in turns.each(lambda process: process.ask("epoch")):
                result = turns.results[name]
                result.setdefault("seconds", []).append(answer["seconds"])
                result.setdefault("accuracy", []).append(answer["accuracy"])
                result["peak_mb"] = answer["peak_mb"]
    finally:
        turns.close()
    if "skipped" in turns.results[OURS]:
        raise RuntimeError(f"{OURS} did not run: {turns.results[OURS]['skipped']}")
    return turns.results


def markdown(table: dict[str, dict[str, dict[str, Any]]], about: str) -> str:
    """Write a Markdown table for each network."""
    lines = [about, ""]
    for network, results in table.items():
        ran = {name: result for name, result in results.items() if "seconds" in result}
        ours = sum(ran[OURS]["seconds"])
        head = [network, "training, in all", "each epoch", "test accuracy after each epoch", "memory"]
        body = [
            [
                name,
                f"{sum(r['seconds']):.1f} s" + ("" if name == OURS else f" ({sum(r['seconds']) / ours:.2f}×)"),
                f"{min(r['seconds']):.2f}–{max(r['seconds']):.2f} s",
                ", ".join(f"{accuracy:.4f}" for accuracy in r["accuracy"][-3:]),
                f"{r['peak_mb']:.0f} MB",
            ]
            for name, r in ran.items()
        ]
        lines += rows(head, body)
        if network.startswith("mnist"):
            reached = ran[OURS]["accuracy"][-1]
            met = reached >= GOAL["accuracy"] and ours <= GOAL["seconds"]
            lines += [
                f"Goal: {GOAL['accuracy']} in at most {GOAL['seconds']:g} s of training; "
                f"{reached:.4f} in {ours:.1f} s, {'met' if met else 'not met'}.",
                "",
            ]
    lines += ["In brackets: times ours. Memory: the most the process held, torch and the data included.", ""]
    lines += settings_of(table)
    return "\n".join(lines + absent(table))


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/ (default: $SPIKELFP_DATA)")
    options = parser.parse_args(given)
    training = DIGITS | {"data_dir": None, "epochs": 2} if options.quick else settings_for(options.data_dir)
    network = f"{training['data']} {'-'.join(map(str, training['sizes']))}, T {training['steps']}"
    how = f"{training['epochs']} epochs, batch {training['batch']}, β 0.9; an epoch in turns"
    save("epochs", how, {network: run(training)}, markdown, plot_epochs, folder=folder_of(options))


if __name__ == "__main__":
    main()
