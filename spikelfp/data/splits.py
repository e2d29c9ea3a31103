"""A data set with its parts: training, test and, when held out, validation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from spikelfp.data.dataset import ArrayDataset, Standardization, check_labels
from spikelfp.data.samples import Samples, TargetScale
from spikelfp.data.seeding import generator
from spikelfp.errors import DataError, UserError

_OUTPUTS = {"classes": "class", "values": "value", "labels": "label", "steps": "class"}


@dataclass(frozen=True, eq=False)
class DataSplits:
    """The parts of one data set and what a model has to know about them.

    Attributes:
        name: the name it is loaded by.
        train, test: the original parts; ``train`` lacks what ``validation`` holds.
        outputs: of a network for it: the number of classes, of real values, or of labels.
        shape: shape of one sample without the batch, such as ``(1, 28, 28)``; of event data, of one step.
        names: one for each output: of classes by label, of real values what they measure.
        validation: samples held out of the training part by :meth:`with_validation`, else ``None``.
        statistics: published mean and deviation of each channel over the training images, where there are any.
        skipped: samples that were left out because they could not be read, each with the reason.

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
        """How real targets were standardised; ``None``: they are in their own units."""
        return self.train.target_scale

    @property
    def classes(self) -> int:
        """Number of classes; every label is in ``0 .. classes-1``.

        Raises:
            UserError: for targets that are no classes.
        """
        if self.kind not in ("classes", "steps"):
            raise UserError(f"the targets of {self.name} are {self.kind}, and there are no classes: ask for outputs")
        return self.outputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for each class, by label.

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
        """The same data with a part of the training samples held out for validation, of classes a stratified one.

        Of each class with ``n`` training samples, ``round(fraction * n)`` are held out, never all of them; of all
        samples together where they have no class.
        Which ones depends on ``seed`` alone; both parts keep the original order. What is held out is not
        augmented. ``fraction=0`` holds out nothing.

        Raises:
            UserError: for a fraction outside [0, 1), one too small to hold out a single sample, or a data set
                that has a validation part already.
        """
        if not 0 <= fraction < 1:
            raise UserError(f"validation fraction must be at least 0 and below 1, got {fraction}")
        if self.validation is not None:
            raise UserError(f"{self.name} has a validation part of {len(self.validation)} samples already")
        if fraction == 0:
            return self

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
        return replace(
            self,
            train=self.train.subset((~held_out).nonzero()[:, 0]),
            validation=self.train.plain().subset(held_out.nonzero()[:, 0]),
        )

    def standardized(self, by: Standardization | None = None) -> DataSplits:
        """The same data, each channel as ``(x - mean) / std``, in every part; ``by=None`` takes :attr:`statistics`.

        Encodings of values in [0, 1] (rate, latency) do not take such inputs.

        Raises:
            UserError: when neither ``by`` nor the data set says what the mean and the deviation are, and for event
                data.
            DataError: for numbers that do not fit the channels.
        """
        chosen = self.statistics if by is None else by
        if chosen is None and isinstance(self.train, ArrayDataset):
            raise UserError(
                f"no mean and deviation of {self.name} are known to standardise by: hand in a Standardization"
            )

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
