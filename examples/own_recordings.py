"""Train on your own recordings, and export a network that other simulators run spike for spike.

    python examples/own_recordings.py [FOLDER]

FOLDER holds a folder of recordings (.aedat4, .raw, .dat, .npy, ...) for each class. Without one, an event camera that
watches a bar move in four directions is made up, so that there is something to learn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from hw_export.build import build, read_export
from hw_export.verify import verify
from spikelfp.training.config import RunConfig
from spikelfp.training.run import train

SIDE, MS = 20, 1000  # pixels; µs


def record_a_bar(toward: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Make 0.1 s of a bar that moves ``toward`` (x, y): ON events at its front, OFF events at its back, and noise."""
    at, speed = random.uniform(-8, 0), random.uniform(0.2, 0.4)  # pixels, pixels per ms
    events = []
    for ms in range(100):
        for edge, polarity in ((at + speed * ms, 1), (at + speed * ms - 5, 0)):
            along = round(edge) if sum(toward) > 0 else SIDE - 1 - round(edge)
            if not 0 <= along < SIDE:
                continue
            across = random.choice(SIDE, 6, replace=False)
            x, y = (np.full(6, along), across) if toward[0] else (across, np.full(6, along))
            events += [(ms * MS + random.integers(MS), i, j, polarity) for i, j in zip(x, y, strict=True)]
        events.append((ms * MS, random.integers(SIDE), random.integers(SIDE), random.integers(2)))
    fields = [("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)]
    return np.sort(np.array(events, fields), order="t")


def make_recordings(folder: Path, each: int = 60) -> None:
    """Write ``each`` recordings of four classes as ``folder/<class>/<number>.npy``."""
    random = np.random.default_rng(0)
    for name, toward in {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            np.save(folder / name / f"{number:02}.npy", record_a_bar(toward, random))


def main(epochs: int = 12, recordings: str | None = None) -> float:
    """Train, export in 8 bits, compare every spike; return the test accuracy."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if recordings is None:
            recordings = str(folder / "bars")
            make_recordings(Path(recordings))
        config = RunConfig(
            data=f"folder:{recordings}", model="lif-conv", pool="avg", reset="zero", steps=10, epochs=epochs,
            batch_size=16, cache_dir=str(folder / "cache"),
        )  # fmt: skip
        summary = train(config, folder / "run", progress=False, echo=print)
        build(folder / "run", folder / "export", target="nir", bits=8, samples=20)
        _, net, samples = read_export(folder / "export")
        for result in verify(net, folder / "export" / "network.nir", samples.sequence()):
            print(f"{result.simulator:16} {result.status}")
        print(f"test accuracy {summary['test_accuracy']:.3f}")
        return summary["test_accuracy"]


if __name__ == "__main__":
    main(recordings=sys.argv[1] if len(sys.argv) > 1 else None)
