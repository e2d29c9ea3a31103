"""Online training of a run, recorded: the trained network goes on learning, sample by sample."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

from hw_export.build import shown_samples
from hw_export.updates.content import Plain
from hw_export.updates.grids import grids_like, integers_of
from hw_export.updates.recorder import UpdateRecorder
from spikelfp.errors import UserError
from spikelfp.files import put_back
from spikelfp.printable import plain
from spikelfp.registry import check_name
from spikelfp.training.optimizer import optimizers
from spikelfp.training.run import (
    check_room_to_show,
    load_run,
    make_evaluator,
    make_trainer,
    own_random_numbers,
    seed_generators,
)
from spikelfp.training.temporal import TemporalTrainer

ONLINE_LR = 0.01
"""Learning rate of online training, by default, in units of the run's: a single sample says little."""

EVALUATION_BATCH = 256

SAMPLES = 100
"""Test samples that tell whether inputs are whole numbers, as many as an export has by default."""


@own_random_numbers()
def record_run(
    run: str | Path,
    out: str | Path,
    *,
    steps: int = 1000,
    batch_size: int = 1,
    lr: float | None = None,
    optimizer: str | None = None,
    bits: int | None = None,
    clip: str = "mse",
    headroom: float = 1.0,
    input_scale: int | None = None,
    every: int = 1,
    embed: bool = True,
    weights: str = "last",
    data_dir: str | None = None,
    cache_dir: str | None = None,
    device: str = "auto",
    seed: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train the network of the run folder ``run`` for ``steps`` more steps and write what changes to ``out``.

    The method and all settings are the run's, but for batches of ``batch_size``, a constant learning rate ``lr`` (a
    hundredth of the run's, unless given), an ``optimizer`` that starts anew, and ``seed`` of the order of the samples.
    ``weights`` are those of the ``last``, the ``best`` or the ``initial`` checkpoint. ``data_dir`` and ``cache_dir``
    are the folders of data sets and of binned recordings, if they are not those of the run.
    ``bits`` are by default those the run was trained with, else 8. ``input_scale`` is that of the receiver's inputs, by
    default the levels of the data, as for :func:`~hw_export.build.build`, whose integers the stream then begins with;
    the header notes it where there is one. The run folder is not touched. Returns the accuracy on the test set before
    and after, of the live weights and of the integers, and what was written and how long it took, in seconds.
    """
    if steps < 1:
        raise UserError(f"the number of steps must be at least 1, got {steps}")
    check_name("weights", weights, ("last", "best", "initial"))
    if optimizer is not None:
        check_name("optimizer", optimizer, optimizers)
    loaded = load_run(run, weights, data_dir, cache_dir)
    config, splits = loaded.config, loaded.splits()
    config = config.changed(
        batch_size=batch_size,
        lr=(config.training.lr or 1.0) * ONLINE_LR if lr is None else lr,
        optimizer=optimizer or config.training.optimizer.name,
        schedule="constant",
        warm_up=None,
        warm_up_steps=0,
        seed=config.run.seed if seed is None else seed,
        device=device,
        recompute=0,
        accumulate=1,
    )
    check_room_to_show(config, loaded.spec, splits.test, samples=EVALUATION_BATCH)
    check_room_to_show(config, loaded.spec, splits.train)
    seed_generators(config.run.seed)  # of a random encoding
    net = loaded.net
    examiner = make_evaluator(net, config.changed(batch_size=EVALUATION_BATCH))
    shown = shown_samples(config, splits.test, SAMPLES, input_scale)
    made = integers_of(net, bits, clip, None if shown.integers() is None else shown.scale)
    if input_scale is not None and made.input_scale is None:
        why = "; ".join(made.notes) or "inputs below 0 or above 1 are no counts of steps"
        raise UserError(f"the receiver cannot take inputs of {input_scale} steps: {why}")
    grids = grids_like(net, made, headroom)
    about: dict[str, Plain] = {
        "run": plain(Path(run).resolve().name),
        "batch_size": batch_size,
        "lr": config.training.lr,
        "optimizer": config.training.optimizer.name,
        "headroom": headroom,
        "input_scale": made.input_scale,
    }
    before = examiner.evaluate(splits.test).accuracy
    recording = 0.0
    options: dict[str, Any] = {"grids": grids, "every": every, "embed": embed, "about": about, "overwrite": overwrite}
    with put_back(out), UpdateRecorder(net, out, **options) as recorder:

        def after_step(position: object) -> None:
            nonlocal recording
            start = perf_counter()
            recorder.step()
            recording += perf_counter() - start

        trainer: TemporalTrainer = make_trainer(
            net, config, should_stop=lambda: trainer.position.step >= steps, wake=False
        )
        start = perf_counter()
        epochs = -(-steps * batch_size // len(splits.train)) + 1
        trainer.fit(splits.train, epochs, after_step=after_step)
        seconds = perf_counter() - start
    image = recorder.image()
    floats = config.changed(batch_size=EVALUATION_BATCH).in_floats()
    integers = make_evaluator(image.to_net(net), floats)
    return {
        "out": str(out),
        "steps": recorder.steps,
        "frames": recorder.frames,
        "bytes": Path(out).stat().st_size,
        "accuracy_before": before,
        "accuracy_after": examiner.evaluate(splits.test).accuracy,
        "accuracy_of_integers": integers.evaluate(splits.test).accuracy,
        "seconds_training": seconds - recording,
        "seconds_recording": recording,
        **about,
    }
