"""Event data sets by name: recordings binned by way of the cache, as torch data sets of whole batches, time first."""

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
from spikelfp.data.events.batching import BatchForm, PackedFrames, WorkerBatch, write_batch
from spikelfp.data.events.binning import Pipeline
from spikelfp.data.events.cache import Store, binned
from spikelfp.data.events.cache.store import checksum
from spikelfp.data.events.event import FileLayout, Sensor
from spikelfp.data.events.recordings import EventSplits, Recordings, load_recordings, recordings
from spikelfp.data.events.slicing import Slicing, sliced
from spikelfp.data.loader import Frames, Sequences, fetched
from spikelfp.data.samples import Samples, hash_tensors
from spikelfp.errors import UserError
from spikelfp.terminal import brief


@dataclass(frozen=True, eq=False)
class EventDataset(Samples):
    """Data set of ``N`` recordings as sequences, which are written only when they are fetched.

    The worker processes of a ``DataLoader`` map the same files: pickled, the store is the name of its folder.

    Attributes:
        store: the binned recordings.
        classes: number of classes that the labels are checked against; ``None`` only refuses negative labels.
        rows: int64 ``[N]``, the sequence of the store for each sample; ``None``: all, in their order.
        sparse: whether batches are sparse COO tensors.
        augmentations: random changes of the samples, new in each epoch (:mod:`spikelfp.data.events.augmentation`). They
            depend on ``(seed, epoch)`` and the number of the recording alone.
        epoch: seed and epoch of the augmentations, which :func:`spikelfp.data.batches` sets by :meth:`at_epoch`;
            ``None``: samples are as they were recorded.
        recording_groups: int64, the group of each recording of the source, slices of one recording for example;
            ``None``: each stands for itself.
        labels: int64 ``[N]``, the class of each sample.
        groups: int64 ``[N]``, the group of each sample, or ``None``.

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
    recording_groups: NDArray[np.int64] | None = field(default=None, repr=False)
    labels: Tensor = field(init=False, repr=False)
    groups: Tensor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = self._rows()
        object.__setattr__(self, "labels", torch.from_numpy(self.store.labels[rows]))
        check_labels(self.labels, self.classes)
        own = self.recording_groups
        object.__setattr__(self, "groups", None if own is None else torch.from_numpy(own[self.store.kept[rows]]))
        if self.augmentations:
            object.__setattr__(self, "augmentations", check_augmentations(self.augmentations, self.store.sensor))

    def __repr__(self) -> str:
        steps = self.store.steps[self._rows()]
        length = f"{steps.min()} to {steps.max()} steps" if len(steps) else "no steps"
        classes = "" if self.classes is None else f", {self.classes} classes"
        options = f", levels={self.levels}" + (", sparse" if self.sparse else "")
        options += f", augmentations={self.augmentations}" if self.augmentations else ""
        return f"EventDataset({len(self)} recordings of {length} of {self.shape}{classes}{options})"

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
        """Number ``n`` for which all values are whole multiples of ``1 / n``."""
        return self.store.levels

    def fingerprint(self) -> str:
        """Hash of the binned recordings and their labels; large arrays by evenly spaced blocks."""
        store, rows = self.store, self._rows()
        arrays = {name: getattr(store, name) for name in ("places", "offsets", "steps", "labels")}
        if store.levels > 1:
            arrays["counts"] = store.counts
        content = {name: (str(array.dtype), checksum(np.ascontiguousarray(array))) for name, array in arrays.items()}
        return hash_tensors("events", str(store.sensor), store.levels, content, torch.from_numpy(rows.copy()))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample ``index`` as (float32 ``[T, …]``, int64 ``[]``)."""
        frames, rows = self._chosen(np.array([index]))
        values = write_batch(frames, rows, self._form).values.select(1, 0)
        return values if self.sparse else values.as_subclass(Frames), self.labels[index]  # torch has no sparse subclass

    def __getitems__(self, indices: Sequence[int]) -> tuple[Sequences, Tensor]:
        """Fetch one batch.

        Args:
            indices: numbers of ``B`` samples; ``B`` may be 0.

        Returns:
            Sequences float32 ``[T, B, …]`` with values in [0, 1], ``T`` the steps of the longest, and labels int64
            ``[B]``.

        Raises:
            DataError: for a cache whose content was damaged after it was opened.
        """
        index = np.asarray(indices, dtype=np.int64)
        frames, rows = self._chosen(index)
        batch: Any  # a worker hands a WorkerBatch on, out of which the sequences come
        worker = get_worker_info()
        if worker is not None and worker.dataset is self:
            batch = WorkerBatch(frames, rows, self._form)
        else:
            batch = write_batch(frames, rows, self._form)
        return fetched(batch, self.labels[torch.from_numpy(index)])

    def _chosen(self, index: NDArray[np.int64]) -> tuple[PackedFrames, NDArray[np.int64]]:
        """Sequences, and the number among them of each sample ``index`` ``[B]`` in this epoch."""
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
    def _form(self) -> BatchForm:
        return BatchForm(self.store.sensor, self.store.levels, self.sparse)

    def at_epoch(self, seed: int, epoch: int) -> EventDataset:
        """This data set with the augmentations of ``epoch``."""
        return replace(self, epoch=(seed, epoch)) if self.augmentations else self

    def plain(self) -> EventDataset:
        """This data set without augmentation."""
        return replace(self, augmentations=(), epoch=None)

    def subset(self, indices: Tensor) -> EventDataset:
        """Data set of the samples ``indices`` (int64 ``[M]``) alone."""
        return replace(self, rows=self._rows()[indices.cpu().numpy()])

    def numbers_at(self, indices: Tensor) -> Tensor:
        return torch.from_numpy(self._rows()[indices.cpu().numpy()])

    def _rows(self) -> NDArray[np.int64]:
        return self.store.all_rows if self.rows is None else self.rows


def load_events(
    name: str | EventSplits,
    data_dir: str | Path | None = None,
    *,
    pipeline: Pipeline | Callable[[Pipeline], Pipeline] | None = None,
    skip_bad: bool = False,
    sensor: Sensor | None = None,
    layout: FileLayout | None = None,
    sparse: bool = False,
    augmentations: Sequence[Augmentation] = (),
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = False,
    limit: int | str | None = None,
    in_memory: bool = False,
    slicing: Slicing | None = None,
    **options: Any,
) -> DataSplits:
    """Load event data as sequences, from the cache if they have been binned before.

    Args:
        name: of a data set, as :func:`~spikelfp.data.events.load_recordings` takes it; or its recordings.
        data_dir: folder of the data sets, of a name.
        pipeline: from events to sequences; a function changes the pipeline of the data set; ``None`` takes that.
        skip_bad: leave out files and recordings that cannot be read, and list them in :attr:`DataSplits.skipped`.
        sensor, layout: of files of one's own that do not state theirs, of a name.
        sparse: hand out batches as sparse COO tensors.
        augmentations: of the training part, new in each epoch.
        slicing: cuts long recordings into slices, each of which is a sample.
        **options: of the data set, as :func:`~spikelfp.data.events.load_recordings` takes them.
        cache_dir, workers, progress, limit, in_memory: as :func:`~spikelfp.data.events.cache.binned` takes them.

    Returns:
        The training and test parts.

    Raises:
        UnknownNameError: for a name that is not registered.
        DataError: for files that are damaged or missing, and for the first recording that cannot be read, unless
            ``skip_bad``; when no recording of a part can be read.
        SaveError: when the cache folder cannot be written.
        UserError: for options that do not fit each other or the sensor.
    """
    splits = (
        name
        if isinstance(name, EventSplits)
        else load_recordings(name, data_dir, skip_bad=skip_bad, sensor=sensor, layout=layout, **options)
    )
    splits = sliced(splits, slicing, skip_bad=skip_bad)
    chosen = splits.pipeline if pipeline is None else pipeline
    if not isinstance(chosen, Pipeline):
        made = chosen(splits.pipeline) if callable(chosen) else chosen
        if not isinstance(made, Pipeline):
            raise UserError(f"pipeline is a Pipeline, or a function that gives one, got {brief(made)}")
        chosen = made
    if augmentations:
        check_augmentations(augmentations, chosen.sensor(splits.train.sensor))  # before hours of binning
    skipped, notes, classes = list(splits.skipped), list(splits.notes), len(splits.train.class_names)

    def part(name: str, source: Recordings, changed_by: Sequence[Augmentation]) -> EventDataset:
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
        notes.extend(f"{name}: {line}" for line in store.told)
        groups = source.groups
        return EventDataset(store, classes, sparse=sparse, augmentations=tuple(changed_by), recording_groups=groups)

    train, test = part("train", splits.train, augmentations), part("test", splits.test, ())
    return DataSplits(
        name=splits.name,
        train=train,
        test=test,
        outputs=classes,
        shape=train.shape,
        names=splits.train.class_names,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


for each in recordings:
    datasets.register(each)(partial(load_events, each))
