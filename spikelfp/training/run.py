"""A training run in a folder: ``config.yaml``, ``metrics.csv``, ``summary.json``, ``checkpoints/``, ``report.html``."""

from __future__ import annotations

import csv
import io
import json
import platform
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spikelfp import analysis, models
from spikelfp.data import DataSplits, batches
from spikelfp.data import load as load_data
from spikelfp.errors import RunFolderError
from spikelfp.files import write_text
from spikelfp.models import ModelSpec
from spikelfp.training import checkpoint
from spikelfp.training.config import RunConfig, from_mapping, read_mapping
from spikelfp.training.trainer import TemporalTrainer

PACKAGES = ("spikelfp", "torch", "numpy", "snntorch", "nir", "numba", "scikit-learn")
RATE_SAMPLES = 256
"""Test samples over which the spike rates of a summary are taken."""


class Interrupted(Exception):
    """Training was stopped by the user; its state is in the checkpoint."""


@dataclass(frozen=True)
class Folder:
    """Where the parts of a run lie."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def initial(self) -> Path:
        return self.path / "checkpoints" / "initial.pt"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.pt"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True)
class LoadedRun:
    """A finished or stopped run, read back: the network with its weights, and how it was made."""

    folder: Folder
    config: RunConfig
    spec: ModelSpec
    net: torch.nn.Module

    def splits(self) -> DataSplits:
        """The data set of the run."""
        return load_splits(self.config)

    def trainer(self, **options: Any) -> TemporalTrainer:
        """A trainer for the network, with the settings of the run, on whatever device is here."""
        return make_trainer(self.net, replace(self.config, device="auto"), **options)


def load_run(path: str | Path, weights: str = "last", data_dir: str | None = None) -> LoadedRun:
    """Read the run folder at ``path`` with the weights of its ``last`` or ``best`` checkpoint.

    ``data_dir`` overrides the folder of data sets that the run was trained from.
    """
    folder = Folder(Path(path))
    config, shape, classes = read_config(folder)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    spec = config.spec(shape, classes)
    with torch.random.fork_rng(devices=[]):
        net = models.build(spec)
    checkpoint.load_weights(getattr(folder, weights), net)
    return LoadedRun(folder, config, spec, net)


def read_config(folder: Folder) -> tuple[RunConfig, tuple[int, ...], int]:
    """What ``config.yaml`` of a run holds: its options, and the shape and classes of its data."""
    if not folder.config.is_file():
        raise RunFolderError(f"{folder.path} is no run folder: it has no config.yaml")
    values = read_mapping(folder.config)
    try:
        shape, classes = tuple(int(size) for size in values.pop("shape")), int(values.pop("classes"))
    except (KeyError, TypeError, ValueError):
        raise RunFolderError(f"{folder.config} does not say the shape and the classes of the data") from None
    return from_mapping(values, str(folder.config)), shape, classes


def make_trainer(net: torch.nn.Module, config: RunConfig, **options: Any) -> TemporalTrainer:
    """The trainer of a resolved configuration."""
    return TemporalTrainer(
        net,
        steps=config.steps or 1,
        encoding=config.encoding,
        method=config.make_method(),
        optimizer=config.optimizer,
        lr=config.lr or 0.0,
        schedule=config.schedule,
        clip=config.clip,
        batch_size=config.batch_size,
        seed=config.seed,
        device=config.device,
        workers=config.workers,
        **options,
    )


def load_splits(config: RunConfig) -> DataSplits:
    """The data of a configuration, its validation part held out."""
    folder = config.data_dir
    if folder is not None and not Path(folder).is_dir():
        raise RunFolderError(f"the data folder {folder} does not exist; name another with --data-dir")
    splits = load_data(config.data, folder)
    return splits.with_validation(config.validation, config.seed) if config.validation else splits


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    echo: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train as ``config`` says into the folder ``out``; returns what ``summary.json`` holds.

    A folder that exists is refused unless ``resume`` (go on from its last checkpoint, bit for bit) or
    ``overwrite`` is given. ``echo`` gets a line per epoch. Raises :class:`Interrupted` after Ctrl-C, with the
    checkpoint written.
    """
    folder = Folder(Path(out))
    splits = load_splits(config)
    config = config.resolved(len(splits.train))
    _check_folder(folder, config, resume, overwrite)
    torch.manual_seed(config.seed)
    spec = config.spec(splits.shape, splits.classes)
    net = models.build(spec)
    clock = _Clock()
    with _stop_on_interrupt() as stopped:
        trainer = make_trainer(net, config, progress=progress, should_stop=stopped)
        _start_folder(folder, config, splits, overwrite)
        if resume and folder.last.exists():
            trainer.load(folder.last)
            echo(f"resuming after {trainer.position.step} steps (epoch {trainer.position.epoch + 1})")
        else:
            checkpoint.write(folder.initial, {"weights": net.state_dict()})

        def after_epoch(row: dict[str, float]) -> None:
            watched = splits.validation or splits.test
            name = "validation_accuracy" if splits.validation else "test_accuracy"
            row["seconds"] = clock.lap()
            row[name] = trainer.evaluate(watched).accuracy
            clock.lap()
            score = "validation_accuracy" if splits.validation else "train_accuracy"
            if row[score] >= max(past[score] for past in trainer.history):
                trainer.save(folder.best)
            trainer.save(folder.last)
            _write_metrics(folder, trainer.history)
            objective = "  ".join(f"{k} {row[k]:.4f}" for k in ("reward", "reward_magnitude", "loss") if k in row)
            echo(
                f"epoch {int(row['epoch'])}/{config.epochs}  {objective}  train {row['train_accuracy']:.4f}"
                f"  {name.split('_')[0]} {row[name]:.4f}  {row['seconds']:.1f} s"
            )

        def after_step(position: Any) -> None:
            if position.step == 1:
                for name, factor in trainer.woken.items():
                    echo(f"layer {name} left its neurons silent: its initial weights were multiplied by {factor:.2f}")
            if config.checkpoint_every and position.step % config.checkpoint_every == 0:
                trainer.save(folder.last)

        trainer.fit(splits.train, config.epochs or 1, after_epoch=after_epoch, after_step=after_step)
        if stopped() and trainer.position.epoch < (config.epochs or 1):
            trainer.save(folder.last)
            raise Interrupted(f"stopped after {trainer.position.step} steps; go on with --out {folder.path} --resume")
    summary = summarise(trainer, splits, config)
    write_text(folder.summary, json.dumps(summary, indent=2) + "\n")
    return summary


def summarise(trainer: TemporalTrainer, splits: DataSplits, config: RunConfig) -> dict[str, Any]:
    """What ``summary.json`` holds; accuracies are those of the last weights."""
    history = trainer.history
    some, _ = next(iter(batches(splits.test, RATE_SAMPLES, seed=0, epoch=0, shuffle=False)))
    net = trainer.net
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # of a random encoding
        rates = analysis.spike_rates(net, trainer.present(some.to(trainer.device)))
    summary: dict[str, Any] = {
        "data": config.data,
        "model": config.model,
        "method": config.method,
        "rule": config.rule if config.method == "lfp" else None,
        "reward": config.reward if config.method == "lfp" else None,
        "seed": config.seed,
        "epochs": config.epochs,
        "steps": config.steps,
        "test_accuracy": trainer.evaluate(splits.test).accuracy,
        "train_accuracy": history[-1]["train_accuracy"],
        "spike_rates": rates,
        "update_density": history[-1].get("update_density"),
        "seconds_per_epoch": sum(row["seconds"] for row in history) / len(history),
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": str(trainer.device),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    if splits.validation:
        summary["validation_accuracy"] = history[-1]["validation_accuracy"]
    return summary


def peak_memory_mb(device: torch.device) -> float:
    """Most memory this process has held, in MB: on the GPU if that is where it trained, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def read_metrics(folder: Folder) -> list[dict[str, float]]:
    """The rows of ``metrics.csv``, at least one."""
    if not folder.metrics.is_file():
        raise RunFolderError(f"{folder.path} has no metrics.csv yet: no epoch is finished")
    try:
        with open(folder.metrics, newline="") as file:
            rows = [{key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)]
    except (ValueError, TypeError, csv.Error) as error:
        raise RunFolderError(f"{folder.metrics} is damaged: {error}") from None
    if not rows:
        raise RunFolderError(f"{folder.metrics} has no rows: no epoch is finished")
    if not all("epoch" in row for row in rows):
        raise RunFolderError(f"{folder.metrics} is damaged: a row without an epoch")
    return rows


def _check_folder(folder: Folder, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is in use, or was started with another configuration."""
    if resume and overwrite:
        raise RunFolderError("--resume and --overwrite exclude each other")
    if resume:
        _check_same(folder, config)
    elif folder.path.exists() and not (folder.path.is_dir() and not any(folder.path.iterdir())):
        if not overwrite:
            raise RunFolderError(
                f"{folder.path} exists already: go on with --resume, replace it with --overwrite, or name another --out"
            )
        if not folder.config.is_file():
            raise RunFolderError(f"{folder.path} is no run folder (it has no config.yaml), so it is not overwritten")


def _check_same(folder: Folder, config: RunConfig) -> None:
    """Refuse to resume a run that was started with other options."""
    if not folder.config.is_file():
        raise RunFolderError(f"nothing to resume: {folder.path} has no config.yaml")
    before, _, _ = read_config(folder)
    free = {"data_dir", "device", "workers", "checkpoint_every"}
    changed = [
        f"{f.name} {getattr(before, f.name)} → {getattr(config, f.name)}"
        for f in fields(RunConfig)
        if f.name not in free and getattr(before, f.name) != getattr(config, f.name)
    ]
    if changed:
        raise RunFolderError(f"{folder.path} was started with other options: {', '.join(changed)}")


def _start_folder(folder: Folder, config: RunConfig, splits: DataSplits, overwrite: bool) -> None:
    """Make the folder, anew for ``overwrite``, with its ``config.yaml``."""
    if overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    shape = f"shape: {list(splits.shape)}\nclasses: {splits.classes}\n"
    write_text(folder.config, config.to_yaml() + shape)


def _write_metrics(folder: Folder, history: list[dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder.metrics, text.getvalue())


class _Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        since, self._since = self._since, now
        return now - since


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within the block, Ctrl-C asks training to stop after the step at hand; a second one stops at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread: its owner handles signals
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
