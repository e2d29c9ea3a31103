"""The folder of a run: what lies where, and what ``config.yaml`` and ``metrics.csv`` hold."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikelfp import plugins
from spikelfp.configuration import by_name
from spikelfp.data import DataSplits
from spikelfp.errors import DataError, RunFolderError, UserError
from spikelfp.files import Kind, check_path, content_of, settle, write_text, yaml_text
from spikelfp.terminal import plain
from spikelfp.training.config import OPTIONS, RunConfig, from_mapping, is_record, read_mapping
from spikelfp.training.schema import check_found
from spikelfp.untrusted import read_csv

FREE = {"data_dir", "device", "workers", "checkpoint_every", "accumulate", "recompute", "cache_dir", "sparse"}
"""Options that may change when a run goes on: they say where and how, not what comes out."""

MOST_EPOCHS = 1 << 31
"""Epochs are numbered below."""

FOUND = ("shape", "classes", "class_names", "outputs", "names", "samples", "woken", "plugins")
"""Entries of ``config.yaml`` beside the options: of the data, and of layers that were woken, and plug-ins."""


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
    if "shape" not in values or not {"classes", "outputs"} & values.keys():
        raise RunFolderError(f"{folder.config} does not say the shape and the classes of the data")
    shape, classes = check_found(folder.config, values)
    return from_mapping(_options(values, folder.config), str(folder.config), recorded=True), shape, classes


def read_options(path: str | Path) -> dict[str, Any]:
    """The options in a YAML file, such as ``config.yaml`` of a run, by the names of the fields of a configuration."""
    return _options(by_name(read_mapping(path), str(path)), path)


def _options(values: dict[str, Any], path: str | Path) -> dict[str, Any]:
    if values.get("plugins"):
        plugins.check(values["plugins"], str(path))
    found = [key for key in FOUND if key in values and (is_record(values) or key not in OPTIONS.named())]
    return {key: value for key, value in values.items() if key not in found}


def check_data(folder: Folder, splits: DataSplits) -> None:
    """Refuse other data than a run was trained on, as far as its ``config.yaml`` tells: outputs would be taken for
    other classes.

    Raises:
        DataError: for samples of another shape, another number of classes, or other names of them.
    """
    values = read_mapping(folder.config)
    shape, what = tuple(values.get("shape") or splits.shape), ""
    names = values.get("class_names") or values.get("names") or splits.names
    if shape != splits.shape:
        what = f"has samples of shape {splits.shape}, expected {shape}"
    elif (there := values.get("classes", values.get("outputs", splits.outputs))) != splits.outputs:
        what = f"has {splits.outputs} {splits.kind}, expected {there}"
    elif len(names) != len(splits.names):
        what = f"has {len(splits.names)} names of {splits.kind}, expected {len(names)}"
    elif tuple(map(str, names)) != tuple(splits.names):
        new, old = next((a, b) for a, b in zip(splits.names, map(str, names), strict=True) if a != b)
        what = f"has the {'class' if splits.kind == 'classes' else 'output'} {new!r} in the place of {old!r}"
    if what:
        raise DataError(
            f"{splits.name} is not the data that {folder.path} was trained on: it {what}; name the folder of that data "
            "with --data-dir"
        )


def samples_of(splits: DataSplits) -> dict[str, str]:
    """Hash the samples of each part, as far as they are known; ``config.yaml`` keeps that."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    known = {name: part.fingerprint() for name, part in parts.items() if part is not None}
    return {name: own for name, own in known.items() if own}


def other_samples(folder: Folder, samples: dict[str, str]) -> str:
    """Say which part of the data has other samples than the run was trained on; empty if none has, or nobody knows.

    Args:
        folder: of the run.
        samples: of the data at hand (:func:`samples_of`).
    """
    kept = read_mapping(folder.config).get("samples")
    kept = kept if isinstance(kept, dict) else {}
    other = [name for name, own in samples.items() if kept.get(name, own) != own]
    names = {"train": "training", "validation": "validation", "test": "test"}
    return (
        f"the {' and '.join(names[name] for name in other)} samples are not those of the run {folder.path}: their "
        "contents, labels or order differ"
        if other
        else ""
    )


def read_metrics(folder: Folder) -> list[dict[str, float]]:
    """The rows of ``metrics.csv``, at least one."""
    if not folder.metrics.is_file():
        raise RunFolderError(f"{folder.path} has no metrics.csv yet: no epoch is finished")
    try:
        rows = read_csv(folder.metrics)
    except DataError as error:
        raise RunFolderError(str(error)) from None
    if not rows:
        raise RunFolderError(f"{folder.metrics} has no rows: no epoch is finished")
    if not all(1 <= row.get("epoch", 0.0) < MOST_EPOCHS and row["epoch"].is_integer() for row in rows):
        raise RunFolderError(f"{folder.metrics} is damaged: a row without the number of its epoch")
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
    check_out(folder, resume, overwrite)
    if resume:
        _check_same(folder, config)
        _check_not_lost(folder)


def check_out(folder: Folder, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that no run can be written to, or none with these options, as far as names tell.

    Raises:
        RunFolderError: with the option that helps.
    """
    if resume and overwrite:
        raise RunFolderError("--resume and --overwrite exclude each other")
    check_path(folder.path)
    settle(folder.path, RUN)
    if resume and folder.last.parent.is_symlink():
        raise RunFolderError(
            f"{folder.last.parent} is a link to {os.readlink(folder.last.parent)}: nothing is written through links "
            "inside a run folder; put the checkpoints back into it, or link the run folder as a whole"
        )
    if not resume and not is_unused(folder):
        if not any(os.path.lexists(folder.path / name) for name in RUN_FILES):
            raise RunFolderError(
                f"{folder.path} holds no run, and files of something else ({plain(content_of(folder.path)[0])}): name "
                "another --out"
            )
        if not overwrite:
            raise RunFolderError(
                f"{folder.path} exists already: go on with --resume, replace it with --overwrite, or name another --out"
            )
        run_files(folder.path, False)


def is_unused(folder: Folder) -> bool:
    """Whether a folder is empty, or holds a run that was ended before its first checkpoint: nothing can be lost."""
    names = set(content_of(folder.path))
    if not names <= {"config.yaml", "checkpoints"}:
        return False
    checkpoints = folder.path / "checkpoints"
    if checkpoints.is_symlink():
        return False
    kept = content_of(checkpoints) if "checkpoints" in names else []
    # initial.pt is written before config.yaml, which alone is somebody's copy of another run's
    return kept == ["initial.pt"] or (not kept and "config.yaml" not in names)


def run_files(path: Path, trusted: bool) -> list[str]:
    """List the files of a run that are in the folder ``path``, ``config.yaml`` last.

    ``trusted`` looks at names alone (:class:`~spikelfp.files.Kind`).

    Raises:
        RunFolderError: for a folder without the configuration of a run, a file in the place of one of a run's that is
            none, and an export that was made of the run, which belongs to it alone.
    """
    found = [name for name in RUN_FILES if os.path.lexists(path / name)]
    if trusted:
        return found
    if "config.yaml" not in found:
        raise RunFolderError(
            f"{path} is no run folder (it has no config.yaml), so it is not overwritten: name another --out"
        )
    for name in reversed(found):
        if not (path / name).is_file() or not _is_runs(path / name):
            why = (
                "its config.yaml is not that of a run" if name == "config.yaml" else f"{name} in it is no file of a run"
            )
            raise RunFolderError(f"{path} is not overwritten: {why}; move it away, or name another --out")
    for export in ("verify.json", *sorted(str(each.relative_to(path)) for each in path.glob("*/manifest.yaml"))):
        if os.path.lexists(path / export):
            raise RunFolderError(
                f"{path} is not overwritten: {export} in it belongs to an export of the run that would go; move it "
                "away, or name another --out"
            )
    return found


def _is_runs(path: Path) -> bool:
    """Whether a file with a name of a run's looks like one by its content."""
    if path.suffix == ".yaml":
        try:
            values = read_mapping(path)
        except UserError:
            return False
        return is_record(values) and {"data", "model", "method"} <= values.keys()
    try:
        with open(path, "rb") as file:
            begin = file.read(1 << 16)
    except OSError:
        return False
    if path.suffix == ".pt":
        return begin.startswith(b"PK\x03\x04")
    if path.suffix == ".csv":
        return b"epoch" in begin.split(b"\n", 1)[0].split(b",")
    if path.suffix == ".json":
        return b'"test_accuracy"' in begin or b'"test_loss"' in begin
    return b"--page: #f4f6f8" in begin


RUN_FILES = (
    "checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/initial.pt", "metrics.csv", "summary.json",
    "report.html", "config.yaml",
)  # fmt: skip
"""Paths of all files of a run, by which it is found last."""

RUN = Kind("run", "checkpoints/last.pt", run_files)


def write_config(
    folder: Folder, config: RunConfig, splits: DataSplits, woken: dict[str, float], samples: dict[str, str]
) -> None:
    """Write ``config.yaml``: the options, and what was found of the data and of layers that were woken."""
    outputs, names = ("classes", "class_names") if splits.kind == "classes" else ("outputs", "names")
    found = {names: list(splits.names)}
    text = config.to_yaml() + f"shape: {list(splits.shape)}\n{outputs}: {splits.outputs}\n"
    text += yaml_text(found, sort_keys=True, default_flow_style=None)
    if samples:
        text += yaml_text({"samples": samples})
    if woken:
        text += yaml_text({"woken": woken})
    needed = plugins.used(OPTIONS.used(config).values())
    if needed:
        text += yaml_text({"plugins": needed})
    write_text(folder.config, text)


def _check_not_lost(folder: Folder) -> None:
    """Refuse to start anew over the results of a run whose last checkpoint somebody has taken away."""
    if folder.last.exists():
        return
    left = [each for each in (folder.best, folder.metrics, folder.summary) if each.exists()]
    if left:
        way = f"copy {folder.best} there to go on from the best epoch" if folder.best in left else "put it back"
        raise RunFolderError(
            f"{folder.last} is missing, and {left[0].name} would be lost in a new start: {way}, replace the run with "
            "--overwrite, or name another --out"
        )


def _check_same(folder: Folder, config: RunConfig) -> None:
    """Refuse to resume a run that was started with other options, but for more epochs."""
    if not folder.config.is_file():
        raise RunFolderError(
            f"nothing to resume: {folder.path} has no config.yaml; start a run without --resume"
            + ("" if is_unused(folder) else ", with another --out")
        )
    before, _, _ = read_config(folder)
    was, now = OPTIONS.values(before), OPTIONS.values(config)
    changed = {
        path: f"{path[-1]} {was.get(path, 'none')} → {now.get(path, 'none')}"
        for path, slot in OPTIONS.slots().items()
        if not (slot.chooser is None and path[-1] in FREE) and was.get(path) != now.get(path)
    }
    if (config.training.epochs or 0) > (before.training.epochs or 0):
        changed.pop(("training", "epochs"), None)  # a run may be extended
    if changed:
        raise RunFolderError(f"{folder.path} was started with other options: {', '.join(changed.values())}")
