"""What the trained network does on test data, within a few seconds."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from spikelfp import analysis
from spikelfp.data import DataSplits, batches
from spikelfp.data.samples import Samples, representative
from spikelfp.data.sequences import Sequences, mask_of
from spikelfp.methods import Batch
from spikelfp.report.facts import Activity, Array, Errors, Facts, Fitted, Sample
from spikelfp.rewards.mask import masked
from spikelfp.tasks.sequence_labels import NONE
from spikelfp.training import TemporalTrainer
from spikelfp.training.evaluation import evaluating, so_far
from spikelfp.training.run import RATE_SAMPLES, make_evaluator
from spikelfp.training.update import outputs_of

SECONDS_FOR_RATES, SECONDS_FOR_ERRORS = 2.5, 5.0
"""Time after which spike rates and errors make do with the test samples seen so far."""

RATE_BATCH, RATE_STEPS = 32, 2_000
"""Samples whose spikes are held in memory at once, and the steps that these have together, at most."""

WRONG = 9
"""Misread test samples that are shown."""


def look(facts: Facts, net: torch.nn.Module, splits: DataSplits) -> None:
    """Show the network test samples and add what it does to the ``facts``."""
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


def _sample(trainer: TemporalTrainer, test: Samples) -> tuple[Sample, dict[str, Array], bool]:
    """The first test sample, the spikes of every layer for it, and whether those of the last are the outputs."""
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
    """The one sequence of a batch without its padding: ``[T, P, H, W]`` of pictures, ``[T, N]`` of anything else."""
    assert len(x) == 1
    steps = len(x.values) if x.lengths is None else int(x.lengths[0])
    values: Tensor = x.values.to_dense() if x.values.is_sparse else x.values
    array: Array = values[:steps, 0].cpu().numpy()
    return array if array.ndim == 4 and min(array.shape[2:]) > 1 else array.reshape(steps, -1)


def _input_spikes(shown: Tensor) -> Array | None:
    """``[T, N]`` when the input changes over time and is made of spikes."""
    if len(shown) < 2 or bool((shown == shown[:1]).all()) or not bool(((shown == 0) | (shown == 1)).all()):
        return None
    return shown[:, 0].flatten(1).cpu().numpy()


def _activity(
    trainer: TemporalTrainer, test: Samples, spikes: dict[str, Array], is_output: bool
) -> tuple[list[Activity], int]:
    """Spike rates over as many test samples as those of the summary, if there is time; padding does not count."""
    if not spikes:
        return [], 0
    started, seen, steps = time.perf_counter(), 0, 0
    sums: dict[str, Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    labels_seen, counts = [], []
    some = test.subset(representative(test, RATE_SAMPLES))
    at_once = max(1, min(RATE_BATCH, RATE_STEPS // len(next(iter(spikes.values())))))
    for x, labels in batches(some, at_once, seed=0, epoch=0, shuffle=False):
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
    """What the network takes the test samples for, at the end and after each step."""
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


def _fitted(trainer: TemporalTrainer, splits: DataSplits) -> Fitted:
    """Predictions for test samples that have no single class, as many as there is time for."""
    started, test, wanted, found = time.perf_counter(), splits.test, list[Tensor](), list[Tensor]()
    for x, y in batches(test, trainer.batch_size, seed=0, epoch=0, shuffle=False):
        batch = trainer.batch(x.to(trainer.device), y.to(trainer.device))
        judge, start = trainer.task.judge(None, batch.mask, *batch.sequence.shape[:2]), 0
        for outputs, _ in outputs_of(trainer.net, batch, trainer.chunk):
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
    return Fitted(wanted_values, predicted_values, len(test))


def _read_out(trainer: TemporalTrainer, batch: Batch) -> tuple[Tensor, Array]:
    """Outputs summed over the steps that count, ``[B, C]``, and how many samples are right if read after each step,
    ``[T]``; one of which no step has counted yet has no answer."""
    total, right = torch.empty(0), []
    for sums, answered, _ in so_far(trainer.net, batch, trainer.chunk):
        right.append(((sums.argmax(-1) == batch.targets) & answered).sum(1).cpu().numpy())
        total = sums[-1]
    return total, np.concatenate(right)


def _early(right: list[Array], samples: int, first: int) -> Array | None:
    """Share of right answers after each step, of batches with ``right`` ``[T]`` ones each; behind its end a batch keeps
    its answers."""
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
    """The steps of a recording ``[T, …]`` accumulated over that quarter of it which has the most events: over all of
    it, every pixel that something has passed has both polarities."""
    steps = max(1, round(len(sequence) / 4))
    ends = np.concatenate([[0.0], sequence.reshape(len(sequence), -1).sum(1, dtype=np.float64).cumsum()])
    begin = int((ends[steps:] - ends[:-steps]).argmax())
    image: Array = sequence[begin : begin + steps].sum(0)
    return image
