"""Labelled inputs that an export is checked with, and their file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikelfp import nn
from spikelfp.errors import DataError, ShapeError, UserError
from spikelfp.files import write_whole
from spikelfp.options import setting
from spikelfp.terminal import first_line
from spikelfp.untrusted import load_arrays
from spikelfp.untrusted.text import MOST, Field

_LONGEST = 1 << 20  # steps that inputs without a mask may be shown for


@dataclass(frozen=True)
class SampleOptions:
    """Options of the samples that go with an export, and of the resolution of their inputs."""

    samples: int = setting(100, "test samples that go with it", within="[1, ∞)")
    input_scale: int | None = setting(
        None, "round inputs in [0, 1] to so many steps", automatic="the levels of the data", within="[1, ∞)"
    )


@dataclass(frozen=True, eq=False)
class ExportSamples:
    """Labelled inputs of one sequence length.

    Attributes:
        inputs: float32, ``[B, …]`` shown at each of ``steps`` steps, or, when not ``static``, ``[T, B, …]``.
        labels: classes, int64 ``[B]``.
        steps: number of steps ``T``.
        static: whether inputs are the same at every step.
        scale: ``σ`` such that ``inputs · σ`` should be integers, as far as the source tells; ``None`` where unknown.
        mask: boolean ``[T, B]``, the steps whose outputs tell the class (not the padding of shorter sequences, for
            instance); ``None`` for all of them.

    Raises:
        ShapeError: where the parts do not fit each other.
        UserError: for no sample, and inputs that are not finite.
    """

    inputs: Tensor
    labels: Tensor
    steps: int
    static: bool = True
    scale: int | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        batch_axis = 0 if self.static else 1
        if self.inputs.dim() <= batch_axis or len(self.labels) != self.inputs.shape[batch_axis]:
            raise ShapeError(f"{len(self.labels)} labels do not fit inputs of shape {tuple(self.inputs.shape)}")
        if len(self.labels) < 1:
            raise UserError("an export needs at least one sample to be checked with")
        if not self.static and len(self.inputs) != self.steps:
            raise ShapeError(f"the sequences have {len(self.inputs)} steps, expected {self.steps}")
        mask = self.mask
        if mask is not None and (mask.dtype != torch.bool or mask.shape != (self.steps, len(self.labels))):
            raise ShapeError(
                f"the mask of {len(self)} sequences of {self.steps} steps is {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not torch.isfinite(self.inputs).all():
            raise UserError("the samples hold NaN or infinity")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample at one step."""
        return tuple(self.inputs.shape[1 if self.static else 2 :])

    def __len__(self) -> int:
        return len(self.labels)

    def sequence(self) -> Tensor:
        """Return the inputs as a network takes them, ``[T, B, …]``."""
        return nn.constant(self.inputs, self.steps) if self.static else self.inputs

    def first(self, count: int) -> ExportSamples:
        """Return the first ``count`` samples, or all where there are fewer."""
        if count < 1:
            raise UserError(f"the number of samples must be at least 1, got {count}")
        inputs = self.inputs[:count] if self.static else self.inputs[:, :count]
        mask = None if self.mask is None else self.mask[:, :count]
        return replace(self, inputs=inputs, labels=self.labels[:count], mask=mask)

    def rounded(self, scale: int) -> ExportSamples:
        """Round the inputs to multiples of ``1 / scale``."""
        if scale < 1:
            raise UserError(f"the scale of the inputs must be a whole number of at least 1, got {scale}")
        return replace(self, inputs=(self.inputs * scale).round() / scale, scale=scale)

    def integers(self) -> ExportSamples | None:
        """Multiply the inputs by ``scale``, as whole numbers.

        Returns:
            The samples, or ``None`` where the products are no integers (to within rounding), or where inputs lie
            outside [0, 1], for which the bounds on integer sums are made.
        """
        if self.scale is None or self.inputs.min() < 0 or self.inputs.max() > 1:
            return None
        scaled = self.inputs * self.scale
        whole = scaled.round()
        if (scaled - whole).abs().max() > 1e-6 * self.scale:
            return None
        return replace(self, inputs=whole)


def save_samples(path: str | Path, samples: ExportSamples) -> None:
    """Write ``samples`` to an ``.npz`` file; inputs that are small integers take a byte each."""
    inputs = samples.inputs.numpy()
    for kind in (np.uint8, np.int8, np.int16):
        if np.array_equal(inputs, inputs.astype(kind)):
            inputs = inputs.astype(kind)
            break
    buffer = io.BytesIO()
    content: dict[str, Any] = {"inputs": inputs, "labels": samples.labels.numpy()}
    content |= {"steps": samples.steps, "static": samples.static}
    if samples.mask is not None:
        content["mask"] = samples.mask.numpy()
    np.savez_compressed(buffer, **content)
    write_whole(path, lambda file: file.write(buffer.getvalue()))


def load_samples(path: str | Path) -> ExportSamples:
    """Read a file of :func:`save_samples`.

    Raises:
        DataError: for a file that is missing or damaged, or arrays that are no samples, naming the fault.
    """
    if not Path(path).is_file():
        raise DataError(f"there are no samples at {path}")
    try:
        arrays = load_arrays(path)
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise DataError(f"{path} holds no readable samples: {first_line(error)}") from None
    field = Field(path, "", arrays, DataError)
    field.mapping(("inputs", "labels", "steps", "static"), ("inputs", "labels", "steps", "static", "mask"))
    inputs = _array(field.at("inputs"), (1, 10), "biuf")
    labels = _array(field.at("labels"), (1, 1), "iu")
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= MOST):
        field.at("labels").refuse("numbers of classes", "a number below 0 or beyond 64 bits in places")
    steps = Field(path, "steps", _array(field.at("steps"), (0, 0), "iu").item(), DataError).whole(1)
    static = bool(_array(field.at("static"), (0, 0), "b"))
    mask = torch.from_numpy(_array(field.at("mask"), (2, 2), "b")) if "mask" in arrays else None
    if static and mask is None and steps > _LONGEST:
        field.at("steps").refuse(f"at most {_LONGEST} steps")
    try:
        return ExportSamples(
            torch.from_numpy(inputs).float(), torch.from_numpy(labels.astype(np.int64)), steps, static, mask=mask
        )
    except UserError as error:
        raise DataError(f"{path} holds no readable samples: {first_line(error)}") from None


def _array(field: Field, axes: tuple[int, int], kinds: str) -> NDArray[Any]:
    """Check the dtype and the number of axes (fewest and most) of an array."""
    value = field.value
    if value.dtype.kind not in kinds or not value.dtype.isnative or not axes[0] <= value.ndim <= axes[1]:
        field.refuse(
            {"b": "true or false", "iu": "whole numbers"}.get(kinds, "numbers") + f" of {axes[0]} axes or more",
            f"{value.dtype} of shape {list(value.shape)}",
        )
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        field.refuse("finite numbers", "NaN or infinite in places")
    return value
