"""Recording of a run that goes on learning online, sample by sample, as ``hw-export updates record`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from hw_export.build import TrainedOptions, shown_samples
from hw_export.updates.content import Plain
from hw_export.updates.quantized import BITS, grids_like, integers_of
from hw_export.updates.recorder import UpdateRecorder
from spikelfp import checks
from spikelfp.configuration import Schema
from spikelfp.errors import UserError
from spikelfp.files import put_back
from spikelfp.options import section, setting
from spikelfp.quantized import CLIPS
from spikelfp.terminal import plain
from spikelfp.training import checkpoint
from spikelfp.training.optim import optimizers
from spikelfp.training.run import (
    check_show_memory,
    load_run,
    make_evaluator,
    make_trainer,
    own_random_numbers,
    seed_generators,
)
from spikelfp.training.trainer import TemporalTrainer

ONLINE_LR = 0.01
"""Default learning rate in units of the run's; small, because a step has a single sample."""

EVALUATION_BATCH = 256
"""Samples of a batch in evaluation."""
BATCH = ("training", "batch_size")

SAMPLES = 100
"""Test samples that show whether inputs are whole numbers, as many as an export holds by default."""


@dataclass(frozen=True)
class OnlineOptions:
    """Options of the training that goes on; all other settings are those of the run."""

    steps: int = setting(1000, "steps of training to record", within="[1, ∞)")
    batch_size: int = setting(1, "samples of a step", within="[1, ∞)")
    lr: float | None = setting(None, "learning rate, constant", automatic=f"{ONLINE_LR} of the run's", within="(0, ∞)")
    optimizer: str | None = setting(None, "optimiser, which starts anew", names=optimizers, automatic="the run's")
    seed: int | None = setting(None, "of the order of samples", automatic="the run's", within="[0, ∞)")
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, …")


@dataclass(frozen=True)
class IntegerOptions:
    """Options of the integers in the stream, and of the receiver's inputs."""

    bits: int | None = setting(None, "bits of a weight, 2 to 16", automatic=f"as trained, else {BITS}")
    clip: str = setting("mse", "how scales are chosen", names=CLIPS)
    headroom: float = setting(1.0, "factor on the scales, room for weights that grow", within="[1, ∞)")
    input_scale: int | None = setting(
        None,
        "the receiver's inputs are whole numbers of so many steps to 1",
        automatic="the levels of the data",
        within="[1, ∞)",
    )


@dataclass(frozen=True)
class StreamOptions:
    """Options of the stream."""

    every: int = setting(1, "steps between two comparisons of the weights", within="[1, ∞)")
    embed: bool = setting(True, "keep the base image in the stream")


@dataclass(frozen=True)
class StartOptions(TrainedOptions):
    """Options of the weights from which a run goes on, and of its data."""

    weights: str = setting("last", "checkpoint of the run", names=("last", "best", "initial"))


@dataclass(frozen=True)
class RecordConfig:
    """All options of a recording, by what they configure."""

    online: OnlineOptions = section(OnlineOptions, "training")
    integers: IntegerOptions = section(IntegerOptions, "integers")
    stream: StreamOptions = section(StreamOptions, "stream")
    trained: StartOptions = section(StartOptions, "run")


OPTIONS = Schema(RecordConfig)
"""Options of :func:`record_run` and of ``hw-export updates record``."""


@own_random_numbers()
def record_run(run: str | Path, out: str | Path, *, overwrite: bool = False, **options: Any) -> dict[str, Any]:
    """Go on training a run and record the integers that change; the run folder stays as it is.

    The method goes on with its own state, such as the feedback weights and the errors of samples of F³.

    Args:
        run: folder of ``spikelfp train``.
        out: stream to write.
        overwrite: replace a stream that is there.
        **options: options of :class:`RecordConfig`, flat: ``steps``, ``batch_size``, ``lr``, ``optimizer``, ``seed``,
            ``device``, ``bits``, ``clip``, ``headroom``, ``input_scale`` (of the receiver's inputs, as for
            :func:`~hw_export.build.build`, with whose integers the stream then begins), ``every``, ``embed``,
            ``weights``, ``data_dir``, ``cache_dir``.

    Returns:
        Accuracy on the test set before and after, of the live weights and of the integers; steps, frames and bytes of
        the stream; seconds of training and of recording; and the notes of the header.

    Raises:
        UserError: for unknown options, values out of range, and a run whose network has no such integers.
        SaveError: when the stream cannot be written.
    """
    stated = OPTIONS.stated(options, "record_run")
    chosen = RecordConfig(**OPTIONS.made(OPTIONS.settled(stated, stated)))
    online, own, start_from = chosen.online, chosen.integers, chosen.trained
    loaded = load_run(checks.path("run", run), start_from.weights, start_from.data_dir, start_from.cache_dir)
    loaded.check_classes()
    config, splits = loaded.config, loaded.splits()
    config = config.placed(
        {
            BATCH: online.batch_size,
            ("training", "lr"): (config.training.lr or 1.0) * ONLINE_LR if online.lr is None else online.lr,
            ("training", "optimizer"): online.optimizer or config.training.optimizer.name,
            ("training", "schedule"): "constant",
            ("method", "warm_up"): None,
            ("method", "warm_up_steps"): 0,
            ("run", "seed"): config.run.seed if online.seed is None else online.seed,
            ("run", "device"): online.device,
            ("training", "recompute"): 0,
            ("training", "accumulate"): 1,
        }
    )
    check_show_memory(config, loaded.spec, splits.test, samples=EVALUATION_BATCH)
    check_show_memory(config, loaded.spec, splits.train)
    seed_generators(config.run.seed)  # of a random encoding
    net = loaded.net
    evaluator = make_evaluator(net, config.placed({BATCH: EVALUATION_BATCH}))
    shown = shown_samples(config, splits.test, SAMPLES, own.input_scale)
    made = integers_of(net, own.bits, own.clip, None if shown.integers() is None else shown.scale)
    if own.input_scale is not None and made.input_scale is None:
        why = "; ".join(made.notes) or "inputs below 0 or above 1 are no counts of steps"
        raise UserError(f"the receiver cannot take inputs of {own.input_scale} steps: {why}")
    grids = grids_like(net, made, own.headroom)
    about: dict[str, Plain] = {
        "run": plain(Path(run).resolve().name),
        "batch_size": online.batch_size,
        "lr": config.training.lr,
        "optimizer": config.training.optimizer.name,
        "headroom": own.headroom,
        "input_scale": made.input_scale,
    }
    before = evaluator.evaluate(splits.test).accuracy
    recording = 0.0
    stream: dict[str, Any] = {"every": chosen.stream.every, "embed": chosen.stream.embed, "about": about}
    with put_back(out), UpdateRecorder(net, out, grids=grids, overwrite=overwrite, **stream) as recorder:

        def after_step(position: object) -> None:
            nonlocal recording
            start = perf_counter()
            recorder.step()
            recording += perf_counter() - start

        trainer: TemporalTrainer = make_trainer(
            net, config, should_stop=lambda: trainer.position.step >= online.steps, wake=False
        )
        warmed_up = loaded.config.method.warm_up is not None
        checkpoint.load_method(getattr(loaded.folder, start_from.weights), trainer, "then" if warmed_up else None)
        start = perf_counter()
        epochs = -(-online.steps * online.batch_size // len(splits.train)) + 1
        trainer.fit(splits.train, epochs, after_step=after_step)
        seconds = perf_counter() - start
    image = recorder.image()
    floats = config.placed({BATCH: EVALUATION_BATCH}).in_floats()
    integers = make_evaluator(image.to_net(net), floats)
    return {
        "out": str(out),
        "steps": recorder.steps,
        "frames": recorder.frames,
        "bytes": Path(out).stat().st_size,
        "accuracy_before": before,
        "accuracy_after": evaluator.evaluate(splits.test).accuracy,
        "accuracy_of_integers": integers.evaluate(splits.test).accuracy,
        "seconds_training": seconds - recording,
        "seconds_recording": recording,
        **about,
    }
