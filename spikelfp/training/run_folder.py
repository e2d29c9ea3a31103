"""RunFolder of a run: its files, the content of ``config.yaml`` and ``metrics.csv``, and that of ``summary.json``."""

from __future__ import annotations

import csv
import io
import math
import os
import platform
import resource
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spikelfp import analysis, plugins
from spikelfp.configuration import by_name
from spikelfp.data import DataSplits, batches
from spikelfp.data.loader import mask_of
from spikelfp.data.samples import representative
from spikelfp.errors import DataError, RunFolderError, UserError
from spikelfp.files import Kind, check_path, content_of, settle, write_text, yaml_text
from spikelfp.methods import methods
from spikelfp.methods.base import within_chunk
from spikelfp.terminal import plain
from spikelfp.training.conditions import REWARDED, RULED
from spikelfp.training.config import OPTIONS, RunConfig, from_mapping, is_record, read_mapping
from spikelfp.training.trainer import TemporalTrainer
from spikelfp.untrusted import read_csv
from spikelfp.untrusted.text import Field

FREE = {"data_dir", "device", "workers", "checkpoint_every", "accumulate", "recompute", "cache_dir", "sparse"}
"""Options that may change when a run goes on: they say where and how, not what comes out."""

_MOST_ELEMENTS, _MOST_CLASSES = 1 << 26, 1 << 20  # of a sample
_MOST_AXES = 8

MOST_EPOCHS = 1 << 31
"""Epochs are numbered below."""

FOUND = ("shape", "classes", "class_names", "outputs", "names", "samples", "woken", "started", "plugins")
"""Entries of ``config.yaml`` beside the options: of the data, of layers that were woken, of weights that the run was
started from, and plug-ins."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run."""

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


def read_config(folder: RunFolder) -> tuple[RunConfig, tuple[int, ...], int]:
    """Read ``config.yaml`` of a run.

    Returns:
        Its options, the shape of a sample, and the number of classes or other outputs.

    Raises:
        RunFolderError: for a file that is missing or damaged, naming the first fault.
    """
    if not folder.config.is_file():
        raise RunFolderError(f"{folder.path} is no run folder: it has no config.yaml")
    values = read_mapping(folder.config)
    if "shape" not in values or not {"classes", "outputs"} & values.keys():
        raise RunFolderError(f"{folder.config} does not say the shape and the classes of the data")
    shape, classes = check_found(folder.config, values)
    return from_mapping(_options(values, folder.config), str(folder.config), recorded=True), shape, classes


def check_found(path: str | Path, values: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Read the properties of the data from ``config.yaml`` of a run, and check the factors of layers that were woken.

    Args:
        path: path of the file, named in errors.
        values: its values.

    Returns:
        Shape of a sample, and number of classes or other outputs.

    Raises:
        RunFolderError: naming the first value that is wrong.
    """
    found = Field(path, "", values, RunFolderError)
    outputs = "classes" if "classes" in values else "outputs"
    found.mapping(("shape", outputs))
    axes = found.at("shape").sequence()
    if not 1 <= len(axes) <= _MOST_AXES:
        found.at("shape").refuse(f"a list of 1 to {_MOST_AXES} sizes")
    shape = tuple(each.whole(1, _MOST_ELEMENTS) for each in axes)
    if not 1 <= math.prod(shape) <= _MOST_ELEMENTS:
        found.at("shape").refuse(f"a sample of at most {_MOST_ELEMENTS} elements")
    if values.get("woken") is not None:
        for _, factor in found.at("woken").items():
            factor.number(5e-324)
    for names in ("class_names", "names"):
        for name in found.at(names).sequence() if values.get(names) is not None else ():
            if not isinstance(name.value, str | int | float):
                name.refuse("text")
    if values.get("samples") is not None:
        for _, each in found.at("samples").items():
            each.text()
    if values.get("started") is not None:
        Started.read(found.at("started"))
    return shape, found.at(outputs).whole(1, _MOST_CLASSES)


@dataclass(frozen=True)
class Started:
    """Weights that a run was started from.

    Attributes:
        name: name of the file or run folder.
        sha256: hash of the weights (:class:`~spikelfp.training.weights.GivenWeights`).
        notes: lines about what is not as in the file, such as a last layer that keeps its random start.
    """

    name: str
    sha256: str
    notes: list[str]

    @classmethod
    def read(cls, field: Field) -> Started:
        """Read the entry ``started`` of ``config.yaml``.

        Raises:
            RunFolderError: naming the first value that is wrong.
        """
        names = ("name", "sha256", "notes")
        field.mapping(names, names)
        notes = [each.text() for each in field.at("notes").sequence()]
        return cls(field.at("name").text(), field.at("sha256").text(), notes)


def read_started(folder: RunFolder) -> Started | None:
    """Read what a run was started from; ``None`` for weights that were drawn."""
    value = read_mapping(folder.config).get("started")
    return None if value is None else Started.read(Field(folder.config, "started", value, RunFolderError))


def read_options(path: str | Path) -> dict[str, Any]:
    """Read the options in a YAML file, such as ``config.yaml`` of a run, by the names of a configuration's fields."""
    return _options(by_name(read_mapping(path), str(path)), path)


def _options(values: dict[str, Any], path: str | Path) -> dict[str, Any]:
    if values.get("plugins"):
        plugins.check(values["plugins"], str(path))
    found = [key for key in FOUND if key in values and (is_record(values) or key not in OPTIONS.named())]
    return {key: value for key, value in values.items() if key not in found}


def check_data(folder: RunFolder, splits: DataSplits) -> None:
    """Refuse data whose classes differ from the classes that ``config.yaml`` of the run names.

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
    """Hash the samples of each part, as far as they are known, for ``config.yaml``."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    known = {name: part.fingerprint() for name, part in parts.items() if part is not None}
    return {name: own for name, own in known.items() if own}


def other_samples(folder: RunFolder, samples: dict[str, str]) -> str:
    """Name the part of the data that has other samples than the run was trained on; empty if none has.

    Args:
        folder: folder of the run; parts whose samples it does not know are passed over.
        samples: hashes of the present data (:func:`samples_of`).
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


def read_metrics(folder: RunFolder) -> list[dict[str, float]]:
    """Read the rows of ``metrics.csv``, at least one."""
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


def write_metrics(folder: RunFolder, history: list[dict[str, float]]) -> None:
    """Write a row an epoch; a value that only some epochs have leaves the cells of the others empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder.metrics, text.getvalue())


def check_folder(folder: RunFolder, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that is in use, or was started with another configuration."""
    check_out(folder, resume, overwrite)
    if resume:
        _check_same(folder, config)
        _check_not_lost(folder)


def check_out(folder: RunFolder, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that no run can be written to, or none with these options, as far as file names tell.

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


def is_unused(folder: RunFolder) -> bool:
    """Whether a folder is empty, or holds a run that ended before its first checkpoint, so that nothing can be lost."""
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

    Args:
        path: the folder.
        trusted: whether names alone are looked at (:class:`~spikelfp.files.Kind`).

    Raises:
        RunFolderError: for a folder without the configuration of a run, a file with the name of one of a run's and
            another content, and an export of the run, which would be lost.
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
    """Whether a file with the name of a run's file also has the content of one."""
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
"""Paths of all files of a run; the last one tells that a folder is a run's."""

RUN = Kind("run", "checkpoints/last.pt", run_files)


def write_config(
    folder: RunFolder,
    config: RunConfig,
    splits: DataSplits,
    woken: dict[str, float],
    samples: dict[str, str],
    started: Started | None = None,
) -> None:
    """Write ``config.yaml``: the options, properties of the data, layers that were woken, and what it started from."""
    outputs, names = ("classes", "class_names") if splits.kind == "classes" else ("outputs", "names")
    found = {names: list(splits.names)}
    text = config.to_yaml() + f"shape: {list(splits.shape)}\n{outputs}: {splits.outputs}\n"
    text += yaml_text(found, sort_keys=True, default_flow_style=None)
    if samples:
        text += yaml_text({"samples": samples})
    if woken:
        text += yaml_text({"woken": woken})
    if started is not None:
        text += yaml_text({"started": asdict(started)})
    needed = plugins.used(OPTIONS.used(config).values())
    if needed:
        text += yaml_text({"plugins": needed})
    write_text(folder.config, text)


def _check_not_lost(folder: RunFolder) -> None:
    """Refuse to start anew over the results of a run whose last checkpoint is missing."""
    if folder.last.exists():
        return
    left = [each for each in (folder.best, folder.metrics, folder.summary) if each.exists()]
    if left:
        way = f"copy {folder.best} there to go on from the best epoch" if folder.best in left else "put it back"
        raise RunFolderError(
            f"{folder.last} is missing, and {left[0].name} would be lost in a new start: {way}, replace the run with "
            "--overwrite, or name another --out"
        )


def _check_same(folder: RunFolder, config: RunConfig) -> None:
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


PACKAGES = ("spikelfp", "torch", "numpy", "snntorch", "nir", "numba", "scikit-learn")
RATE_SAMPLES = 256
"""Test samples over which the spike rates of a summary are taken."""


def summarise(
    trainer: TemporalTrainer, splits: DataSplits, config: RunConfig, started: Started | None = None
) -> dict[str, Any]:
    """Sum up a run: scores of the last weights, rates, costs and versions; time and memory are those of this worker.

    Args:
        trainer: the trainer, at the end.
        splits: the data.
        config: options of the run.
        started: weights that it was started from, if it was.

    Returns:
        Content of ``summary.json``. It has ``test_accuracy`` where samples have classes, ``rmse`` (in the units of the
        data) for real values. ``wake`` holds the layers whose initial weights were scaled up, each with its factor;
        ``None`` for ``--no-wake``.
    """
    history = trainer.history
    net = trainer.net
    times = [row["seconds"] for row in history if "seconds" in row]
    task, tested = trainer.task, trainer.evaluate(splits.test)
    summary: dict[str, Any] = {
        "data": config.data.name,
        "model": config.model.name,
        "method": config.method.name,
        "rule": config.method.rule.name if RULED.holds(config.flat) else None,
        "reward": config.method.reward.name if REWARDED.holds(config.flat) else None,
        "credit": (config.method.credit or "scan") if RULED.holds(config.flat) else config.method.credit,
        "feedback": config.method.options.get("feedback_init", methods.fact(config.method.name, "feedback_weights")),
        "seed": config.run.seed,
        "epochs": config.training.epochs,
        "steps": config.data.steps,
        "task": task.name,
        **({"test_accuracy": tested.accuracy} if task.has_classes else tested.metrics),
        "score": {"name": task.score, "value": tested.score},
        "test_loss": tested.loss,
        f"train_{task.score}": history[-1][f"train_{task.score}"],
        **({} if started is None else {"started": asdict(started)}),
        "wake": trainer.woken if config.method.wake else None,
        "spike_rates": spike_rates(trainer, splits, config.run.seed),
        "update_density": history[-1].get("update_density"),
        "seconds": sum(times) if times else None,
        "seconds_per_epoch": _mean(times),
        "peak_memory_mb": peak_memory_mb(trainer.device),
        "parameters": sum(p.numel() for p in net.parameters()),
        "device": str(trainer.device),
        "processes": trainer.world.size,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    if splits.validation:
        for name in (f"validation_{task.score}", "validation_loss"):
            if name in history[-1]:
                summary[name] = history[-1][name]
    return summary


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def spike_rates(trainer: TemporalTrainer, splits: DataSplits, seed: int) -> dict[str, float]:
    """Measure the spikes per neuron and step of each layer over a few test samples, without the padding of sequences.

    They run in batches of training, or as many of each as have the steps of one chunk: it takes no more memory.
    """
    chosen = splits.test.subset(representative(splits.test, RATE_SAMPLES))
    spikes, places = defaultdict[str, float](float), defaultdict[str, int](int)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of a random encoding
        for x, _ in batches(chosen, trainer.batch_size, seed=0, epoch=0, shuffle=False):
            shown = x.to(trainer.device)
            sequence, mask = within_chunk(trainer.present(shown), mask_of(shown), trainer.read_chunk)
            for name, own in analysis.record(trainer.net, sequence).items():
                counting = own if mask is None else own[mask]
                spikes[name] += counting.sum(dtype=torch.float64).item()
                places[name] += counting.numel()
    return {name: count / places[name] for name, count in spikes.items()}


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory that this process has held, in MB: on the GPU if it trained there, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
