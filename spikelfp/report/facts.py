"""Facts of a run that its report shows: read from its folder, and found by showing the network test samples."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import analysis, models
from spikelfp.data import DataSplits, batches
from spikelfp.data.events.cache import recorded_cache
from spikelfp.data.load import without_folder
from spikelfp.data.loader import Sequences, mask_of
from spikelfp.data.samples import Samples, representative
from spikelfp.errors import CheckpointError, DataError, RunFolderError, UserError
from spikelfp.files import settle
from spikelfp.methods import Batch
from spikelfp.report.explained import Explained, explained
from spikelfp.rewards.base import masked
from spikelfp.tasks import Classification, Task
from spikelfp.tasks.sequence_labels import NONE
from spikelfp.training import TemporalTrainer, checkpoint
from spikelfp.training.config import RunConfig
from spikelfp.training.evaluation import evaluating, so_far
from spikelfp.training.memory import without_memory
from spikelfp.training.run import RATE_SAMPLES, check_show_memory, load_splits, make_evaluator
from spikelfp.training.run_folder import (
    RUN,
    RunFolder,
    Started,
    check_data,
    other_samples,
    read_config,
    read_metrics,
    read_started,
    samples_of,
)
from spikelfp.training.update import outputs_in_chunks
from spikelfp.untrusted import read_json
from spikelfp.untrusted.text import Field

Array = NDArray[Any]


@dataclass(frozen=True)
class Activity:
    """Spikes of one layer.

    Attributes:
        name: of the layer's module.
        title: of the layer, for readers.
        shape: of its neurons.
        spikes: of the first test sample, ``[T, N]``.
        rates: spikes per step of each neuron, over many samples, ``[N]``.
        own: for an output layer, rate of each class for samples of that class, ``[C]``.
        other: for an output layer, rate of each class for samples of the other classes, ``[C]``.
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
    """One test sample, without its padding.

    Attributes:
        image: as stored; of a recording its busiest quarter, accumulated.
        inputs: ``[T, N]``, if it was encoded as spikes.
        outputs: ``[T, C]``.
        label: class of the sample; ``None`` where it has none.
        scores: reading of the outputs, ``[C]``, or ``[T, C]`` where every step is read.
        sequence: ``[T, P, H, W]`` or ``[T, N]`` of a recording of events.
        target: of a sample without a class: values ``[K]``, labels ``[K]``, or classes ``[T]`` of its steps.
    """

    image: Array
    inputs: Array | None
    outputs: Array
    label: int | None
    scores: Array
    sequence: Array | None = None
    target: Array | None = None

    @property
    def predicted(self) -> int:
        """Class with the largest score."""
        return int(self.scores.argmax())


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer.

    Attributes:
        title: of the layer, for readers.
        kind: of the layer, with its sizes.
        before: weights before training, if they are known.
        after: weights after training.
    """

    title: str
    kind: str
    before: Array | None
    after: Array


@dataclass(frozen=True)
class Errors:
    """Test samples by true and predicted class.

    Attributes:
        confusion: number of samples by true (row) and predicted class.
        samples: number of samples that were shown.
        total: number of test samples.
        wrong: the most confidently misread samples, ``(image, label, predicted, gap)``. The gap is how far the
            predicted class was ahead of the right one; the image of a recording is its busiest quarter, accumulated, or
            the raster ``[N, T]`` of a line of channels.
        early: share of samples ``[T]`` whose answer was right if it was read after each step, NaN before the first step
            that counts; ``None`` of networks with one step.
    """

    confusion: Array
    samples: int
    total: int
    wrong: list[tuple[Array, int, int, float]]
    early: Array | None = None


@dataclass(frozen=True)
class Predictions:
    """Predictions for test samples that have no single class.

    Attributes:
        wanted: targets ``[n, K]``, real values in their own units; of steps ``[n, 1]``, a row for each that counts.
        predicted: of the same shape.
        total: number of test samples.
    """

    wanted: Array
    predicted: Array
    total: int


@dataclass
class Facts:
    """All that the page shows. Missing facts are ``None`` or empty, and ``notes`` say why.

    Attributes:
        folder: of the run.
        config: of the run.
        shape: of one sample.
        classes: number of outputs.
        metrics: rows of ``metrics.csv``, one an epoch.
        summary: content of ``summary.json``; ``None`` of a stopped run.
        verified: results of ``hw-export verify``, one a simulator.
        parameters: number of parameters.
        class_names: of the outputs.
        test_samples: number of test samples.
        sample: the first test sample.
        activity: of the layers that spike.
        rate_samples: number of samples that the rates are means over.
        weights: of the layers with weights.
        errors: of tasks with classes.
        fitted: predictions of other tasks.
        explained: what predictions rest on, of tasks with classes.
        task: of the run.
        notes: what is missing, and why.
        started: weights that the run was started from.
    """

    folder: RunFolder
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
    weights: list[LayerWeights] = field(default_factory=list)
    errors: Errors | None = None
    fitted: Predictions | None = None
    explained: Explained | None = None
    task: Task = field(default_factory=Classification)
    notes: list[str] = field(default_factory=list)
    started: Started | None = None

    @property
    def spiking(self) -> bool:
        """Whether the network has neurons that fire."""
        return models.is_spiking(self.config.model.name)

    @property
    def output_spikes(self) -> bool:
        """Whether the last of the spiking layers is the output."""
        return bool(self.activity) and self.activity[-1].own is not None

    @property
    def line(self) -> bool:
        """Whether samples are recordings of a line of channels."""
        return self.sample is not None and self.sample.sequence is not None and self.sample.sequence.ndim == 2

    @property
    def camera(self) -> bool:
        """Whether samples are recordings of a camera."""
        return self.sample is not None and self.sample.sequence is not None and not self.line

    @property
    def mean_rate(self) -> float | None:
        """Spikes per neuron and step, over all neurons: the rates of the summary weighted by the layers' sizes."""
        if not self.activity:
            return None
        known = (self.summary or {}).get("spike_rates") or {}
        rates = [known.get(layer.name, float(layer.rates.mean())) for layer in self.activity]
        return float(np.average(rates, weights=[layer.rates.size for layer in self.activity]))


SECONDS_FOR_RATES, SECONDS_FOR_ERRORS = 2.5, 5.0
"""Time after which spike rates and errors make do with the test samples seen so far."""

RATE_BATCH, RATE_STEPS = 32, 2_000
"""Samples whose spikes are in memory at once, and their steps together, at most."""

EXPLAINED = 64
"""Number of test samples that are explained."""

WRONG = 9
"""Number of misread test samples that are shown."""


def observe(facts: Facts, net: torch.nn.Module, splits: DataSplits, spec: models.ModelSpec) -> None:
    """Show the network test samples, within a few seconds, and add what it does to the facts.

    Args:
        facts: of the run.
        net: its network, trained.
        splits: its data.
        spec: of the network.
    """
    trainer = make_evaluator(net, facts.config.placed({("run", "device"): "auto"}))
    facts.class_names, facts.test_samples = splits.names, len(splits.test)
    with evaluating(trainer.net, trainer.seed, trainer.device):
        facts.sample, spikes, is_output = _sample(trainer, splits.test)
        facts.activity, facts.rate_samples = _activity(trainer, splits.test, spikes, is_output)
    with evaluating(trainer.net, trainer.seed, trainer.device):
        if trainer.task.has_classes:
            facts.errors = _errors(trainer, splits.test, splits.classes)
        else:
            facts.fitted = _fitted(trainer, splits)
    if trainer.task.has_classes:
        try:
            check_show_memory(facts.config, spec, splits.test, samples=EXPLAINED, kept=True)
            facts.explained = explained(trainer, splits, EXPLAINED)
        except UserError as error:
            facts.notes.append(f"Predictions are not explained: {_without_folder(error, facts.folder)}.")


def _sample(trainer: TemporalTrainer, test: Samples) -> tuple[Sample, dict[str, Array], bool]:
    """The first test sample, the spikes of every layer for it, and whether the last layer's spikes are the outputs."""
    x, labels = test.__getitems__([0])
    batch = trainer.batch(x.to(trainer.device), labels.to(trainer.device))
    outputs = trainer.net(batch.sequence)
    recorded = analysis.record(trainer.net, batch.sequence)
    last = list(recorded.values())[-1] if recorded else None
    is_output = last is not None and last.shape == outputs.shape and bool(torch.equal(last, outputs))
    sequence = _dense(x) if isinstance(x, Sequences) else None
    steps = len(outputs) if sequence is None else len(sequence)
    sample = Sample(
        image=x[0].numpy() if sequence is None else busiest(sequence),
        inputs=_input_spikes(batch.sequence) if sequence is None else None,
        outputs=outputs[:steps, 0].cpu().numpy(),
        label=int(labels[0]) if trainer.task.has_classes else None,
        scores=_reading(trainer, batch, outputs),
        sequence=sequence,
        target=None if trainer.task.has_classes else labels[0].numpy(),
    )
    return sample, {name: spikes[:steps, 0].flatten(1).cpu().numpy() for name, spikes in recorded.items()}, is_output


def _reading(trainer: TemporalTrainer, batch: Batch, outputs: Tensor) -> Array:
    """Reading of the outputs of the first sample."""
    judge = trainer.task.judge(None, batch.mask, len(outputs), outputs.shape[1])
    judge.add(outputs, 0)
    reading: Array = judge.reading()[0].cpu().numpy()
    return reading


def _dense(x: Sequences) -> Array:
    """Single sequence of a batch without its padding: ``[T, P, H, W]`` of pictures, ``[T, N]`` of anything else."""
    assert len(x) == 1
    steps = len(x.values) if x.lengths is None else int(x.lengths[0])
    values: Tensor = x.values.to_dense() if x.values.is_sparse else x.values
    array: Array = values[:steps, 0].cpu().numpy()
    return array if array.ndim == 4 and min(array.shape[2:]) > 1 else array.reshape(steps, -1)


def _input_spikes(shown: Tensor) -> Array | None:
    """Input as spikes ``[T, N]``; ``None`` unless it changes over time and is made of spikes."""
    if len(shown) < 2 or bool((shown == shown[:1]).all()) or not bool(((shown == 0) | (shown == 1)).all()):
        return None
    return shown[:, 0].flatten(1).cpu().numpy()


def _activity(
    trainer: TemporalTrainer, test: Samples, spikes: dict[str, Array], is_output: bool
) -> tuple[list[Activity], int]:
    """Spike rates over the samples of the summary's rates, or as many as there is time for; padding does not count."""
    if not spikes:
        return [], 0
    started, seen, steps = time.perf_counter(), 0, 0
    sums: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    labels_seen, counts = [], []
    chosen = test.subset(representative(test, RATE_SAMPLES))
    at_once = max(1, min(RATE_BATCH, RATE_STEPS // len(next(iter(spikes.values())))))
    for x, labels in batches(chosen, at_once, seed=0, epoch=0, shuffle=False):
        shown = trainer.batch(x.to(trainer.device), labels.to(trainer.device)).sequence
        mask = mask_of(x)
        counting = torch.ones(shown.shape[:2], dtype=torch.bool) if mask is None else mask
        recorded = analysis.record(trainer.net, shown)
        for name, layer in recorded.items():
            shapes[name] = tuple(layer.shape[2:])
            flat = layer.flatten(2) if mask is None else masked(layer.flatten(2), mask.to(layer.device))
            each = flat.sum(0).cpu().double()  # spikes [B, N] of every sample
            sums[name] = sums.get(name, 0) + each.sum(0).numpy()
        counts.append((each / counting.sum(0).unsqueeze(1)).numpy())
        labels_seen.append(labels.numpy())
        seen, steps = seen + len(labels), steps + int(counting.sum())
        if time.perf_counter() - started > SECONDS_FOR_RATES:
            break
    layers = []
    for index, (name, total) in enumerate(sums.items()):
        output = is_output and index == len(sums) - 1
        by_class = output and test.kind == "classes"
        own, other = _by_class(np.concatenate(counts), np.concatenate(labels_seen)) if by_class else (None, None)
        title = "Output layer" if output else f"Hidden layer {index + 1}"
        layers.append(Activity(name, title, shapes[name], spikes[name], total / steps, own, other))
    return layers, seen


def _by_class(rates: Array, labels: Array) -> tuple[Array, Array]:
    """Mean rate ``[C]`` of each output for samples of its class, NaN if there are none, and for the others."""
    mine = labels[:, None] == np.arange(rates.shape[1])
    own, other = (
        np.where(mask, rates, 0).sum(0) / np.where(mask.any(0), mask.sum(0), np.nan) for mask in (mine, ~mine)
    )
    return own, other


def _errors(trainer: TemporalTrainer, test: Samples, classes: int) -> Errors:
    """Classes that the network predicts for the test samples, at the end and after each step."""
    started, sums, labels, right = time.perf_counter(), [], [], []
    first: int | None = None
    for x, y in batches(test, trainer.batch_size, seed=0, epoch=0, shuffle=False):
        batch = trainer.batch(x.to(trainer.device), y.to(trainer.device))
        total, correct = _read_out(trainer, batch)
        sums.append(total.cpu())
        labels.append(y)
        right.append(correct)
        counts_from = 0 if batch.mask is None else int(batch.mask.any(1).int().argmax())
        first = counts_from if first is None else min(first, counts_from)
        if time.perf_counter() - started > SECONDS_FOR_ERRORS:
            break
    summed, truth = torch.cat(sums), torch.cat(labels)
    predicted = summed.argmax(-1)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (truth.numpy(), predicted.numpy()), 1)
    gap = (summed.gather(1, predicted[:, None]) - summed.gather(1, truth[:, None]))[:, 0]
    worst = sorted((predicted != truth).nonzero()[:, 0].tolist(), key=lambda i: (-float(gap[i]), i))[:WRONG]
    wrong = [(_picture_of(test, i), int(truth[i]), int(predicted[i]), float(gap[i])) for i in worst]
    return Errors(confusion, len(truth), len(test), wrong, _early(right, len(truth), first or 0))


def _fitted(trainer: TemporalTrainer, splits: DataSplits) -> Predictions:
    """Predictions for test samples that have no single class, as many as there is time for."""
    started, test, wanted, found = time.perf_counter(), splits.test, list[Tensor](), list[Tensor]()
    for x, y in batches(test, trainer.batch_size, seed=0, epoch=0, shuffle=False):
        batch = trainer.batch(x.to(trainer.device), y.to(trainer.device))
        judge, start = trainer.task.judge(None, batch.mask, *batch.sequence.shape[:2]), 0
        for outputs, _ in outputs_in_chunks(trainer.net, batch, trainer.read_chunk):
            judge.add(outputs, start)
            start += len(outputs)
        predicted = judge.predictions().cpu()
        if splits.kind == "steps":  # a row for each step that counts
            y, counting = y[:, : predicted.shape[1]], predicted != NONE
            y, predicted = y[counting].unsqueeze(1), predicted[counting].unsqueeze(1)
        wanted.append(y)
        found.append(predicted)
        if time.perf_counter() - started > SECONDS_FOR_ERRORS:
            break
    values = [torch.cat(part) for part in (wanted, found)]
    if splits.target_scale is not None:
        values = [splits.target_scale.values(part) for part in values]
    wanted_values, predicted_values = (part.numpy() for part in values)
    return Predictions(wanted_values, predicted_values, len(test))


def _read_out(trainer: TemporalTrainer, batch: Batch) -> tuple[Tensor, Array]:
    """Outputs of a batch, and how many of its samples are right after each step.

    Returns:
        The outputs summed over the steps that count, ``[B, C]``, and the number of right answers ``[T]``; a sample of
        which no step has counted yet has no answer.
    """
    total, right = torch.empty(0), []
    for sums, answered, _ in so_far(trainer.net, batch, trainer.read_chunk):
        right.append(((sums.argmax(-1) == batch.targets) & answered).sum(1).cpu().numpy())
        total = sums[-1]
    return total, np.concatenate(right)


def _early(right: list[Array], samples: int, first: int) -> Array | None:
    """Share of right answers after each step; a batch that has ended keeps its answers.

    Args:
        right: number of right answers ``[T]`` of each batch.
        samples: number of samples.
        first: first step that counts.
    """
    steps = max(map(len, right))
    if steps < 2:
        return None
    each_step = [np.pad(each, (0, steps - len(each)), mode="edge") for each in right]
    early: Array = np.sum(each_step, axis=0) / samples
    early[:first] = np.nan
    return early


def _picture_of(test: Samples, index: int) -> Array:
    """A test sample to look at: an image, the busiest part of a recording, or ``[N, T]`` of a line of channels."""
    x, _ = test.__getitems__([index])
    if not isinstance(x, Sequences):
        image: Array = x[0].numpy()
        return image
    sequence = _dense(x)
    return sequence.T if sequence.ndim == 2 else busiest(sequence)


def busiest(sequence: Array) -> Array:
    """Accumulate the quarter of a recording that has the most events.

    Over the whole recording, every pixel that something has passed has both polarities.

    Args:
        sequence: ``[T, …]``.

    Returns:
        ``[…]``.
    """
    steps = max(1, round(len(sequence) / 4))
    ends = np.concatenate([[0.0], sequence.reshape(len(sequence), -1).sum(1, dtype=np.float64).cumsum()])
    begin = int((ends[steps:] - ends[:-steps]).argmax())
    image: Array = sequence[begin : begin + steps].sum(0)
    return image


MOST_RESULTS = 100
"""Largest number of simulators whose results are shown."""


def _newest_verification(folder: RunFolder) -> Path:
    """Newest ``verify.json`` of ``hw-export verify``, in the run folder or in an export inside it."""
    found = [*folder.path.glob("verify.json"), *folder.path.glob("*/verify.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=folder.path / "verify.json")


def collect_facts(run: str | Path, data_dir: str | None = None, cache_dir: str | None = None) -> Facts:
    """Read a run, and look at what its network does.

    Args:
        run: the run folder.
        data_dir: folder of data sets, if not the one that the run was trained with.
        cache_dir: folder of binned recordings, if not the one that the run was trained with.

    Raises:
        RunFolderError: for a folder that is no run, has no finished epoch, or holds a file that cannot be read.
        UserError: for a ``data_dir`` without the data set.
    """
    folder = RunFolder(Path(run))
    settle(folder.path, RUN)
    config, shape, classes = read_config(folder)
    config = config.elsewhere(data_dir or config.run.data_dir, cache_dir or recorded_cache(config.events.cache_dir))
    metrics = read_metrics(folder)
    summary, verified = _summary(folder.summary), _verified(_newest_verification(folder))
    spec = config.spec(shape, classes)
    outline = without_memory(spec)
    facts = Facts(
        folder=folder,
        config=config,
        shape=shape,
        classes=classes,
        metrics=metrics,
        summary=summary,
        verified=verified,
        parameters=sum(p.numel() for p in outline.parameters()),
        class_names=tuple(str(label) for label in range(classes)),
        task=config.make_task(),
        started=read_started(folder),
    )
    try:
        content = checkpoint.read(folder.last)
        checkpoint.check_shapes(folder.last, outline, content)
        with torch.random.fork_rng(devices=[]):
            net = config.build(shape, classes)
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
        check_data(folder, splits)
    except UserError:
        if data_dir is not None:
            raise
        facts.notes.append(
            f"No test samples are shown: the data set {without_folder(config.data.name)} that the run was trained on "
            "was not found. Write the report again with --data-dir to say where it is."
        )
        return facts
    facts.notes += [f"{note[:1].upper()}{note[1:]}." for note in (*_left_out(splits), *splits.notes)]
    other = other_samples(folder, samples_of(splits))
    if other:
        facts.notes.append(f"Not the data of the run: {_without_folder(UserError(other), folder)}.")
    try:
        check_show_memory(config, spec, splits.test)
    except UserError as error:
        facts.notes.append(f"No test samples are shown: {error}.")
        return facts
    observe(facts, net, splits, spec)
    return facts


def _left_out(splits: DataSplits) -> list[str]:
    """Count the files that were left out, in a line."""
    number = len(splits.skipped)
    return [f"{number:,} file{'s were' if number > 1 else ' was'} left out of the data"] if number else []


def _weights(net: torch.nn.Module, folder: RunFolder) -> list[LayerWeights]:
    """The weights of every dense and convolutional layer."""
    try:
        content = checkpoint.read(folder.initial)
        checkpoint.check_weights(folder.initial, net, content)
        before = content["weights"]
    except CheckpointError:
        before = {}
    found: list[LayerWeights] = []
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
        found.append(LayerWeights(title, kind, None if first is None else first.flatten().float().numpy(), after))
    return found


def _read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, ``None`` if there is no such file."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except DataError as error:
        raise RunFolderError(str(error)) from None
    if not isinstance(content, kind):
        raise RunFolderError(f"{path} should hold a {kind.__name__}, found {type(content).__name__}")
    return content


def _summary(path: Path) -> dict[str, Any] | None:
    """Content of ``summary.json``, checked where the page shows it."""
    content: dict[str, Any] | None = _read_json(path, dict)
    field = Field(path, "", content or {}, RunFolderError)
    for name in ("test_accuracy", "test_loss", "rmse", "seconds_per_epoch", "update_density"):
        if field.value.get(name) is not None:
            field.at(name).number()
    if field.value.get("score") is not None:
        score = field.at("score")
        score.mapping(("name", "value"), ("name", "value"))
        score.at("name").text()
        score.at("value").number()
    if "parameters" in field.value:
        field.at("parameters").whole()
    if field.value.get("spike_rates") is not None:
        for _, rate in field.at("spike_rates").items():
            rate.number(0)
    return content


def _verified(path: Path) -> list[dict[str, Any]]:
    """Results of ``hw-export verify``, one for each simulator."""
    content = _read_json(path, list) or []
    if len(content) > MOST_RESULTS:
        raise RunFolderError(f"{path} has {len(content)} results, more than the {MOST_RESULTS} that are shown")
    return [entry for entry in content if isinstance(entry, dict)]


def _without_folder(error: Exception, folder: RunFolder) -> str:
    """Text of an error without the machine's paths: a report is passed on."""
    return str(error).replace(f"{folder.path}/", "")
