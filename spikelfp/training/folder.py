"""The folder of a run: what lies where, and what ``config.yaml`` and ``metrics.csv`` hold."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from spikelfp.data import DataSplits
from spikelfp.errors import DataError, RunFolderError
from spikelfp.files import write_text
from spikelfp.training.config import RunConfig
from spikelfp.training.mapping import from_mapping, read_mapping

FREE = {"data_dir", "device", "workers", "checkpoint_every", "accumulate", "recompute", "cache_dir", "sparse"}
"""Options that may change when a run goes on: they say where and how, not what comes out."""

FOUND = ("shape", "classes", "class_names", "woken")
"""Entries of ``config.yaml`` beside the options: of the data, and of layers that were woken."""


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
    return from_mapping(_options(values), str(folder.config), recorded=True), shape, classes


def read_options(path: str | Path) -> dict[str, Any]:
    """The options in a YAML file, such as ``config.yaml`` of a run, by the names of the fields of a configuration."""
    return _options({str(key).replace("-", "_"): value for key, value in read_mapping(path).items()})


def _options(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in FOUND}


def check_data(folder: Folder, splits: DataSplits) -> None:
    """Refuse other data than a run was trained on, as far as its ``config.yaml`` tells: outputs would be taken for
    other classes.

    Raises:
        DataError: for samples of another shape, another number of classes, or other names of them.
    """
    values = read_mapping(folder.config)
    shape, names = tuple(values.get("shape") or splits.shape), values.get("class_names") or splits.class_names
    what = ""
    if shape != splits.shape:
        what = f"has samples of shape {splits.shape}, expected {shape}"
    elif values.get("classes", splits.classes) != splits.classes:
        what = f"has {splits.classes} classes, expected {values['classes']}"
    elif tuple(map(str, names)) != tuple(splits.class_names):
        new, old = next((a, b) for a, b in zip(splits.class_names, map(str, names), strict=True) if a != b)
        what = f"has the class {new!r} in the place of {old!r}"
    if what:
        raise DataError(
            f"{splits.name} is not the data that {folder.path} was trained on: it {what}; name the folder of that data "
            "with --data-dir"
        )


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
    names = yaml.safe_dump({"class_names": list(splits.class_names)}, allow_unicode=True, default_flow_style=None)
    write_text(folder.config, config.to_yaml() + shape + names)


def _check_same(folder: Folder, config: RunConfig) -> None:
    """Refuse to resume a run that was started with other options, but for more epochs."""
    if not folder.config.is_file():
        raise RunFolderError(f"nothing to resume: {folder.path} has no config.yaml")
    before, _, _ = read_config(folder)
    changed = {
        f.name: f"{f.name} {getattr(before, f.name)} → {getattr(config, f.name)}"
        for f in fields(RunConfig)
        if f.name not in FREE and getattr(before, f.name) != getattr(config, f.name)
    }
    if (config.epochs or 0) > (before.epochs or 0):
        changed.pop("epochs", None)  # a run may be extended
    if changed:
        raise RunFolderError(f"{folder.path} was started with other options: {', '.join(changed.values())}")
