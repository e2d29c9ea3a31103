"""Labelled arrays as torch data sets that return whole batches, plain or augmented, and the parts of a data set.

Training, test and, when held out, validation samples together are :class:`DataSplits`. Data sets that are known by name
are in :data:`datasets`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from spikelfp.data.loader import fetched, generator
from spikelfp.data.samples import Samples, TargetScale, hash_tensors
from spikelfp.errors import DataError, ShapeError, UserError
from spikelfp.registry import Registry


class Standardization(NamedTuple):
    """Mean and standard deviation of each channel's values, after scaling: ``x`` becomes ``(x − mean) / std``.

    Attributes:
        mean: of each channel.
        std: of each channel, above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def measured_standardization(part: ArrayDataset) -> Standardization:
    """Measure mean and standard deviation of each channel of images ``[N, C, …]``, after the scale, in float64.

    Args:
        part: the data; augmentation and standardisation are left out.

    Raises:
        DataError: for a channel that is the same everywhere.
    """
    count, total, squares = 0, 0.0, 0.0
    for images in part.images.split(4096):
        values = images.double().mul(part.scale).transpose(0, 1).flatten(1)
        count += values.shape[1]
        total, squares = total + values.sum(1), squares + (values**2).sum(1)
    mean = torch.as_tensor(total) / count
    std = (torch.as_tensor(squares) / count - mean**2).clamp(min=0).sqrt()
    if not bool((std > 0).all()):
        raise DataError(f"channel {int((std <= 0).nonzero()[0])} of the images is the same everywhere: leave it out")
    return Standardization(tuple(mean.tolist()), tuple(std.tolist()))


def check_labels(labels: Tensor, classes: int | None, what: str = "labels") -> None:
    """Check that labels name classes.

    Args:
        labels: int64 ``[N]``, or ``[N, T]`` of every step.
        classes: number of classes; ``None`` only refuses negative labels.
        what: start of the message; it can name a file.

    Raises:
        DataError: for the first label outside ``0 … classes − 1``.
    """
    bad = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    if bad.any():
        place = bad.nonzero()[0]
        valid = "0 or more" if classes is None else f"0 to {classes - 1}"
        step = f", step {int(place[1])}" if len(place) > 1 else ""
        raise DataError(f"{what}: label {int(labels[tuple(place)])} at index {int(place[0])}{step} is outside {valid}")


def kind_of(labels: object) -> str:
    """Guess the kind of targets (:data:`spikelfp.data.samples.KINDS`) by their dtype and shape."""
    if isinstance(labels, Tensor) and labels.is_floating_point():
        return "values"
    several = isinstance(labels, Tensor) and labels.dim() == 2 and labels.shape[1] > 1
    return "labels" if several else "classes"


def check_targets(labels: object, kind: str, classes: int | None, scale: TargetScale | None) -> None:
    """Check targets for their kind.

    Args:
        labels: the targets.
        kind: one of :data:`spikelfp.data.samples.KINDS`.
        classes: number of classes; ``None`` only refuses negative ones.
        scale: of standardised real targets.

    Raises:
        DataError: for targets or a scale that do not fit.
    """
    wanted = {
        "classes": (torch.int64, 1, "int64 tensor of shape [N]"),
        "values": (torch.float32, 2, "float32 tensor of shape [N, K]"),
        "labels": (torch.int64, 2, "int64 tensor of shape [N, K]"),
        "steps": (torch.int64, 2, "int64 tensor of shape [N, T]"),
    }
    if kind not in wanted:
        raise DataError(f"targets are {', '.join(wanted)}, got kind={kind!r}")
    dtype, axes, form = wanted[kind]
    if not isinstance(labels, Tensor) or labels.dtype != dtype or labels.dim() != axes:
        raise DataError(f"labels must be an {form}, got {_kind(labels)}".replace("an float", "a float"))
    if axes == 2 and labels.shape[1] == 0:
        raise DataError(f"targets of shape {list(labels.shape)} have no column")
    if kind in ("classes", "steps"):
        check_labels(labels, classes)
    elif classes is not None:
        raise DataError(f"classes={classes} are those of class numbers, and these targets are {kind}")
    if kind == "labels" and bool(((labels != 0) & (labels != 1)).any()):
        row = int(((labels != 0) & (labels != 1)).any(1).nonzero()[0])
        raise DataError(f"sets of labels are 0 or 1 for each label, sample {row} has {labels[row].tolist()}")
    if kind == "values" and not bool(torch.isfinite(labels).all()):
        row = int((~torch.isfinite(labels)).any(1).nonzero()[0])
        raise DataError(f"the targets of sample {row} hold NaN or infinity")
    if scale is None:
        return
    if kind != "values" or len(scale.mean) != labels.shape[1] or len(scale.std) != labels.shape[1]:
        raise DataError(
            f"a target scale of {len(scale.mean)} means and {len(scale.std)} deviations for {_kind(labels)}"
        )
    if not all(map(math.isfinite, (*scale.mean, *scale.std))) or min(scale.std) <= 0:
        raise DataError(f"a target scale has finite means and positive deviations, got {scale.mean} and {scale.std}")


@dataclass(frozen=True, eq=False)
class ArrayDataset(Samples):
    """``N`` samples held in memory, converted to float32 only when they are fetched.

    Attributes:
        images: ``[N, …]``, uint8 or floating point, at least one sample, all finite.
        labels: int64 ``[N]``, class of each sample; float32 ``[N, K]``, real values; int64 ``[N, K]`` of 0 or 1, sets
            of labels; or int64 ``[N, T]``, a class of every step (``kind="steps"``).
        scale: multiplied with the images when they are fetched, chosen so that the values lie in [0, 1] (1/255 for
            8-bit pixels).
        classes: number of classes that the labels are checked against; ``None`` only refuses negative labels.
        standardization: applied to the channels of images ``[N, C, …]`` after the scale; the values then lie around 0
            and no longer in [0, 1]. ``None`` leaves them.
        kind: of the targets (:data:`spikelfp.data.samples.KINDS`); empty: by the labels.
        target_scale: scale of standardised real targets; ``None``: they are in their own units.
        numbers: int64 ``[N]``, numbers of the samples in the data set that they were taken from; ``None``: 0 to ``N −
            1``.

    Raises:
        DataError: for wrong types or lengths, no samples, a label outside the classes, or a NaN or infinity; it names
            the first offending sample.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0
    classes: int | None = None
    standardization: Standardization | None = None
    kind: str = ""
    target_scale: TargetScale | None = None
    numbers: Tensor | None = field(default=None, repr=False)
    _hashed: tuple[tuple[int, int], str] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if not isinstance(images, Tensor) or not (images.is_floating_point() or images.dtype == torch.uint8):
            raise DataError(f"images must be a uint8 or floating point tensor, got {_kind(images)}")
        object.__setattr__(self, "kind", self.kind or kind_of(labels))
        check_targets(labels, self.kind, self.classes, self.target_scale)
        if images.ndim == 0 or len(images) == 0 or images.numel() == 0:
            raise DataError(f"images hold no sample: their shape is {list(images.shape)}")
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} labels: each image needs exactly one")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"scale must be positive and finite, got {self.scale}")
        if self.standardization is not None:
            _check_standardization(self.standardization, images)
        if images.is_floating_point():
            _check_finite(images)

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", {self.classes} classes"
        changed = "" if self.scale == 1 else f", scale={self.scale:.6g}"
        changed += "" if self.standardization is None else ", standardized"
        kind = str(self.images.dtype).removeprefix("torch.")
        targets = "" if self.kind == "classes" else f", {self.labels.shape[1]} {self.kind} each"
        return f"ArrayDataset({len(self)} samples of {self.shape}, {kind}{classes}{targets}{changed})"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Fetch sample ``index``: float32 ``[…]`` and int64 ``[]``."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Fetch the samples ``indices`` as one batch.

        torch's ``DataLoader`` calls this once a batch, and its default collation leaves it whole. The tensors are
        copies: changing them changes no data.

        Returns:
            float32 ``[B, …]`` and int64 ``[B]``, where ``B`` may be 0.
        """
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        return fetched(self.values(self.images[index]), self.labels[index.to(self.labels.device)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.images.shape[1:])

    @property
    def levels(self) -> int | None:
        """Number ``n`` of which all values are multiples of ``1/n``, as ``scale`` tells: 255 for 8-bit pixels."""
        levels = round(1 / self.scale)
        whole = abs(1 / self.scale - levels) < 1e-6 * levels
        return levels if whole and self.images.dtype == torch.uint8 and self.standardization is None else None

    def values(self, images: Tensor) -> Tensor:
        """Scale and standardise images of this data set's own kind.

        Args:
            images: ``[B, …]``.

        Returns:
            float32 ``(images · scale − mean) / std``.
        """
        if self.standardization is None:
            return images.to(torch.float32) * self.scale
        kind = torch.float64 if images.dtype == torch.float64 else torch.float32  # far from 0 a float32 is too coarse
        values = images.to(kind) * self.scale
        for_channels = (-1,) + (1,) * (images.ndim - 2)
        mean, std = (values.new_tensor(numbers).reshape(for_channels) for numbers in self.standardization)
        return values.sub_(mean).div_(std).to(torch.float32)

    def fingerprint(self) -> str:
        """Compute a digest of the samples, their scaling and their labels; anew after a tensor was changed."""
        state = (self.images._version, self.labels._version)
        if self._hashed is None or self._hashed[0] != state:
            scaled = [] if self.target_scale is None else [self.target_scale]
            own = hash_tensors("arrays", self.images, self.labels, self.scale, self.standardization, *scaled)
            object.__setattr__(self, "_hashed", (state, own))
        return self._hashed[1]  # type: ignore[index]

    def subset(self, indices: Tensor) -> ArrayDataset:
        """Take the samples ``indices`` (int64 ``[M]``), everything else unchanged."""
        numbers = self.numbers_at(indices)
        return replace(self, images=self.images[indices], labels=self.labels[indices], numbers=numbers)


@dataclass(frozen=True, eq=False)
class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Images that are flipped and shifted at random in every epoch, for training.

    The image is padded by ``padding`` black pixels on each side, cut back to its size at a place drawn from all
    ``(2 padding + 1)²`` with equal chance, then, with probability 1/2, mirrored left to right (He et al. 2016,
    arXiv:1512.03385, 4.2). The padding has the raw value 0, so it is black also after a standardisation.

    The change of sample ``i`` depends on ``(seed, epoch, i)`` only, not on its batch or on the process that fetches it.
    :func:`spikelfp.data.batches` sets both numbers by :meth:`at_epoch`; before that no sample can be fetched.

    Attributes:
        data: images ``[N, C, H, W]``.
        flip: ``False`` never mirrors (digits and letters change their meaning).
        padding: pixels of the largest shift, below ``H`` and ``W``; 0 never shifts.
        draws: int64 ``[N, 3]``, mirrored or not, row and column of the cut; ``None`` before :meth:`at_epoch`.

    Raises:
        ShapeError: for samples that are no images of channels.
        UserError: for a padding out of range, or event data.
    """

    data: Samples
    flip: bool = True
    padding: int = 4
    draws: Tensor | None = None

    def __post_init__(self) -> None:
        shape = list(self._images().images.shape)
        if len(shape) != 4:
            raise ShapeError(f"only images [N, C, H, W] can be flipped and shifted, these have shape {shape}")
        if not 0 <= self.padding < min(shape[2:]):
            raise UserError(
                f"padding must be 0 to {min(shape[2:]) - 1} for images of {shape[2]} x {shape[3]} pixels, "
                f"got {self.padding}"
            )

    def __repr__(self) -> str:
        return f"Augmented({self.data!r}, flip={self.flip}, padding={self.padding})"

    def __len__(self) -> int:
        return len(self.data)

    def at_epoch(self, seed: int, epoch: int) -> Augmented:
        """Draw the flips and shifts of an epoch.

        Args:
            seed: of the run.
            epoch: number of the epoch.
        """
        places = 2 * self.padding + 1
        # from a wide range, so that one draw a number serves every modulus without a bias worth the name
        wide = torch.randint(1 << 62, (len(self), 3), generator=generator("augment", seed, epoch))
        return replace(self, draws=wide % torch.tensor([2 if self.flip else 1, places, places]))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Fetch sample ``index``: float32 ``[C, H, W]`` and int64 ``[]``."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Fetch the samples ``indices`` as one batch.

        Returns:
            float32 ``[B, C, H, W]`` and int64 ``[B]``, where ``B`` may be 0.

        Raises:
            UserError: when no epoch is set.
        """
        if self.draws is None:
            raise UserError("augmented images belong to an epoch: take them from data.batches or from at_epoch")
        data = self._images()
        images, labels = data.images, data.labels
        index = torch.as_tensor(indices, dtype=torch.int64)
        mirrored, row, column = self.draws[index].to(images.device).unbind(1)
        index = index.to(images.device)
        moved = _shift(images[index], row, column, self.padding)
        moved = torch.where(mirrored.bool()[:, None, None, None], moved.flip(3), moved)
        return fetched(data.values(moved), labels[index.to(labels.device)])

    def _images(self) -> ArrayDataset:
        if not isinstance(self.data, ArrayDataset):
            raise UserError("only images in memory are flipped and shifted; event data has augmentations of its own")
        return self.data


def _shift(images: Tensor, row: Tensor, column: Tensor, padding: int) -> Tensor:
    """``images`` ``[B, C, H, W]`` padded with 0 and cut to their size from ``(row, column)`` on, each int64 ``[B]``."""
    height, width = images.shape[2:]
    cuts = pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view [B, C, rows, columns, H, W]
    return cuts[torch.arange(len(images), device=images.device), :, row, column]


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {list(value.shape)}"
    return type(value).__name__


def _check_standardization(standardization: Standardization, images: Tensor) -> None:
    mean, std = standardization
    channels = images.shape[1] if images.ndim > 1 else 0
    if len(mean) != channels or len(std) != channels:
        raise DataError(
            f"standardisation by {len(mean)} means and {len(std)} deviations, but images of shape "
            f"{list(images.shape)} have {channels} channels"
        )
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise DataError(f"standardisation needs finite means and positive deviations, got {mean} and {std}")


def _check_finite(images: Tensor) -> None:
    bad = ~torch.isfinite(images).reshape(len(images), -1).all(dim=1)
    if bad.any():
        first = int(bad.nonzero()[0, 0])
        raise DataError(f"sample {first} holds NaN or infinity ({int(bad.sum())} of {len(images)} samples do)")


_OUTPUTS = {"classes": "class", "values": "value", "labels": "label", "steps": "class"}


@dataclass(frozen=True, eq=False)
class DataSplits:
    """Parts of one data set, and what a model has to know about them.

    Attributes:
        name: by which it is loaded.
        train: training samples, without those of ``validation``.
        test: test samples.
        outputs: of a network for it: the number of classes, of real values, or of labels.
        shape: of one sample without the batch, such as ``(1, 28, 28)``; of event data, of one step.
        names: one for each output: of classes by label, of real values by what they measure.
        validation: samples held out of the training part by :meth:`with_validation`, else ``None``.
        statistics: published mean and deviation of each channel over the training images, where there are any.
        skipped: samples that were left out because they could not be read, each with the reason.
        notes: lines about what was divided, moved or left out otherwise.

    Raises:
        DataError: when the parts do not fit ``shape``, ``outputs`` or each other.
    """

    name: str
    train: Samples
    test: Samples
    outputs: int
    shape: tuple[int, ...]
    names: tuple[str, ...]
    validation: Samples | None = None
    statistics: Standardization | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        what = _OUTPUTS[self.kind]
        if len(self.names) != self.outputs:
            raise DataError(f"{self.name}: {self.outputs} {self.kind} but {len(self.names)} {what} names")
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        for part, data in parts.items():
            if data is None:
                continue
            if data.shape != self.shape:
                raise DataError(f"{self.name} {part}: samples of shape {data.shape}, expected {self.shape}")
            if data.kind != self.kind or data.target_scale != self.target_scale:
                raise DataError(
                    f"{self.name} {part}: targets are {data.kind} of scale {data.target_scale}, those of train "
                    f"{self.kind} of scale {self.target_scale}"
                )
            if self.kind in ("classes", "steps"):
                check_labels(data.labels, self.outputs, f"{self.name} {part}")
            elif data.labels.shape[1:] != (self.outputs,):
                raise DataError(
                    f"{self.name} {part}: targets of shape {list(data.labels.shape)}, expected [N, {self.outputs}]"
                )

    @property
    def kind(self) -> str:
        """Kind of the targets, one of :data:`spikelfp.data.samples.KINDS`."""
        return self.train.kind

    @property
    def target_scale(self) -> TargetScale | None:
        """Scale of standardised real targets; ``None``: they are in their own units."""
        return self.train.target_scale

    @property
    def classes(self) -> int:
        """Number of classes; every label is in ``0 … classes − 1``.

        Raises:
            UserError: for targets that are no classes.
        """
        if self.kind not in ("classes", "steps"):
            raise UserError(f"the targets of {self.name} are {self.kind}, and there are no classes: ask for outputs")
        return self.outputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label.

        Raises:
            UserError: for targets that are no classes.
        """
        if self.kind not in ("classes", "steps"):
            raise UserError(f"the targets of {self.name} are {self.kind}, and there are no classes: ask for names")
        return self.names

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:4]) + (", …" if self.outputs > 4 else "")
        what = "classes" if self.kind == "classes" else f"{_OUTPUTS[self.kind]}s"
        lines = [f"DataSplits({self.name!r}, samples of {self.shape}, {self.outputs} {what}: {shown}"]
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        lines += [f"  {part + ':':<12}{data!r}" for part, data in parts.items() if data is not None]
        lines += [f"  skipped:    {len(self.skipped)} that could not be read"] if self.skipped else []
        return "\n".join(lines) + ")"

    def with_validation(self, fraction: float, seed: int) -> DataSplits:
        """Hold out a part of the training samples for validation, stratified by class.

        Of each class with ``n`` training samples, ``round(fraction · n)`` are held out, never all of them; where
        samples have no class, of all together. The choice depends on ``seed`` only; both parts keep the original order.
        Validation samples are not augmented.

        Samples that belong to a group (slices of one recording, recordings of one session) are held out with the whole
        group: groups are gone through in an order of chance, and one is held out if that brings the classes nearer to
        ``fraction · n`` and leaves samples of each of its classes for training.

        Args:
            fraction: of the training samples; 0 holds out nothing.
            seed: of the choice.

        Raises:
            UserError: for a fraction outside [0, 1), one too small to hold out a single sample, or a data set that has
                a validation part already.
        """
        if not 0 <= fraction < 1:
            raise UserError(f"validation fraction must be at least 0 and below 1, got {fraction}")
        if self.validation is not None:
            raise UserError(f"{self.name} has a validation part of {len(self.validation)} samples already")
        if fraction == 0:
            return self
        if self.train.groups is not None:
            return self._held_out(self._held_out_groups(self.train.groups, fraction, seed))

        random = generator("validation", seed)
        held_out = torch.zeros(len(self.train), dtype=torch.bool)
        by_class = self.kind == "classes"
        groups = self.train.labels if by_class else torch.zeros(len(self.train), dtype=torch.int64)
        for label in range(self.outputs if by_class else 1):
            members = (groups == label).nonzero()[:, 0]
            count = min(round(fraction * len(members)), len(members) - 1)
            if count > 0:
                held_out[members[torch.randperm(len(members), generator=random)[:count]]] = True
        if not held_out.any():
            raise UserError(
                f"validation fraction {fraction} of {self.name} holds out no sample{' of any class' * by_class}: "
                f"{'the largest has' if by_class else 'there are'} {int(groups.bincount().max())} training samples"
            )
        return self._held_out(held_out)

    def _held_out(self, chosen: Tensor) -> DataSplits:
        """Move the ``chosen`` (bool ``[N]``) samples from the training to the validation part."""
        return replace(
            self,
            train=self.train.subset((~chosen).nonzero()[:, 0]),
            validation=self.train.plain().subset(chosen.nonzero()[:, 0]),
        )

    def _held_out_groups(self, groups: Tensor, fraction: float, seed: int) -> Tensor:
        """Choose whole groups of samples, as :meth:`with_validation` says: bool ``[N]``."""
        labels = self.train.labels if self.kind == "classes" else torch.zeros(len(self.train), dtype=torch.int64)
        names, members = groups.unique(return_inverse=True)
        counts = torch.zeros(len(names), int(labels.max()) + 1, dtype=torch.int64)
        counts.index_put_((members, labels), torch.ones_like(labels), accumulate=True)
        total = counts.sum(0)
        wanted, held = (fraction * total).round(), torch.zeros_like(total)
        chosen = torch.zeros(len(names), dtype=torch.bool)
        for number in torch.randperm(len(names), generator=generator("validation", seed)).tolist():
            own = counts[number]
            nearer = (wanted - held - own).abs().sum() < (wanted - held).abs().sum()
            if bool(nearer) and bool((total - held - own)[own > 0].min() > 0):
                chosen[number] = True
                held += own
        if not chosen.any():
            smallest = int(counts.sum(1).min()) / len(groups)
            raise UserError(
                f"validation fraction {fraction} of {self.name} holds out no sample: its training part consists of "
                f"{len(names)} recordings or sessions that stay whole, the smallest {smallest:.0%} of all samples; "
                "record more of each class, or choose another fraction"
            )
        return chosen[members]

    def standardized(self, by: Standardization | None = None) -> DataSplits:
        """Standardise each channel in every part: ``(x − mean) / std``.

        Encodings of values in [0, 1] (rate, latency) do not take such inputs.

        Args:
            by: mean and deviation; ``None``: :attr:`statistics`, else those of the training part.

        Raises:
            UserError: for event data.
            DataError: for numbers that do not fit the channels, and a channel that is the same everywhere.
        """
        chosen = self.statistics if by is None else by
        if chosen is None and isinstance(self.train, ArrayDataset):
            chosen = measured_standardization(self.train)

        def standardize(part: Samples) -> ArrayDataset:
            if not isinstance(part, ArrayDataset):
                raise UserError(f"{self.name} is event data, whose values are counts and not to be standardised")
            return replace(part, standardization=chosen)

        held_out = self.validation
        return replace(
            self,
            train=standardize(self.train),
            test=standardize(self.test),
            validation=None if held_out is None else standardize(held_out),
        )


Loader = Callable[..., DataSplits]


class DataSets(Registry[Loader]):
    """Registry of loaders ``load(data_dir, *, options…) -> DataSplits``; :func:`spikelfp.data.load` finds them.

    A loader that is registered with ``by_path=True`` is called ``kind:path``, and given the ``path``.
    """

    def key(self, name: str) -> str:
        kind, _, path = name.partition(":")
        return kind if path and self._facts.get(kind, {}).get("by_path") else name

    def __getitem__(self, name: str) -> Loader:
        key = self.key(name)
        return super().__getitem__(name) if key == name else partial(self._entries[key], path=name[len(key) + 1 :])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.key(name) in self._entries


datasets = DataSets("data set", takes=("data_dir", "path", "skip_bad", "sparse", "workers", "progress", "in_memory"))
"""Loader functions by name; register one to make it known."""
