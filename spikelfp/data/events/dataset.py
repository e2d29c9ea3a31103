"""Event data sets by name as a torch data set of whole batches, time first, made by way of the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from spikelfp.data.dataset import DataSplits, check_labels, datasets
from spikelfp.data.events.augmentation import Augmentation, augmented, check_augmentations
from spikelfp.data.events.batching import PackedFrames, Parcel, Written, write_out
from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.cache.builder import binned
from spikelfp.data.events.cache.store import Store, checksum
from spikelfp.data.events.recordings import EventSplits, Recordings, load_recordings, recordings
from spikelfp.data.samples import Samples, hash_tensors
from spikelfp.data.sequences import Frames, Sequences, fetched


@dataclass(frozen=True, eq=False)
class EventDataset(Samples):
    """``N`` recordings as sequences, written out only when they are fetched.

    The ``DataLoader``'s worker processes map the same files: a pickled data set of the cache is the name of its folder.

    Attributes:
        store: the binned recordings.
        classes: number of classes that the labels are checked against; ``None`` only refuses negative labels.
        rows: int64 ``[N]``, the sequence of the store that each sample is; ``None``: all, in their order.
        sparse: batches as sparse COO tensors, of what is not zero alone.
        augmentations: what happens to the samples anew in each epoch (:mod:`spikelfp.data.events.augmentation`). It
            depends on ``(seed, epoch)`` and the number of the recording alone, and happens only in an epoch:
            :func:`spikelfp.data.batches` sets it by :meth:`at_epoch`; otherwise samples are as they were recorded.
        epoch: seed and epoch of the augmentations, or ``None``.
        labels: int64 ``[N]``, the class of each sample.

    Raises:
        DataError: for a label outside the classes.
        UserError: for augmentations that do not fit each other or the sensor.
    """

    store: Store
    classes: int | None = None
    rows: NDArray[np.int64] | None = field(default=None, repr=False)
    sparse: bool = False
    augmentations: tuple[Augmentation, ...] = ()
    epoch: tuple[int, int] | None = None
    labels: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = self._rows()
        object.__setattr__(self, "labels", torch.from_numpy(self.store.labels[rows]))
        check_labels(self.labels, self.classes)
        object.__setattr__(self, "augmentations", check_augmentations(self.augmentations, self.store.sensor))

    def __repr__(self) -> str:
        steps = self.store.steps[self._rows()]
        length = f"{steps.min()} to {steps.max()} steps" if len(steps) else "no steps"
        classes = "" if self.classes is None else f", {self.classes} classes"
        told = f", levels={self.levels}" + (", sparse" if self.sparse else "")
        told += f", augmentations={self.augmentations}" if self.augmentations else ""
        return f"EventDataset({len(self)} recordings of {length} of {self.shape}{classes}{told})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one step: ``(P, H, W)``, or ``(N,)`` for a line of channels."""
        return self.store.sensor.shape

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return int(self.store.steps[self._rows()].max(initial=1))

    @property
    def levels(self) -> int:
        """The number that all values are whole multiples of one over."""
        return self.store.levels

    def fingerprint(self) -> str:
        """Hash the binned recordings and their labels; of large arrays evenly spaced blocks."""
        store, rows = self.store, self._rows()
        arrays = {name: getattr(store, name) for name in ("places", "offsets", "steps", "labels")}
        if store.levels > 1:
            arrays["counts"] = store.counts
        content = {name: (str(array.dtype), checksum(np.ascontiguousarray(array))) for name, array in arrays.items()}
        return hash_tensors("events", str(store.sensor), store.levels, content, torch.from_numpy(rows.copy()))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample ``index`` as (float32 ``[T, …]``, int64 ``[]``)."""
        frames, rows = self._chosen(np.array([index]))
        values = write_out(frames, rows, self._how).values.select(1, 0)
        return values if self.sparse else values.as_subclass(Frames), self.labels[index]  # torch has no sparse subclass

    def __getitems__(self, indices: Sequence[int]) -> tuple[Sequences, Tensor]:
        """The samples ``indices`` as one batch, ``B`` may be 0: sequences float32 ``[T, B, …]`` with values in [0, 1],
        ``T`` the steps of the longest, and labels int64 ``[B]``.

        Raises:
            DataError: for a cache whose content was damaged after it was opened.
        """
        index = np.asarray(indices, dtype=np.int64)
        frames, rows = self._chosen(index)
        batch: Any  # to a worker's loader, which hands it on, a parcel is as good as the sequences that come out of it
        loader = get_worker_info()
        if loader is not None and loader.dataset is self:
            batch = Parcel(frames, rows, self._how)
        else:
            batch = write_out(frames, rows, self._how)
        return fetched(batch, self.labels[torch.from_numpy(index)])

    def _chosen(self, index: NDArray[np.int64]) -> tuple[PackedFrames, NDArray[np.int64]]:
        """Sequences, and which of them are the samples ``index`` ``[B]`` in this epoch."""
        store, rows = self.store, self._rows()[index]
        frames = PackedFrames(store.places, store.counts, store.offsets, store.steps)
        if not self.augmentations or self.epoch is None:
            return frames, rows
        changed = augmented(
            *frames, rows, sensor=store.sensor, levels=store.levels, augmentations=self.augmentations,
            seed=self.epoch[0], epoch=self.epoch[1], indices=store.kept[rows],
        )  # fmt: skip
        return changed, np.arange(len(rows))

    @property
    def _how(self) -> Written:
        return Written(self.store.sensor, self.store.levels, self.sparse)

    def at_epoch(self, seed: int, epoch: int) -> EventDataset:
        """The same with the augmentations of ``epoch``."""
        return replace(self, epoch=(seed, epoch)) if self.augmentations else self

    def plain(self) -> EventDataset:
        """The same samples without augmentation."""
        return replace(self, augmentations=(), epoch=None)

    def subset(self, indices: Tensor) -> EventDataset:
        """A data set of the samples ``indices`` (int64 ``[M]``), the same in everything else."""
        return replace(self, rows=self._rows()[indices.cpu().numpy()])

    def numbers_at(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self._rows()[indices.cpu().numpy()])

    def _rows(self) -> NDArray[np.int64]:
        return self.store.all_rows if self.rows is None else self.rows


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
        skip_bad, cache_dir, workers, progress, limit, in_memory: of :func:`~spikelfp.data.events.cache.builder`.

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
