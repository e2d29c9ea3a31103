"""Training runs on event data, through the functions of ``spikelfp train``."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.events.tasks import Options
from spikelfp.data import DataSplits
from spikelfp.training.config import RunConfig
from spikelfp.training.run import load_sequences, make_trainer

VALIDATION = 0.2
"""Share of the training recordings by which options are chosen."""
VALIDATION_SEED = 0

Result = dict[str, Any]


def load(options: Options) -> DataSplits:
    """Load the recordings that ``options`` name as binned sequences, without a validation part."""
    return load_sequences(config_of(options, 0))[0]


def config_of(options: Options, seed: int) -> RunConfig:
    """Make the configuration of the run that ``options`` describe."""
    return RunConfig(**options, seed=seed, device="cpu")


def run(splits: DataSplits, options: Options, seed: int, *, validate: bool) -> Result:
    """Train once on the ``splits`` of :func:`load`.

    With ``validate`` a part of the training recordings is left out and gives the accuracy; otherwise the network is
    trained on all of them and tested on the test recordings.
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
