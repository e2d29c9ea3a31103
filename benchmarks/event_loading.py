"""Time of loading recordings of events: ``python -m benchmarks.event_loading``.

The training part of N-MNIST (as much of it as the data folder holds), in 20 bins and batches of 32. Measured are:

* reading and binning from the files;
* building the cache, compared with tonic's ``DiskCachedDataset`` with ``ToFrame`` on the same files;
* epochs from the warm cache, five times the recordings long, with the start of worker processes;
* the share of a training loop (LFP, a conv net of 12 and 32 channels) that waits for the loader.

Files stay in the memory of the system. tonic takes part if it is installed.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.networks import PAPER
from benchmarks.record import arguments, folder_of, save
from benchmarks.tables import rows
from benchmarks.turns import medians
from spikelfp import nn, propagate, rewards
from spikelfp.data import batches, load_events
from spikelfp.data.events import Pipeline, Recordings, load_recordings
from spikelfp.data.events.cache.builder import cores, read_all
from spikelfp.errors import DataError

BATCH = 32
REPEAT = 5
"""Times that each recording is in an epoch from the warm cache."""
WORKERS = 2
GOALS = {"warm": 5000.0, "build": 3.0, "waiting": 0.1}
"""Recordings/s from the warm cache; times that tonic takes to build; share of a training loop spent waiting."""

console = Console(stderr=True)
Calls = dict[str, Callable[[], object]]
Result = dict[str, Any]


def unpack(recordings: Recordings, most: int | None, folder: Path) -> int:
    """Write the first ``most`` recordings as N-MNIST files to ``<folder>/nmnist/NMNIST``; return their number.

    A file has five bytes for each event: x, y, then 1 bit polarity and 23 bits time. The test part, which our reader
    needs too, has one recording of each class.
    """
    chosen = range(len(recordings) if most is None else min(most, len(recordings)))
    samples = [recordings.read(number) for number in chosen]
    seen: set[int] = set()
    for number, events in zip(chosen, samples, strict=True):
        content = np.zeros((len(events), 5), np.uint8)
        content[:, 0], content[:, 1] = events["x"], events["y"]
        word = events["p"].astype(np.int64) << 23 | events["t"]
        for place, shift in ((2, 16), (3, 8), (4, 0)):
            content[:, place] = word >> shift & 255
        label = int(recordings.labels[number])
        for part in ("Train",) if label in seen else ("Train", "Test"):
            file = folder / "nmnist" / "NMNIST" / part / str(label) / f"{number:05d}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.tobytes())
        seen.add(label)
    return len(chosen)


class Fresh:
    """Makes a new folder for each build, so that nothing remains of the one before."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0

    def __call__(self) -> Path:
        self.count += 1
        return self.root / str(self.count)


def exhaust(items: Iterable[Any]) -> int:
    """Take all ``items`` and count their samples."""
    return sum(len(labels) for _, labels in items)


def ours_built(data_dir: Path, fresh: Fresh, workers: int) -> object:
    """Build our cache of the training part."""
    from spikelfp.data.events.cache import binned

    place = fresh()
    os.environ["SPIKELFP_CACHE"] = str(place)  # also where facts about files are kept
    parts = load_recordings("nmnist", data_dir)
    return binned(parts.train, parts.pipeline, cache_dir=place, workers=workers)


def tonic_dataset(data_dir: Path, bins: int) -> Dataset[Any] | None:
    """Open tonic's N-MNIST on the same files, as frames; ``None`` where tonic is not installed."""
    try:
        import tonic
    except ImportError:
        return None

    class NMNIST(tonic.datasets.NMNIST):  # type: ignore[misc]
        def _check_exists(self) -> bool:
            return True  # tonic's own check expects all 60,000 files

    to_frame = tonic.transforms.ToFrame(sensor_size=NMNIST.sensor_size, n_time_bins=bins)
    return NMNIST(str(data_dir / "nmnist"), train=True, transform=to_frame)


def tonic_loader(dataset: Dataset[Any], workers: int, shuffle: bool) -> DataLoader[Any]:
    """Make batches ``[T, B, P, H, W]``, as in tonic's guides."""
    import tonic

    pad = tonic.collation.PadTensors(batch_first=False)
    return DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=workers, collate_fn=pad)


def tonic_built(dataset: Dataset[Any], fresh: Fresh, workers: int) -> Dataset[Any]:
    """Build tonic's cache, in a loop or by the worker processes of a loader."""
    import tonic

    cached = tonic.DiskCachedDataset(dataset, str(fresh()))
    if workers == 0:
        for number in range(len(cached)):
            cached[number]
    else:
        exhaust(tonic_loader(cached, workers, shuffle=False))
    return cached


def conv_net(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Make the small net that is trained."""
    _, height, width = shape
    side = [((edge - 4) // 2 - 2) // 2 for edge in (height, width)]
    return nn.Sequential(
        nn.Conv2d(shape[0], 12, 5), nn.AvgPool2d(2), nn.LIF(**PAPER),
        nn.Conv2d(12, 32, 3), nn.AvgPool2d(2), nn.LIF(**PAPER),
        nn.Flatten(), nn.Linear(32 * side[0] * side[1], classes), nn.LIF(**PAPER),
    )  # fmt: skip


def waiting(train: Any, classes: int, workers: int, steps: int) -> Result:
    """Measure median milliseconds of a training step, and of waiting for the next batch."""
    torch.manual_seed(0)
    net = conv_net(train.shape, classes)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    reward = rewards.SpikeSequence()
    waited, worked = [], []
    loader = iter(batches(train, BATCH, seed=0, epoch=0, workers=workers))
    for _ in range(steps):
        start = time.perf_counter()
        sequences, labels = next(loader)
        arrived = time.perf_counter()
        optimizer.zero_grad()
        spikes = net(sequences.values)
        propagate(spikes, reward(spikes, labels))
        optimizer.step()
        waited.append(arrived - start)
        worked.append(time.perf_counter() - arrived)
    # the first ones compile, and wait for the worker processes to begin
    waited, worked = waited[5:], worked[5:]
    return {
        "wait_ms": 1e3 * float(np.median(waited)),
        "step_ms": 1e3 * float(np.median(worked)),
        "share": sum(waited) / (sum(waited) + sum(worked)),
    }


def measure(data_dir: Path | None, quick: bool) -> Result:
    """Run all measurements; times are in ms."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        count = unpack(load_recordings("nmnist", data_dir).train, 60 if quick else None, folder)
        os.environ["SPIKELFP_CACHE"] = str(folder / "ours")
        parts = load_recordings("nmnist", folder)
        splits = load_events("nmnist", folder)
        theirs = tonic_dataset(folder, parts.pipeline.binning.bins or 1)
        rounds = 1 if quick else 9
        result: Result = {"recordings": count, "epoch": count * REPEAT, "tonic": theirs is not None}
        result["direct"] = medians(_direct(parts.train, parts.pipeline), rounds, "reading and binning")
        result["build"] = medians(_builds(folder, theirs), max(1, rounds // 3), "building the cache")
        os.environ["SPIKELFP_CACHE"] = str(folder / "ours")
        result["warm"] = medians(_epochs(splits.train, theirs, folder), max(1, rounds // 3), "from the warm cache")
        long = splits.train.subset(torch.arange(40 * BATCH) % count)
        result["waiting"] = {
            str(workers): waiting(long, splits.classes, workers, 10 if quick else 40) for workers in (0, WORKERS)
        }
        del splits, long
        gc.collect()
    return result


def _direct(recordings: Recordings, pipeline: Pipeline) -> Calls:
    def read(workers: int) -> Callable[[], object]:
        return lambda: sum(1 for _ in read_all(recordings, pipeline, workers))

    return {f"{workers} thread{'s' if workers > 1 else ''}": read(workers) for workers in sorted({1, cores()})}


def _builds(folder: Path, theirs: Dataset[Any] | None) -> Calls:
    fresh = Fresh(folder / "builds")
    calls: Calls = {"spikelfp": lambda: ours_built(folder, fresh, cores())}
    if theirs is not None:
        calls["tonic, a loop"] = lambda: tonic_built(theirs, fresh, 0)
        calls[f"tonic, {WORKERS} worker processes"] = lambda: tonic_built(theirs, fresh, WORKERS)
    return calls


def _epochs(train: Any, theirs: Dataset[Any] | None, folder: Path) -> Calls:
    indices = torch.arange(len(train) * REPEAT) % len(train)
    many = train.subset(indices)
    calls: Calls = {
        f"spikelfp, {workers} workers": lambda workers=workers: exhaust(  # type: ignore[misc]
            batches(many, BATCH, seed=0, epoch=0, workers=workers)
        )
        for workers in (0, WORKERS)
    }
    if theirs is not None:
        cached = Subset(tonic_built(theirs, Fresh(folder / "theirs"), 0), indices.tolist())
        for workers in (0, WORKERS):
            calls[f"tonic, {workers} workers"] = lambda workers=workers: exhaust(  # type: ignore[misc]
                tonic_loader(cached, workers, shuffle=True)
            )
    return calls


def markdown(table: dict[str, Result], about: str) -> str:
    """Write rates, ratios with their goals, and who did not take part."""
    lines = [about, ""]
    for name, result in table.items():
        body = []
        for kind, title, count in (
            ("direct", "read and binned, from files", result["recordings"]),
            ("build", "cache built", result["recordings"]),
            ("warm", "batches from the warm cache", result["epoch"]),
        ):
            body += [[title, who, f"{ms:.0f} ms", f"{1e3 * count / ms:,.0f}"] for who, ms in result[kind].items()]
        lines += rows([name, "", "time", "recordings/s"], body)
        body = [
            [f"{workers} workers", f"{each['step_ms']:.1f} ms", f"{each['wait_ms']:.2f} ms", f"{each['share']:.1%}"]
            for workers, each in result["waiting"].items()
        ]
        lines += rows(["training", "a step", "waiting for its batch", "share of the loop"], body)
        lines += [*_goals(result), ""]
    return "\n".join(lines)


def _goals(result: Result) -> list[str]:
    warm = 1e3 * result["epoch"] / min(ms for who, ms in result["warm"].items() if who.startswith("spikelfp"))
    share = min(each["share"] for each in result["waiting"].values())
    goals = [
        (f"{warm:,.0f} recordings/s from the warm cache", f"≥ {GOALS['warm']:,.0f}", warm >= GOALS["warm"]),
        (f"{share:.1%} of the training loop waiting", f"< {GOALS['waiting']:.0%}", share < GOALS["waiting"]),
    ]
    if result["tonic"]:
        ratio = min(ms for who, ms in result["build"].items() if who.startswith("tonic")) / result["build"]["spikelfp"]
        goals.append((f"tonic takes {ratio:.1f}× our time to build", f"≥ {GOALS['build']:g}×", ratio >= GOALS["build"]))
    lines = [f"* {what} (goal {goal}, {'met' if met else 'not met'})" for what, goal, met in goals]
    return lines if result["tonic"] else [*lines, "* tonic did not run: it is not installed"]


def main(given: list[str] | None = None) -> None:
    """Measure, print, and write the results."""
    parser = arguments(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder that holds nmnist/ (default: $SPIKELFP_DATA)")
    options = parser.parse_args(given)
    before = os.environ.get("SPIKELFP_CACHE")
    try:
        result = measure(options.data_dir, options.quick)
    except DataError as error:
        console.print(f"benchmarks.event_loading needs N-MNIST and is left out: {error}")
        return
    finally:
        os.environ.pop("SPIKELFP_CACHE", None)
        if before is not None:
            os.environ["SPIKELFP_CACHE"] = before
    how = f"N-MNIST, 20 bins, batch {BATCH}; medians in turns"
    name = f"N-MNIST, {result['recordings']:,} recordings"
    save("event_loading", how, {name: result}, markdown, folder=folder_of(options))


if __name__ == "__main__":
    main()
