"""The options of a run that are about event data: from a :class:`RunConfig` to its sequences, and back."""

from __future__ import annotations

from dataclasses import replace

from spikelfp.data import DataSplits, load_events
from spikelfp.data.events import Binning, Pipeline, load_recordings
from spikelfp.data.events.augmentation import parse_augmentations
from spikelfp.data.events.transforms import parse_transforms, transforms_text
from spikelfp.errors import UserError
from spikelfp.training.config import RunConfig

NONE = "none"
"""What ``--transforms`` says to leave out those that a data set has by itself."""


def load_sequences(config: RunConfig, progress: bool = False) -> tuple[DataSplits, RunConfig]:
    """The event data of a configuration, and the configuration with all that the data set chose written out.

    progress: show a bar while recordings that are not in the cache are binned.

    Raises:
        UserError: for what cannot be read or written
            (:func:`~spikelfp.data.load_events`).
    """
    parts = load_recordings(config.data.name, config.run.data_dir, skip_bad=config.events.skip_bad)
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
    return splits, described(config, pipeline)


def pipeline_of(config: RunConfig, own: Pipeline) -> Pipeline:
    """How recordings become sequences as ``config`` says; what it leaves open is as the data set's ``own``.

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


def described(config: RunConfig, pipeline: Pipeline) -> RunConfig:
    """``config`` with the ``pipeline`` written out, so that :func:`pipeline_of` gives just that again."""
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
