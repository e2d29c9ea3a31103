"""The folder of a run: what lies where, and what ``config.yaml`` and ``metrics.csv`` hold."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

from spikelfp.data import DataSplits
from spikelfp.errors import RunFolderError
from spikelfp.files import write_text
from spikelfp.training.config import RunConfig
from spikelfp.training.mapping import from_mapping, read_mapping

FREE = {"data_dir", "device", "workers", "checkpoint_every", "accumulate", "recompute", "cache_dir", "sparse"}
"""Options that may change when a run goes on: they say where and how, not what comes out."""


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


def write_metrics(folder: Folder, history: list[dict[str, float]]) -> None:
    """A row an epoch; a value that only some epochs have leaves the others' cells empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder.metrics, text.getvalue())


def check_folder(folder: Folder, config: RunConfig, resume: bool, overwrite: bool) -> None:
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


def start_folder(folder: Folder, config: RunConfig, splits: DataSplits, overwrite: bool) -> None:
    """Make the folder, anew for ``overwrite``, with its ``config.yaml``."""
    if overwrite and folder.path.exists():
        shutil.rmtree(folder.path)
    shape = f"shape: {list(splits.shape)}\nclasses: {splits.classes}\n"
    write_text(folder.config, config.to_yaml() + shape)


def _check_same(folder: Folder, config: RunConfig) -> None:
    """Refuse to resume a run that was started with other options."""
    if not folder.config.is_file():
        raise RunFolderError(f"nothing to resume: {folder.path} has no config.yaml")
    before, _, _ = read_config(folder)
    changed = [
        f"{f.name} {getattr(before, f.name)} → {getattr(config, f.name)}"
        for f in fields(RunConfig)
        if f.name not in FREE and getattr(before, f.name) != getattr(config, f.name)
    ]
    if changed:
        raise RunFolderError(f"{folder.path} was started with other options: {', '.join(changed)}")
