"""Size and time of streams of weight updates, compared with dense images: ``python -m benchmarks.updates``.

MNIST, 784-1000-10 LIF neurons, 15 steps, LFP by the paper's rule, one sample at a time, 8 bits, a comparison of the
weights after every step, the base image in the stream. Recordings start from a network trained for one epoch in batches
of 128, and from a new one. Dense means one image of all integers for each step. Without the files of MNIST the digits
of scikit-learn are used. Learning rates are fixed, not searched. Writes ``updates.json`` and ``updates.md``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.epochs import settings_for
from benchmarks.networks import PAPER
from benchmarks.record import arguments, folder_of, save
from benchmarks.tables import rows
from hw_export.updates import inspect
from hw_export.updates.online import record_run
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

STEPS = 1000
RECORDINGS: dict[str, dict[str, Any]] = {
    "trained, SGD 1e-4": {"weights": "last", "optimizer": "sgd", "lr": 1e-4},
    "trained, Adam 3e-5 (default)": {"weights": "last"},
    "new, SGD 1e-3, headroom 4": {"weights": "initial", "optimizer": "sgd", "lr": 1e-3, "headroom": 4.0},
    "new, SGD 3e-3, headroom 4": {"weights": "initial", "optimizer": "sgd", "lr": 3e-3, "headroom": 4.0},
    "new, Adam 1e-4, headroom 4": {"weights": "initial", "lr": 1e-4, "headroom": 4.0},
    "new, Adam 3e-4, headroom 4": {"weights": "initial", "lr": 3e-4, "headroom": 4.0},
    "new, Adam 3e-4": {"weights": "initial", "lr": 3e-4},
}
GOAL = 0.02
"""Largest size of a stream, as a share of the bytes of dense images."""


def measure(settings: dict[str, Any], steps: int) -> dict[str, dict[str, float]]:
    """Make one recording of each kind, from one run."""
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            data=settings["data"], data_dir=settings["data_dir"], hidden=tuple(settings["sizes"][1:-1]),
            steps=settings["steps"], epochs=1, device="cpu", **PAPER,
        )  # fmt: skip
        train(config, Path(folder) / "run", progress=False)
        for name, options in RECORDINGS.items():
            stream = Path(folder) / "stream"
            done = record_run(Path(folder) / "run", stream, steps=steps, device="cpu", overwrite=True, **options)
            summary = inspect(stream)
            table[name] = {
                "before": done["accuracy_before"],
                "after": done["accuracy_after"],
                "integers": done["accuracy_of_integers"],
                "density": summary.density,
                "bytes": summary.bytes,
                "dense": summary.dense_bytes,
                "milliseconds_training": 1e3 * done["seconds_training"] / steps,
                "milliseconds_recording": 1e3 * done["seconds_recording"] / steps,
            }
    return table


def markdown(table: dict[str, dict[str, dict[str, float]]], about: str) -> str:
    """Write a Markdown table for each network."""
    lines = [about, ""]
    for network, recordings in table.items():
        body = [
            [
                name, f"{r['before']:.4f} → {r['after']:.4f}", f"{r['integers']:.4f}", f"{r['density']:.3%}",
                f"{r['bytes'] / r['dense']:.2%}", f"{r['milliseconds_recording'] / r['milliseconds_training']:.2f}",
            ]
            for name, r in recordings.items()
        ]  # fmt: skip
        head = [network, "accuracy", "of the integers", "changed by a step", "stream / dense", "recording / training"]
        lines += rows(head, body)
        small = sum(r["bytes"] <= GOAL * r["dense"] for r in recordings.values())
        lines += [f"{small} of {len(recordings)} streams take at most {GOAL:.0%} of dense images.", ""]
    return "\n".join([*lines, "Test accuracy. The header, with the base image, counts as part of the stream.", ""])


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder that holds mnist/ (default: $SPIKELFP_DATA)")
    options = parser.parse_args(given)
    quick = {"data": "digits", "sizes": [64, 100, 10], "steps": 8, "data_dir": None}
    settings = quick if options.quick else settings_for(options.data_dir)
    steps = 50 if options.quick else STEPS
    network = f"{settings['data']} {'-'.join(map(str, settings['sizes']))}, T {settings['steps']}"
    table = {network: measure(settings, steps)}
    save("updates", f"One run each, {steps} steps of one sample", table, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
