"""Training run in a folder: ``config.yaml``, ``metrics.csv``, ``summary.json``, ``checkpoints/``, ``report.html``."""

from __future__ import annotations

import json
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spikelfp import nn
from spikelfp.data import Augmented, DataSplits, load_events
from spikelfp.data import load as load_data
from spikelfp.data.events import Binning, EventSplits, FileLayout, Pipeline, Sensor, Slicing, load_recordings, sliced
from spikelfp.data.events.augmentation import parse_augmentations
from spikelfp.data.events.cache import cache_folder, recorded_cache
from spikelfp.data.events.transforms import parse_transforms, transforms_text
from spikelfp.data.events.usual import joined_note
from spikelfp.data.load import is_event_data, without_folder
from spikelfp.data.samples import Samples
from spikelfp.errors import (
    DataError,
    DataWarning,
    LearningWarning,
    MachineError,
    RunFolderError,
    SaveError,
    SignWarning,
    UserError,
    failure,
)
from spikelfp.files import Place, check_not_inside, copy_whole, owned, settle, write_text
from spikelfp.machine import Stop, stop_on_interrupt
from spikelfp.models import ModelSpec
from spikelfp.options import check_named
from spikelfp.tasks import tasks
from spikelfp.training import checkpoint
from spikelfp.training.arguments import learning_complaints, only_evaluating
from spikelfp.training.config import RunConfig, read_mapping
from spikelfp.training.memory import STATES, check_memory, check_run_memory, estimate, without_memory
from spikelfp.training.optim import is_best
from spikelfp.training.parallel import World, choose_device, joined
from spikelfp.training.run_folder import (
    RATE_SAMPLES,
    RUN,
    RunFolder,
    Started,
    check_data,
    check_folder,
    check_out,
    is_unused,
    other_samples,
    read_config,
    read_metrics,
    read_started,
    samples_of,
    summarise,
    write_config,
    write_metrics,
)
from spikelfp.training.trainer import TemporalTrainer
from spikelfp.training.weights import DIGITS, GivenWeights, load_given, read_weights, record_of
from spikelfp.untrusted.text import Field

NONE = "none"
"""Value of ``--transforms`` that leaves out those of the data set."""


def load_sequences(config: RunConfig, progress: bool = False) -> tuple[DataSplits, RunConfig]:
    """Load the event data of a configuration.

    Args:
        config: options of the run.
        progress: whether a bar is shown while recordings that are not in the cache are binned.

    Returns:
        The data, and the configuration with all choices of the data set written out.

    Raises:
        UserError: for data that cannot be read or written (:func:`~spikelfp.data.load_events`).
    """
    parts = recordings_of(config)
    pipeline = pipeline_of(config, parts.pipeline)
    splits = load_events(
        parts,
        pipeline=pipeline,
        skip_bad=config.events.skip_bad,
        sparse=config.events.sparse,
        augmentations=parse_augmentations(config.events.augmentations),
        cache_dir=config.events.cache_dir,
        progress=progress,
    )
    joined = joined_note(parts.train.sensor, pipeline) if config.events.transforms is None else None
    if joined:
        splits = replace(splits, notes=(*splits.notes, joined))
    sensor = pipeline.sensor(parts.train.sensor)
    sides = () if sensor.is_line else (sensor.width, sensor.height)
    return splits, with_pipeline(config.fitted(sensor.is_line, sides), pipeline)


def recordings_of(config: RunConfig) -> EventSplits:
    """List the recordings of a configuration, or their slices.

    Raises:
        UserError: for both kinds of slices, and options that do not fit the data.
        DataError: for recordings that are damaged or missing.
    """
    events = config.events
    parts = load_recordings(
        config.data.name,
        config.run.data_dir,
        skip_bad=events.skip_bad,
        **stated(config),
        label_table=events.label_table,
        class_level=events.class_level,
        split_by=events.split_by,
    )
    return sliced(parts, slicing_of(config), skip_bad=events.skip_bad)


def stated(config: RunConfig) -> dict[str, Any]:
    """Sensor and layout of files that do not state them: the options ``sensor`` and ``layout``."""
    events = config.events
    return {
        "sensor": None if events.sensor is None else Sensor.from_text(events.sensor),
        "layout": FileLayout.from_text(events.table, events.columns, events.first_pixel),
    }


def slicing_of(config: RunConfig) -> Slicing | None:
    """The rule that cuts recordings into slices; ``None``: they stay whole.

    Raises:
        UserError: for slices of both a time and a number of events.
    """
    events = config.events
    if events.slice is not None and events.slice_events is not None:
        raise UserError("recordings are cut into slices of --slice ms or of --slice-events, not both")
    if events.slice is not None:
        return Slicing(window=round(events.slice * 1000), overlap=events.slice_overlap)
    if events.slice_events is not None:
        return Slicing(count=events.slice_events, overlap=events.slice_overlap)
    return None


def pipeline_of(config: RunConfig, own: Pipeline) -> Pipeline:
    """Choose how recordings become sequences: as ``config`` says, and where it is silent as the data set's ``own``.

    ``window`` and ``events_per_step`` make steps of that many ms or events, at most ``steps`` of them; ``steps`` alone
    makes as many equal parts of each recording.

    Raises:
        UserError: for both a window and a number of events, or one out of range.
    """
    binning = own.binning
    if config.events.window is not None and config.events.events_per_step is not None:
        raise UserError("a step of event data has a --window or a number of --events-per-step, not both")
    if config.events.window is not None:
        if not 1e-3 <= config.events.window <= 1e9:
            raise UserError(f"window must be at least 0.001 ms and at most 1e9 ms, got {config.events.window}")
        binning = Binning(window=round(config.events.window * 1000), most=config.data.steps, origin=own.binning.origin)
    elif config.events.events_per_step is not None:
        binning = Binning(count=config.events.events_per_step, most=config.data.steps)
    elif config.data.steps is not None:
        binning = Binning(bins=config.data.steps, origin=own.binning.origin)
    binning = replace(binning, levels=config.events.levels or own.binning.levels)
    chosen = own.transforms
    if config.events.transforms is not None:
        chosen = () if config.events.transforms == NONE else parse_transforms(config.events.transforms)
    return Pipeline(binning, chosen)


def with_pipeline(config: RunConfig, pipeline: Pipeline) -> RunConfig:
    """Copy ``config`` with the ``pipeline`` written out, so that :func:`pipeline_of` gives just that again."""
    binning = pipeline.binning
    return config.placed(
        {
            ("data", "steps"): binning.bins or binning.most,
            ("events", "window"): None if binning.window is None else binning.window / 1000,
            ("events", "events_per_step"): binning.count,
            ("events", "levels"): binning.levels,
            ("events", "transforms"): transforms_text(pipeline.transforms) or NONE,
        }
    )


__all__ = [
    "RATE_SAMPLES",
    "Interrupted",
    "LoadedRun",
    "RunFolder",
    "check_show_memory",
    "load_run",
    "load_splits",
    "make_evaluator",
    "make_trainer",
    "own_random_numbers",
    "read_config",
    "read_metrics",
    "seed_generators",
    "train",
]  # fmt: skip


class Interrupted(Exception):
    """Raised when a signal has stopped training; the run folder holds the state, or the last checkpoint before it.

    Attributes:
        number: number of the signal.
    """

    number: int = signal.SIGINT


@dataclass(frozen=True)
class LoadedRun:
    """Finished or stopped run, read back.

    Attributes:
        folder: its folder.
        config: its options.
        spec: description of the network.
        net: the network with its weights.
    """

    folder: RunFolder
    config: RunConfig
    spec: ModelSpec
    net: torch.nn.Module

    def splits(self) -> DataSplits:
        """Load the data set of the run, with a :class:`~spikelfp.errors.DataWarning` if the samples are others.

        Raises:
            DataError: for data of another shape or other classes than it was trained on, and what cannot be read.
        """
        splits = load_splits(self.config)
        check_data(self.folder, splits)
        other = other_samples(self.folder, samples_of(splits))
        if other:
            warnings.warn(other, DataWarning, stacklevel=2)
        return splits

    def check_classes(self) -> None:
        """Refuse a run whose outputs are no classes, where right ones are counted.

        Raises:
            UserError: naming its task.
        """
        if not self.config.is_classification:
            raise UserError(
                f"{self.folder.path} was trained for {self.config.task.name}, and exports are compared by the classes "
                "they find: hw_export.to_nir writes a network without data"
            )

    def trainer(self, data: Samples | None = None, **options: Any) -> TemporalTrainer:
        """Make a trainer for the network, with the settings of the run, on the device of this machine.

        Args:
            data: data that it is going to be shown, of which a batch is to fit into memory.
            options: arguments of the trainer in place of the run's.

        Raises:
            UserError: for sequences so long that a batch does not fit.
        """
        check_show_memory(self.config, self.spec, data)
        return make_evaluator(self.net, self.config.placed({("run", "device"): "auto"}), **options)


def check_show_memory(
    config: RunConfig, spec: ModelSpec, data: Samples | None, *, samples: int | None = None, kept: bool = False
) -> None:
    """Refuse to show a network sequences so long that a batch does not fit into memory.

    Args:
        config: options of the run.
        spec: the network.
        data: data that is shown; ``None``: only the steps of the configuration are known.
        samples: samples of a batch; by default those of the run.
        kept: whether the outputs of all layers are kept.

    Raises:
        UserError: with the estimate.
    """
    steps = config.data.steps or (None if data is None else data.longest)
    if steps is None:
        return
    batch = samples or config.training.batch_size
    check_run_memory(
        spec,
        steps=steps,
        samples=batch if data is None else min(batch, len(data)),
        together=None if kept else config.training.chunk or None,
        device=choose_device("auto", None),
        kept=kept,
    )


def load_run(
    path: str | Path, weights: str = "last", data_dir: str | None = None, cache_dir: str | None = None
) -> LoadedRun:
    """Read a run folder, with the weights of one of its checkpoints.

    Args:
        path: the folder.
        weights: ``"last"`` or ``"best"``.
        data_dir: folder of data sets in place of the run's.
        cache_dir: folder of binned recordings in place of the run's. A recorded cache folder that is gone is left
            alone, and the usual one is taken.

    Raises:
        RunFolderError: for a folder that holds no run.
        CheckpointError: for a checkpoint that is damaged, or of another network.
    """
    folder = RunFolder(Path(path))
    settle(folder.path, RUN)
    config, shape, classes = read_config(folder)
    config = config.elsewhere(data_dir or config.run.data_dir, cache_dir or recorded_cache(config.events.cache_dir))
    spec = config.spec(shape, classes)
    saved = getattr(folder, weights)
    content = checkpoint.read(saved)
    checkpoint.check_shapes(saved, without_memory(spec), content)  # a network is as large as its weights
    with torch.random.fork_rng(devices=[]):
        net = config.build(shape, classes)
    checkpoint.load_weights(saved, net, content)
    asked = {name: getattr(config.flat, name) for name in ("steps", "encoding", "readout_steps")}
    checkpoint.check_settings(saved, content, asked, f"{folder.config} has")
    return LoadedRun(folder, config, spec, net)


def make_trainer(net: torch.nn.Module, config: RunConfig, **options: Any) -> TemporalTrainer:
    """Make the trainer of a resolved configuration; ``options`` are arguments of the trainer in place of its own."""
    return TemporalTrainer(
        net,
        steps=config.data.steps,  # none: sequences of events, as long as they are
        encoding=config.data.encoding,
        task=config.make_task(),
        method=config.make_method(),
        optimizer=config.make_optimizer(),
        lr=config.training.lr or 0.0,
        schedule=config.make_schedule(),
        clip=config.training.clip,
        clip_norm=config.training.clip_norm,
        batch_size=config.training.batch_size,
        accumulate=config.training.accumulate,
        recompute=config.training.recompute,
        chunk=config.training.chunk or None,
        readout_steps=config.training.readout_steps,
        seed=config.run.seed,
        device=config.run.device,
        workers=config.run.workers,
        quantization=config.quantization(),
        max_weight=config.training.max_weight,
        **{"wake": config.method.wake, **options},
    )


def make_evaluator(net: torch.nn.Module, config: RunConfig, **options: Any) -> TemporalTrainer:
    """Make the trainer of a resolved configuration to evaluate a network, whether or not it could be trained."""
    with only_evaluating():
        return make_trainer(net, config, **options)


def load_splits(config: RunConfig) -> DataSplits:
    """Load the data of a configuration, its validation part held out."""
    return _load(config, progress=False)[0]


def _load(config: RunConfig, progress: bool) -> tuple[DataSplits, RunConfig]:
    """Load the data; returned with the configuration in which the choices of event data are written out."""
    folder = config.run.data_dir
    if folder is not None and not Path(folder).is_dir():
        raise RunFolderError(f"the data folder {folder} does not exist; name another with --data-dir")
    if is_event_data(config.data.name):
        splits, config = load_sequences(config, progress)
    else:
        splits = load_data(config.data.name, folder, **config.data.options)
    if config.data.standardize:
        splits = splits.standardized()
    return (
        splits.with_validation(config.data.validation, config.run.seed) if config.data.validation else splits
    ), config


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    echo: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train as ``config`` says into the folder ``out``.

    The generators of torch, numpy and Python are seeded with ``config.run.seed``: equal runs on one machine write the
    same bytes, but for times, memory and paths. After the call the generators are in the state they had before.

    Under ``torchrun`` the workers train together (:func:`spikelfp.training.joined`): all of them call this and return;
    the leader writes and prints.

    Args:
        config: options of the run.
        out: folder of the run. No other run may use it until this one is done.
        resume: whether to go on from its last checkpoint, bit for bit, with the same samples.
        overwrite: whether to replace the run in it, which stays until the first checkpoint of the new one.
        progress: whether to show a bar.
        echo: called with a line about findings and about each epoch.

    Returns:
        Content of ``summary.json``.

    Raises:
        RunFolderError: for a folder that exists, unless ``resume`` or ``overwrite`` is given; that is in use; that
            holds something else; and to resume, a run with other options.
        DataError: for data that cannot be read; to resume, other samples.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with the checkpoint written; after a second one with that of
            before.
        MachineError: for want of memory and the like; the text says from where it goes on.
        WorkerLost: when another worker has ended.
    """
    if isinstance(out, str):
        check_named("out", out)
    folder = RunFolder(Path(out))
    with (
        own_random_numbers(),
        joined(config.run.device) as world,
        ExitStack() as held,
        stop_on_interrupt(patient=world.size > 1) as stopped,
    ):
        run = _start(config, folder, world, resume, overwrite, progress, stopped, held)
        try:
            stopped.begin()
            summary = _fit(run, echo if world.leads else lambda line: None)
        except KeyboardInterrupt:
            raise _interrupted(f"stopped at once; {run.way_on()}", stopped) from None
        except SaveError as error:
            raise SaveError(f"{error}; {run.way_on()}") from error
        except (MemoryError, RuntimeError, OSError) as error:
            failed = failure(error)
            if failed is None:
                raise
            run.rescue()
            raise MachineError(f"{failed}; {run.way_on()}") from error
    if summary is None:
        text = f"stopped after {run.trainer.position.step} steps; go on with --out {out} --resume"
        raise _interrupted(text, stopped)
    return summary


def _interrupted(text: str, stopped: Stop) -> Interrupted:
    stop = Interrupted(text)
    stop.number = stopped.number or signal.SIGINT
    return stop


@dataclass(frozen=True)
class _Run:
    """Run about to train: its resolved options, its data, its trainer and its folder.

    The workers that do not lead have no place to write to.
    """

    config: RunConfig
    splits: DataSplits
    trainer: TemporalTrainer
    path: Path
    place: Place | None
    samples: dict[str, str]
    planned: str = ""  # how it goes on
    started: Started | None = None

    @property
    def folder(self) -> RunFolder:
        """Folder that its files are written to."""
        return RunFolder(self.path if self.place is None else self.place.current)

    def save(self) -> None:
        """Write the state of training to ``last.pt``; the first one puts the run into the place of the one before."""
        self.trainer.save(self.folder.last)
        if self.place is not None:
            self.place.commit()

    def rescue(self) -> None:
        """Save after a failure, if training stands between two steps and it can be done."""
        for _ in range(3):  # torch tells of a dead worker by an exception at any place, more than once
            if self.trainer.at_rest:
                with suppress(SaveError, MemoryError, RuntimeError):
                    return self.save()

    def keep_best(self) -> None:
        """Make the state that was just saved the best one."""
        if self.place is not None:
            copy_whole(self.folder.last, self.folder.best)

    def write_config(self) -> None:
        """Write ``config.yaml`` with all that is known by now."""
        if self.place is not None:
            write_config(self.folder, self.config, self.splits, self.trainer.woken, self.samples, self.started)

    def way_on(self) -> str:
        """Say how to go on after a failure."""
        if self.place is not None and self.place.current != self.path:
            return f"no checkpoint was written, and the run that was in {self.path} before is kept"
        if RunFolder(self.path).last.is_file():
            return f"go on from the last checkpoint with --out {self.path} --resume"
        return "no checkpoint was written yet: start again with the same command"


def _start(
    config: RunConfig,
    folder: RunFolder,
    world: World,
    resume: bool,
    overwrite: bool,
    progress: bool,
    stopped: Stop,
    held: ExitStack,
) -> _Run:
    """Make data, network and trainer, as the last checkpoint left them, and the folder; wrong options come first.

    The folder is owned until ``held`` is closed.
    """
    place: Place | None = None
    samples: dict[str, str] = {}
    with world.agreed():
        if world.leads:
            check_out(folder, resume, overwrite)
        config, given = _given_weights(config, folder, resume)
        with world.in_turn():
            splits, config = _load(config, progress and world.leads)
        check_kind(config, splits)
        if config.data.augment:
            Augmented(splits.train)  # refuses what are no images
        config = config.resolved(len(splits.train), splits.train.levels)
        if world.leads:
            if not resume:
                check_not_inside(folder.path, RUN, _not_inside(config))
            place = held.enter_context(owned(folder.path, RUN))
            check_folder(folder, config, resume, overwrite)
            samples = samples_of(splits)
            if resume:
                check_data(folder, splits)
                other = other_samples(folder, samples)
                if other:
                    raise DataError(f"{other}: go on with those of before, or train a new run with another --out")
        _check_room(config, splits, world)
        seed_generators(config.run.seed)
        started = None if given is None else Started(given.name, given.digest, [])

        def begin(net: torch.nn.Module) -> None:
            if given is not None and started is not None and not (resume and folder.last.exists()):
                few = config.quantization() is not None
                started.notes.extend(load_given(net, given, config.model.name, splits.outputs, few))

        net = config.build(splits.shape, splits.outputs, begin)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LearningWarning)  # the leader says it, in _fit
            trainer = make_trainer(net, config, progress=progress, should_stop=stopped, world=world)
    planned = ""
    with world.agreed():
        go_on = resume and folder.last.exists()
        if go_on:
            trainer.load(folder.last)
            started = read_started(folder)
            trainer.woken = _woken(folder)
            _take_seconds(folder, trainer.history)
            planned = trainer.plan(splits.train, config.training.epochs or 1)
        if place is not None and not resume and not is_unused(folder):
            place.replace()
        run = _Run(config, splits, trainer, folder.path, place, samples, planned, started)
        if world.leads:
            if go_on:
                _repair(run)
            else:
                initial = {"weights": net.state_dict(), **checkpoint.network_description(net)}
                checkpoint.write(run.folder.initial, initial)
            run.write_config()
    return run


def _given_weights(config: RunConfig, folder: RunFolder, resume: bool) -> tuple[RunConfig, GivenWeights | None]:
    """Read the weights that a run is to start from; returned with the configuration that names them by their hash.

    A run that goes on by its own record needs them no more.
    """
    path = config.run.weights
    if path is None:
        return config, None
    record = record_of(path)
    if resume and record is not None and folder.last.exists():
        return config.placed({("run", "weights"): record}), None
    given = read_weights(path)
    return config.placed({("run", "weights"): given.record}), given


def check_kind(config: RunConfig, splits: DataSplits) -> None:
    """Refuse data whose targets do not fit the task.

    Raises:
        UserError: with the task that is for them.
    """
    wanted = tasks[config.task.name].kind
    if splits.kind != wanted:
        fits = [name for name in tasks if tasks[name].kind == splits.kind]
        cure = f"say --task {' or '.join(fits)}"
        if (splits.kind, wanted) == ("values", "classes") and "target_classes" in config.data.options:
            cure += ", or --target-classes for numbers that stand for classes"
        raise UserError(
            f"the targets of {without_folder(splits.name)} are {splits.kind}, and --task {config.task.name} takes "
            f"{wanted}: {cure}"
        )


def _not_inside(config: RunConfig) -> dict[str, Path]:
    """Name the folders that a run must not lie in: it would be read as data, or be cleared away."""
    if not is_event_data(config.data.name):
        return {}
    kind, _, where = config.data.name.partition(":")
    recordings = {"the recordings": Path(where)} if kind == "folder" and where else {}
    return {**recordings, "the cache": cache_folder(config.events.cache_dir)}


def _repair(run: _Run) -> None:
    """Write the files that a killed process had not written after its last checkpoint."""
    trainer, folder = run.trainer, run.folder
    if trainer.history:
        write_metrics(folder, trainer.history)
        if trainer.position.batch == 0 and is_best(trainer.history, trainer.task):
            run.keep_best()
    if trainer.position.epoch < (run.config.training.epochs or 1):
        for name in (folder.summary, folder.report):  # those of a run that ended there
            name.unlink(missing_ok=True)


def _check_room(config: RunConfig, splits: DataSplits, world: World) -> None:
    """Refuse a run that cannot fit into the memory of its device, before anything of it is allocated.

    Raises:
        UserError: with the estimate.
    """
    device = choose_device(config.run.device, world.local_rank if world.size > 1 else None)
    spec = config.spec(splits.shape, splits.outputs)
    steps = config.data.steps or splits.train.longest
    need = estimate(
        spec,
        steps=steps,
        samples=-(-config.training.batch_size // (config.training.accumulate * world.size)),
        states=STATES.get(config.training.optimizer.name, 0),
        together=config.training.recompute or config.training.chunk or None,
    )
    parts = [("weights, updates and the optimiser", need.weights), ("outputs of the layers", need.outputs)]
    if device.type == "cpu" and need.checkpoint > need.outputs:
        parts[1] = ("a checkpoint of them", need.checkpoint)
    check_memory(parts, device, f"training with sequences of up to {steps} steps")
    for part in (splits.validation, splits.test):
        check_show_memory(config, spec, part)


def _fit(run: _Run, echo: Callable[[str], None]) -> dict[str, Any] | None:
    """Train to the end and return the summary, or ``None`` if training was stopped; all of it kept in the folder."""
    config, splits, trainer = run.config, run.splits, run.trainer
    epochs, leads = config.training.epochs or 1, trainer.world.leads
    clock = _Clock()
    for reason in splits.skipped:
        echo(f"skipped: {reason}")
    for note in splits.notes:
        echo(note)
    complaints = nn.sign_complaints(trainer.net) if trainer.method.objective == "reward" else []
    complaints += learning_complaints(trainer.net, trainer.method, steps=config.data.steps, encode=trainer.encode)
    for complaint in complaints:
        echo(f"warning: {complaint}")
    if trainer.position.step:
        echo(f"resuming after {trainer.position.step} steps (epoch {trainer.position.epoch + 1})")
    if run.planned:
        echo(run.planned)
    if run.started is not None and not trainer.position.step:
        echo(f"starting from the weights {run.started.name} (sha256 {run.started.sha256[:DIGITS]})")
        for note in run.started.notes:
            echo(note)

    def after_epoch(row: dict[str, float]) -> None:
        if row["epoch"] == config.training.choose_delays:
            kept, taps = nn.choose_delays(trainer.net)
            echo(f"every connection keeps one of its delays: {kept:,} of {taps:,} weights")
        watched = splits.validation or splits.test
        part, score = "validation" if splits.validation else "test", trainer.task.score
        seconds = clock.lap()
        row |= trainer.evaluate(watched).row(part, trainer.task)
        row["seconds"] = seconds
        clock.lap()
        run.save()
        if is_best(trainer.history, trainer.task):
            run.keep_best()
        if leads:
            write_metrics(run.folder, trainer.history)
        objective = "  ".join(f"{k} {row[k]:.4f}" for k in ("reward", "reward_magnitude", "loss") if k in row)
        echo(
            f"epoch {int(row['epoch'])}/{epochs}  {objective}  train {row[f'train_{score}']:.4f}"
            f"  {part} {row[f'{part}_{score}']:.4f}  {row['seconds']:.1f} s"
        )

    def after_step(position: Any) -> None:
        if position.step == 1:
            for name, factor in trainer.woken.items():
                echo(f"layer {name} left its neurons silent: its initial weights were multiplied by {factor:.2f}")
            if trainer.woken:
                run.write_config()
        if config.run.checkpoint_every and position.step % config.run.checkpoint_every == 0:
            run.save()

    samples = Augmented(splits.train) if config.data.augment else splits.train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SignWarning)  # warned about already
        trainer.fit(samples, epochs, patience=config.training.patience, after_epoch=after_epoch, after_step=after_step)
    if trainer.position.epoch < epochs and not trainer.stopped_early:
        run.save()
        return None
    summary = summarise(trainer, splits, config, run.started)
    best = best_epoch(run, summary["score"]["value"]) if splits.validation else {}
    if best:
        summary["best"] = best
    if leads:
        write_text(run.folder.summary, json.dumps(summary, indent=2) + "\n")
    return summary


def best_epoch(run: _Run, last: float) -> dict[str, float]:
    """Say which epoch had the best validation score, and the test score of its weights (``best.pt``).

    Args:
        run: a run that is done, with a validation part.
        last: test score of the last weights.

    Returns:
        Epoch, validation score and test score; with several workers without the last. Empty where no score is a
        number.
    """
    trainer, config, splits = run.trainer, run.config, run.splits
    history, score = trainer.history, trainer.task.score
    number = max((end for end in range(1, len(history) + 1) if is_best(history[:end], trainer.task)), default=0)
    if not number:  # no score is a number
        return {}
    row = history[number - 1]
    found = {"epoch": row["epoch"], f"validation_{score}": row[f"validation_{score}"]}
    if number == len(history):
        return found | {f"test_{score}": last}
    if trainer.world.size > 1 or not run.folder.best.is_file():
        return found
    with own_random_numbers():
        net = config.build(splits.shape, splits.outputs)
        checkpoint.load_weights(run.folder.best, net)
        return found | {f"test_{score}": make_evaluator(net, config).evaluate(splits.test).score}


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Give the block its own random numbers; after it the generators are in the state they had before."""
    before = checkpoint.random_states()
    try:
        yield
    finally:
        checkpoint.restore_random(before)


def seed_generators(seed: int) -> None:
    """Start the generators of torch, numpy and Python: a checkpoint holds the states of all of them."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002


def _take_seconds(folder: RunFolder, history: list[dict[str, float]]) -> None:
    """Add the seconds of each epoch, which ``metrics.csv`` alone holds, to the rows of a checkpoint."""
    try:
        known = {row["epoch"]: row["seconds"] for row in read_metrics(folder) if "seconds" in row}
    except RunFolderError:  # it is written anew after the next epoch
        return
    for row in history:
        if row["epoch"] in known:
            row.setdefault("seconds", known[row["epoch"]])


def _woken(folder: RunFolder) -> dict[str, float]:
    """Read the layers of a run that were woken, each with its factor."""
    kept = Field(folder.config, "woken", read_mapping(folder.config).get("woken") or {}, RunFolderError)
    return {name: each.number() for name, each in kept.items()}


class _Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        since, self._since = self._since, now
        return now - since
