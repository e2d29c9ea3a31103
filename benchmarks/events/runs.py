"""One training run on event data, through the same functions as ``spikelfp train``."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.events.tasks import Options
from spikelfp.data import DataSplits
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_sequences, make_trainer

VALIDATION = 0.2
"""Share of the training recordings that options are chosen by."""
VALIDATION_SEED = 0

Result = dict[str, Any]


def load(options: Options) -> DataSplits:
    """The recordings that ``options`` name as sequences, binned as they say; the training part whole."""
    return load_sequences(config_of(options, 0))[0]


def config_of(options: Options, seed: int) -> RunConfig:
    """The run that ``options`` describe."""
    return RunConfig(**options, seed=seed, device="cpu")


def run(splits: DataSplits, options: Options, seed: int, *, validate: bool) -> Result:
    """Train on the ``splits`` of :func:`load`, once.

    ``validate``: without the validation part of the training recordings, and judged by it. Otherwise with all of them,
    and judged by the test recordings.
    """
    config = config_of(options, seed)
    if validate:
        splits = splits.with_validation(VALIDATION, VALIDATION_SEED)
    config = config.resolved(len(splits.train), splits.train.levels)
    torch.manual_seed(seed)
    trainer = make_trainer(config.build(splits.shape, splits.classes), config)
    start = time.perf_counter()
    history = trainer.fit(splits.train, config.training.epochs or 1)
    seconds = time.perf_counter() - start
    judged = splits.test if splits.validation is None else splits.validation
    return {
        "accuracy": trainer.evaluate(judged).accuracy,
        "train_accuracy": history[-1]["train_accuracy"],
        "seconds": seconds,
    }
