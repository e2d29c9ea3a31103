"""Event data by name: from its files, over the cache, to parts that hand out batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from spikelfp.data.dataset import DataSplits, datasets
from spikelfp.data.events import sources  # noqa: F401  (they register themselves)
from spikelfp.data.events.augmentation import Augmentation, check_augmentations
from spikelfp.data.events.cache.binned import binned
from spikelfp.data.events.dataset import EventDataset
from spikelfp.data.events.pipeline import Pipeline
from spikelfp.data.events.recordings import EventSplits, Recordings, load_recordings, recordings

ChoosePipeline = Callable[[Pipeline], Pipeline]
"""From the pipeline of a data set to the one that is wanted."""


def load_events(
    name: str,
    data_dir: str | Path | None = None,
    *,
    pipeline: Pipeline | ChoosePipeline | None = None,
    skip_bad: bool = False,
    sparse: bool = False,
    augmentations: Sequence[Augmentation] = (),
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = False,
    limit: int | str | None = None,
    in_memory: bool = False,
) -> DataSplits:
    """The event data set ``name`` (:func:`~spikelfp.data.events.load_recordings`) as sequences.

    skip_bad: leave out files and recordings that cannot be read, and list them in :attr:`DataSplits.skipped`. The other
    options are those of :func:`make_sequences`.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged or missing, and the first recording that is, unless ``skip_bad``.
        SaveError: when the cache folder cannot be written.
        UserError: for options that make no sense together or for the sensor.
    """
    return make_sequences(
        load_recordings(name, data_dir, skip_bad=skip_bad),
        pipeline=pipeline,
        skip_bad=skip_bad,
        sparse=sparse,
        augmentations=augmentations,
        cache_dir=cache_dir,
        workers=workers,
        progress=progress,
        limit=limit,
        in_memory=in_memory,
    )


def make_sequences(
    parts: EventSplits,
    *,
    pipeline: Pipeline | ChoosePipeline | None = None,
    skip_bad: bool = False,
    sparse: bool = False,
    augmentations: Sequence[Augmentation] = (),
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = False,
    limit: int | str | None = None,
    in_memory: bool = False,
) -> DataSplits:
    """The recordings of ``parts`` as sequences, from the cache or put there.

    Args:
        pipeline: how recordings become sequences; ``None``: as the data set has it, or a function of that.
        sparse: batches as sparse COO tensors, of what is not zero alone.
        augmentations: of the training part, anew in each epoch.
        skip_bad, cache_dir, workers, progress, limit, in_memory: of :func:`~spikelfp.data.events.cache.binned`.

    Raises:
        DataError: for the first recording that cannot be read, unless ``skip_bad``; when none of a part can be.
        SaveError: when the cache folder cannot be written.
        UserError: for options that make no sense together or for the sensor.
    """
    own = parts.pipeline
    chosen = own if pipeline is None else pipeline if isinstance(pipeline, Pipeline) else pipeline(own)
    check_augmentations(augmentations, chosen.sensor(parts.train.sensor))  # before hours of binning
    skipped, classes = list(parts.skipped), len(parts.train.class_names)

    def part(source: Recordings, changed_by: Sequence[Augmentation]) -> EventDataset:
        store = binned(
            source,
            chosen,
            cache_dir=cache_dir,
            skip_bad=skip_bad,
            workers=workers,
            progress=progress,
            limit=limit,
            in_memory=in_memory,
        )
        skipped.extend(reason for _, reason in store.skipped)
        return EventDataset(store, classes, sparse=sparse, augmentations=tuple(changed_by))

    train, test = part(parts.train, augmentations), part(parts.test, ())
    return DataSplits(
        name=parts.name,
        train=train,
        test=test,
        outputs=classes,
        shape=train.shape,
        names=parts.train.class_names,
        skipped=tuple(skipped),
    )


for each in recordings:
    datasets.register(each)(partial(load_events, each))
