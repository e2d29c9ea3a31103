"""What a report is made of: everything read from the run folder, and what the trained network does on test data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikelfp import analysis, models
from spikelfp.data import DataSplits, batches
from spikelfp.errors import CheckpointError, DataError, RunFolderError, UserError
from spikelfp.training import TemporalTrainer, checkpoint
from spikelfp.training.config import RunConfig
from spikelfp.training.run import RATE_SAMPLES, Folder, load_splits, make_trainer, read_config, read_metrics

Array = NDArray[Any]

SECONDS_FOR_RATES, SECONDS_FOR_ERRORS = 2.5, 5.0
"""Time after which spike rates and errors make do with the test samples seen so far."""

RATE_BATCH = 32
"""Samples whose spikes are held in memory at once."""

WRONG = 9
"""Misread test samples that are shown."""


@dataclass(frozen=True)
class Activity:
    """The spikes of one layer: ``spikes`` ``[T, N]`` for the sample, ``rates`` ``[N]`` per step over many samples.

    ``own`` and ``other``, of an output layer only: rate of each class for its own samples and for the others.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    spikes: Array
    rates: Array
    own: Array | None = None
    other: Array | None = None

    @property
    def silent(self) -> float:
        """Share of neurons that never spike."""
        return float((self.rates == 0).mean())


@dataclass(frozen=True)
class Sample:
    """One test sample: ``image`` as stored, ``inputs`` ``[T, N]`` if it was shown as spikes, ``outputs`` ``[T, C]``."""

    image: Array
    inputs: Array | None
    outputs: Array
    label: int

    @property
    def predicted(self) -> int:
        return int(self.outputs.sum(0).argmax())


@dataclass(frozen=True)
class Weights:
    """The weights of one layer before (if known) and after training."""

    title: str
    kind: str
    before: Array | None
    after: Array


@dataclass(frozen=True)
class Errors:
    """Test samples by true (row) and predicted class, and those most confidently misread.

    ``wrong`` holds ``(image, label, predicted, gap)``: by how much the predicted class was ahead of the right one.
    """

    confusion: Array
    samples: int
    total: int
    wrong: list[tuple[Array, int, int, float]]


@dataclass
class Facts:
    """All that the page shows. What is missing is ``None`` or empty, and ``notes`` say why."""

    folder: Folder
    config: RunConfig
    shape: tuple[int, ...]
    classes: int
    metrics: list[dict[str, float]]
    summary: dict[str, Any] | None
    verified: list[dict[str, Any]]
    parameters: int
    class_names: tuple[str, ...]
    test_samples: int | None = None
    sample: Sample | None = None
    activity: list[Activity] = field(default_factory=list)
    rate_samples: int = 0
    weights: list[Weights] = field(default_factory=list)
    errors: Errors | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def spiking(self) -> bool:
        return models.is_spiking(self.config.model)

    @property
    def output_spikes(self) -> bool:
        """Whether the last of the spiking layers is the output."""
        return bool(self.activity) and self.activity[-1].own is not None

    @property
    def mean_rate(self) -> float | None:
        """Spikes per neuron and step, over all neurons: the rates of the summary weighted by the layers' sizes."""
        if not self.activity:
            return None
        known = (self.summary or {}).get("spike_rates") or {}
        rates = [known.get(layer.name, float(layer.rates.mean())) for layer in self.activity]
        return float(np.average(rates, weights=[layer.rates.size for layer in self.activity]))


def _newest_verification(folder: Folder) -> Path:
    """What ``hw-export verify`` found, in the run folder or in an export inside it."""
    found = [*folder.path.glob("verify.json"), *folder.path.glob("*/verify.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=folder.path / "verify.json")


def gather(run: str | Path, data_dir: str | None = None) -> Facts:
    """Read the run and look at what its network does; see :func:`spikelfp.report.write_report` for errors."""
    folder = Folder(Path(run))
    config, shape, classes = read_config(folder)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    metrics = read_metrics(folder)
    summary, verified = _read_json(folder.summary, dict), _read_json(_newest_verification(folder), list)
    with torch.random.fork_rng(devices=[]):
        net = config.build(shape, classes)
    facts = Facts(
        folder=folder,
        config=config,
        shape=shape,
        classes=classes,
        metrics=metrics,
        summary=summary,
        verified=[entry for entry in verified or [] if isinstance(entry, dict)],
        parameters=sum(p.numel() for p in net.parameters()),
        class_names=tuple(str(label) for label in range(classes)),
    )
    try:
        content = checkpoint.read(folder.last)
        checkpoint.load_weights(folder.last, net, content)
    except CheckpointError as error:
        facts.notes.append(f"No spikes, weights and errors are shown: {_without_folder(error, folder)}.")
        return facts
    position = content.get("position") or {}
    if summary is None and position.get("batch"):
        facts.notes.append(
            f"Training was stopped within epoch {position['epoch'] + 1}: spikes, weights and errors are those "
            f"of the checkpoint written then, after {position['step']:,} updates."
        )
    facts.weights = _weights(net, folder)
    try:
        splits = load_splits(config)
        if (splits.shape, splits.classes) != (shape, classes):
            raise DataError(
                f"{config.data} now has samples of shape {splits.shape} in {splits.classes} classes, "
                f"{folder.path} was trained on {shape} in {classes}"
            )
    except UserError:
        if data_dir is not None:
            raise
        facts.notes.append(
            f"No test samples are shown: the data set {config.data} that the run was trained on was not found. "
            "Write the report again with --data-dir to say where it is."
        )
        return facts
    _look(facts, net, splits)
    return facts


def _look(facts: Facts, net: torch.nn.Module, splits: DataSplits) -> None:
    """Show the network test samples."""
    trainer = make_trainer(net, replace(facts.config, device="auto"))
    facts.class_names, facts.test_samples = splits.class_names, len(splits.test)
    with _evaluating(trainer):
        facts.sample, spikes, is_output = _sample(trainer, splits)
        facts.activity, facts.rate_samples = _activity(trainer, splits, spikes, is_output)
    with _evaluating(trainer):
        facts.errors = _errors(trainer, splits)


def _sample(trainer: TemporalTrainer, splits: DataSplits) -> tuple[Sample, dict[str, Array], bool]:
    """The first test sample, the spikes of every layer for it, and whether those of the last are the outputs."""
    image, label = splits.test[0]
    shown = trainer.present(image.unsqueeze(0).to(trainer.device))
    outputs = trainer.net(shown)
    recorded = analysis.record(trainer.net, shown)
    last = list(recorded.values())[-1] if recorded else None
    is_output = last is not None and last.shape == outputs.shape and bool(torch.equal(last, outputs))
    return (
        Sample(image.numpy(), _input_spikes(shown), outputs[:, 0].cpu().numpy(), int(label)),
        {name: spikes[:, 0].flatten(1).cpu().numpy() for name, spikes in recorded.items()},
        is_output,
    )


def _input_spikes(shown: torch.Tensor) -> Array | None:
    """``[T, N]`` when the input changes over time and is made of spikes."""
    if len(shown) < 2 or bool((shown == shown[:1]).all()) or not bool(((shown == 0) | (shown == 1)).all()):
        return None
    return shown[:, 0].flatten(1).cpu().numpy()


def _activity(
    trainer: TemporalTrainer, splits: DataSplits, spikes: dict[str, Array], is_output: bool
) -> tuple[list[Activity], int]:
    """Spike rates over the first test samples, at most those of the summary."""
    if not spikes:
        return [], 0
    started, seen = time.perf_counter(), 0
    sums: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    labels_seen, counts = [], []
    some = splits.test.subset(torch.arange(min(RATE_SAMPLES, len(splits.test))))
    for x, labels in batches(some, RATE_BATCH, seed=0, epoch=0, shuffle=False):
        recorded = analysis.record(trainer.net, trainer.present(x.to(trainer.device)))
        for name, layer in recorded.items():
            shapes[name] = tuple(layer.shape[2:])
            sums[name] = sums.get(name, 0) + layer.mean(0).sum(0).flatten().cpu().double().numpy()
        counts.append(list(recorded.values())[-1].mean(0).cpu().double().flatten(1).numpy())
        labels_seen.append(labels.numpy())
        seen += len(labels)
        if time.perf_counter() - started > SECONDS_FOR_RATES:
            break
    layers = []
    for index, (name, total) in enumerate(sums.items()):
        output = is_output and index == len(sums) - 1
        own, other = _by_class(np.concatenate(counts), np.concatenate(labels_seen)) if output else (None, None)
        title = "Output layer" if output else f"Hidden layer {index + 1}"
        layers.append(Activity(name, title, shapes[name], spikes[name], total / seen, own, other))
    return layers, seen


def _by_class(rates: Array, labels: Array) -> tuple[Array, Array]:
    """Mean rate ``[C]`` of each output for samples of its class, NaN if there are none, and for the others."""
    mine = labels[:, None] == np.arange(rates.shape[1])
    own, other = (
        np.where(mask, rates, 0).sum(0) / np.where(mask.any(0), mask.sum(0), np.nan) for mask in (mine, ~mine)
    )
    return own, other


def _errors(trainer: TemporalTrainer, splits: DataSplits) -> Errors:
    """What the network takes the test samples for."""
    started, outputs, labels = time.perf_counter(), [], []
    for x, y in batches(splits.test, trainer.batch_size, seed=0, epoch=0, shuffle=False):
        outputs.append(trainer.net(trainer.present(x.to(trainer.device))).sum(0).cpu())
        labels.append(y)
        if time.perf_counter() - started > SECONDS_FOR_ERRORS:
            break
    scores, truth = torch.cat(outputs), torch.cat(labels)
    predicted = scores.argmax(-1)
    confusion = np.zeros((splits.classes, splits.classes), dtype=np.int64)
    np.add.at(confusion, (truth.numpy(), predicted.numpy()), 1)
    gap = (scores.gather(1, predicted[:, None]) - scores.gather(1, truth[:, None]))[:, 0]
    worst = sorted((predicted != truth).nonzero()[:, 0].tolist(), key=lambda i: (-float(gap[i]), i))[:WRONG]
    wrong = [(splits.test[i][0].numpy(), int(truth[i]), int(predicted[i]), float(gap[i])) for i in worst]
    return Errors(confusion, len(truth), len(splits.test), wrong)


def _weights(net: torch.nn.Module, folder: Folder) -> list[Weights]:
    """The weights of every dense and convolutional layer."""
    try:
        before = checkpoint.read(folder.initial)["weights"]
    except CheckpointError:
        before = {}
    found: list[Weights] = []
    for name, module in net.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.nn.Parameter) or weight.dim() < 2:
            continue
        first = before.get(f"{name}.weight")
        if first is not None and first.shape != weight.shape:
            first = None
        outputs, inputs, *kernel = weight.shape
        kind = f"{inputs:,} → {outputs:,} " + (f"channels, {' × '.join(map(str, kernel))}" if kernel else "neurons")
        after = weight.detach().flatten().float().numpy()
        title = f"Layer {len(found) + 1} · " + ("convolution" if kernel else "dense")
        found.append(Weights(title, kind, None if first is None else first.flatten().float().numpy(), after))
    return found


def _read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, ``None`` if there is no such file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, kind):
        raise RunFolderError(f"{path} should hold a {kind.__name__}, found {type(content).__name__}")
    return content


@contextmanager
def _evaluating(trainer: TemporalTrainer) -> Iterator[None]:
    """The network in evaluation mode, without gradients, and with the random numbers of an evaluation."""
    training = trainer.net.training
    trainer.net.eval()
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(trainer.seed)
            yield
    finally:
        trainer.net.train(training)


def _without_folder(error: Exception, folder: Folder) -> str:
    """The text of an error without the machine's paths: a report is passed on."""
    return str(error).replace(f"{folder.path}/", "")
